"""An evaluation as one page of HTML, of the same frame as that of a simulated run (`sim.report`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.off_policy.estimators import Estimate
from experiments.off_policy.overlap import Overlap, Severity
from sim.calibration.provenance import commit, rialto_version
from sim.ope.figures import actions_figure, estimates_figure, weights_figure
from sim.ope.run import Outcome
from sim.ope.show import HEADINGS, cells_of, figures_of, named, verdict_of
from sim.ope.slates import SlateOutcome
from sim.report.document import document, grid, section
from sim.report.markup import Html, element, joined
from sim.report.tables import folded, table

TOLD_FIRST = ("sndr", "dr", "snips", "ips", "joint", "dm")
"""The estimate of the headline is the first of these that has an interval."""
ADVICE = (
    "sndr and dr are right where either the propensities or the model are; snips trusts the propensities "
    "alone, dm the model alone. Where those differ by more than their errors, one of the two is wrong."
)
ADVICE_ON_SLATES = (
    "joint supposes nothing and varies most; interaction supposes that the first offer earns the same "
    "whatever stands second, independent and pseudoinverse that no offer changes what the other adds. Where "
    "they differ from joint by more than its error, that does not hold."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was given, for the settings of the page."""

    log: Path
    mapping: Path
    settings: Sequence[tuple[str, str]]


def write_page(outcome: Outcome | SlateOutcome, asked: Asked, path: Path) -> None:
    """Write the report of an evaluation; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(outcome, asked), encoding="utf-8", newline="\n")


def page_of(outcome: Outcome | SlateOutcome, asked: Asked) -> str:
    """The whole document; the same evaluation gives the same bytes."""
    title = f"What {outcome.candidate.name} would have earned"
    return document(title, _opening(title, outcome, asked), *_sections(outcome, asked))


def _opening(title: str, outcome: Outcome | SlateOutcome, asked: Asked) -> Html:
    seen = outcome.overlap
    size = f"{asked.log.name} · {outcome.rows:,} rows of {seen.units:,} units · {outcome.trained}"
    told = _headline(outcome)
    parts = [
        element("h1", title),
        element("p", size, class_="size"),
        element("p", _sentence(outcome, told), class_="sentence"),
        element("p", "".join(verdict_of(seen, "below")), class_="alarm" if seen.refused else None),
        element("ul", *(_tile(*one) for one in _tiles(outcome, told)), class_="tiles"),
    ]
    return element("header", *parts)


def _headline(outcome: Outcome | SlateOutcome) -> Estimate | None:
    by_name = {one.estimator: one for one in outcome.estimates if one.ci_low is not None}
    return next((by_name[name] for name in TOLD_FIRST if name in by_name), None)


def _sentence(outcome: Outcome | SlateOutcome, told: Estimate | None) -> str:
    per = "slate" if isinstance(outcome, SlateOutcome) else "decision"
    own = f"the log's own policy earned {_short(outcome.logged.value)}"
    if told is None:
        return f"What it would have earned cannot be told from this log; {own} a {per}."
    return (
        f"By {told.estimator} it would have earned {_short(told.value)} a {per} ({_interval(told)}); {own}."
    )


def _tiles(outcome: Outcome | SlateOutcome, told: Estimate | None) -> list[tuple[str, str, str]]:
    seen, own = outcome.overlap, outcome.logged
    tiles: list[tuple[str, str, str]] = []
    if told is not None:
        tiles.append((_short(told.value), f"by {told.estimator}", _interval(told)))
    tiles.append((_short(own.value), "the log's own policy", _interval(own)))
    if seen.ess is not None and seen.mean_weight is not None and seen.max_weight is not None:
        tiles.append((f"{seen.ess:,.1f}", "rows it is worth", f"of {seen.rows:,}"))
        tiles.append((f"{seen.mean_weight:.4g}", "mean weight", "1 where propensities are true"))
        tiles.append((f"{seen.max_weight:,.4g}", "largest weight", f"least propensity {_least(seen)}"))
    return tiles


def _least(seen: Overlap) -> str:
    return "–" if seen.least_propensity is None else f"{seen.least_propensity:.3g}"


def _interval(one: Estimate) -> str:
    return "no interval" if one.ci_low is None else f"{_short(one.ci_low)} to {_short(one.ci_high)}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _tile(figure: str, name: str, note: str) -> Html:
    parts = element("strong", figure), element("span", name), element("small", note)
    return element("li", *parts, class_="tile")


def _sections(outcome: Outcome | SlateOutcome, asked: Asked) -> list[Html]:
    rows = [_note_second(cells_of(one)) for one in (outcome.logged, *outcome.estimates)]
    advice = ADVICE_ON_SLATES if isinstance(outcome, SlateOutcome) else ADVICE
    figures = [figure for figure in (estimates_figure(outcome), weights_figure(outcome.weights)) if figure]
    figures += actions_figure(outcome)
    return [
        section(
            "Estimates",
            table(_note_second(HEADINGS), rows, left=2),
            element("p", advice, class_="note"),
            grid(*figures),
        ),
        section("Whether the log can tell", element("p", figures_of(outcome.overlap)), _findings(outcome)),
        section("Settings", _settings(asked)),
    ]


def _note_second(cells: Sequence[str]) -> list[str]:
    """The note beside the name, so that figures stand on the right."""
    return [cells[0], cells[-1], *cells[1:-1]]


def _findings(outcome: Outcome | SlateOutcome) -> Html:
    found = outcome.overlap.findings
    if not found:
        return element("p", "Nothing was found against it.", class_="note")
    items = [
        element(
            "li",
            element("b", one.severity.value, class_="alarm" if one.severity is Severity.REFUSE else None),
            f": {one.text}{named(one, outcome)}",
        )
        for one in found
    ]
    return element("ul", *items)


def _settings(asked: Asked) -> Html:
    rows = [("log", str(asked.log)), ("mapping", str(asked.mapping)), *asked.settings]
    rows += [("rialto", rialto_version()), ("commit", commit())]
    mapping = element("pre", asked.mapping.read_text("utf-8"), tabindex=0)
    return joined([table(["setting", "value"], rows, left=2), folded("The mapping", mapping)])
