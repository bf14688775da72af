"""The calibration report: Markdown with a chart for each part, and the figures as JSON, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sim.calibration.part import Part, Promise, State, paragraph
from sim.calibration.results import Made, Results, dump

INTRODUCTION = (
    "Written by `rialto calibrate` (in a checkout also by `make studies ARGS=calibration`). Every part "
    "simulates worlds in which the truth is known, reads them as the service would, and counts how often "
    "what it said is right. The same code, seed and number of runs give the same figures; the file of the "
    "same name that ends in `.json` has all of them."
)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a report stands: the page, and beside it the figures and the charts, named after it."""

    page: Path

    @classmethod
    def of(cls, output: Path) -> Places:
        """A page that is named, or `calibration.md` in a folder."""
        return cls(output if output.suffix == ".md" else output / "calibration.md")

    @property
    def figures(self) -> Path:
        """The JSON."""
        return self.page.with_suffix(".json")

    def chart(self, part: Part) -> Path:
        """The SVG of a part."""
        return self.page.with_name(f"{self.page.stem}-{part.key}.svg")


def write(results: Results, parts: Mapping[str, Part], places: Places) -> None:
    """Write page, figures and charts; each replaces the one before as a whole."""
    places.page.parent.mkdir(parents=True, exist_ok=True)
    for part in parts.values():
        if rows := results.rows(part):
            _replace(places.chart(part), part.chart(rows))
    _replace(places.figures, dump(results))
    _replace(places.page, text(results, parts, places))


def _replace(path: Path, content: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(content, "utf-8")
    beside.replace(path)


def text(results: Results, parts: Mapping[str, Part], places: Places) -> str:
    """The page."""
    lines = ["# Calibration: what the intervals promise and what they hold", "", paragraph(INTRODUCTION), ""]
    lines += ["## What is held", "", *_held(promises(results, parts)), ""]
    if missing := _missing(results, parts):
        lines += ["**Not measured**, so that nothing is said of it here:", "", *missing, ""]
    lines += ["## How it was measured", "", *_made(results, parts), ""]
    for part in parts.values():
        if rows := results.rows(part):
            lines += [f"## {part.title}", ""]
            lines += [paragraph(part.before), ""] if part.before else []
            lines += [f"![{part.title}]({places.chart(part).name})", "", part.text(rows), ""]
            lines += [paragraph(part.after), ""] if part.after else []
    return "\n".join(lines)


def promises(results: Results, parts: Mapping[str, Part]) -> list[Promise]:
    """Of every part that was measured; what fewer runs held than it is judged by, they held so far."""
    found: list[Promise] = []
    for part in parts.values():
        measured = results.parts.get(part.key, {})
        for promise in part.promises(results.rows(part)) if measured else []:
            about = measured.values() if promise.world is None else [measured[promise.world]]
            is_early = promise.state is State.HELD and any(one.made.runs < part.runs for one in about)
            found.append(replace(promise, state=State.SO_FAR) if is_early else promise)
    return found


def _held(found: Sequence[Promise]) -> list[str]:
    counts = ", ".join(
        f"{sum(promise.state is state for promise in found)} {state}"
        for state in State
        if any(promise.state is state for promise in found)
    )
    lines = [f"Of {len(found)} lines: {counts}." if found else "None of the parts below promises anything."]
    if found:
        lines += ["", "| line | found | |", "|---|---:|---|"]
        lines += [f"| {promise.what} | {promise.found} | {_marked(promise.state)} |" for promise in found]
    return lines


def _marked(state: State) -> str:
    return state.value if state in (State.HELD, State.SO_FAR) else f"**{state}**"


def _missing(results: Results, parts: Mapping[str, Part]) -> list[str]:
    lines: list[str] = []
    for part in parts.values():
        found = results.parts.get(part.key, {})
        absent = [world for world in part.worlds if world not in found]
        if absent:
            lines.append(f"- {part.title}: " + ("all of it" if not found else "; ".join(absent)))
    return lines


def _made(results: Results, parts: Mapping[str, Part]) -> list[str]:
    """A row for each way in which worlds of a part were made: one, unless the report grew by and by."""
    lines = [
        "| part | `rialto calibrate` | runs of each world | seed | version | commit |",
        "|---|---|---:|---:|---|---|",
    ]
    for part in parts.values():
        groups: dict[Made, list[str]] = {}
        for world, found in results.parts.get(part.key, {}).items():
            groups.setdefault(found.made, []).append(world)
        for made, worlds in groups.items():
            which = f": {'; '.join(worlds)}" if len(groups) > 1 else ""
            runs = f"{made.runs:,}" + (f" (in full {part.runs:,})" if made.runs < part.runs else "")
            code = f"{made.seed} | {made.version} | {made.commit}"
            lines.append(f"| {part.title}{which} | `{part.key}` | {runs} | {code} |")
    return lines
