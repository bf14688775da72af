"""The results as a page: goals first, then what was measured of each part, then on what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import sections
from benchmarks.figures import Figure, figures
from benchmarks.results import Results
from benchmarks.sections import one_line

INTRODUCTION = """# Benchmarks

`make bench` measures all of this and writes this page; `make bench ARGS="assign events"` measures those
parts again and leaves the others as they were (`results.json`). It needs `wrk`; a PostgreSQL server and
Node.js for what is measured on them.

One process serves a ledger with `synchronous=FULL` and, beside it, a typed Litestar handler that does
nothing (`/nothing`, an application of its own without key, ledger or counters). `wrk` drives both from the
same machine over 64 kept-alive connections. A round is the path between two runs of nothing, and its
*ratio* is the path's rate over the mean of those two: neighbours in time share the machine's mood, so
ratios travel between machines and days, rates do not. *CPU ratio* is CPU of the server process (user and
system) a request of nothing costs over what an item of the path costs. Shown are medians of the rounds, and
the least and the most.

Nothing is left out to be fast: ten variants, an audience of three conditions, a variant out of stock and
one already in the cart, a browser's key with its origin and a rate limiter that is asked. Nothing gets a
smaller body than assign does and gives a smaller answer. The folder and the allocator run meanwhile; a run
of nothing begins when nothing waits to be folded. Every answer is looked at: what is not a decision
(`fallback`, `overloaded`, `stale`) or is refused (503) is counted apart and enters no rate. After each part
the ledger's rows are equal to what was acknowledged, to the row.
"""

SECTIONS = (
    ("assign", "Decisions, SQLite", sections.paths),
    ("events", "Events, SQLite", sections.paths),
    ("postgres", "Decisions and events, PostgreSQL (synchronous_commit on)", sections.paths),
    ("assign", "A lone caller, SQLite", sections.lone),
    ("latency", "Latency at half of saturation", sections.latency),
    ("folding", "Folding", sections.folding),
    ("growth", "Growth", sections.growth),
    ("memory", "Memory", sections.memory),
    ("reports", "Reports", sections.reports),
    ("analysis", "The read-out", sections.analysis),
    ("allocation", "Allocation", sections.allocation),
    ("contextual", "Decisions by context", sections.contextual),
    ("simulation", "Simulated decisions", sections.simulation),
    ("whole_year", "A simulated year", sections.whole_year),
    ("off_policy", "Off-policy evaluation", sections.off_policy),
    ("peers", "Peers, side by side", sections.peers),
)


def write_page(file: Path, results: Results) -> str:
    """Write the page and return it."""
    found = figures(results)
    lines = [INTRODUCTION, "## Goals", *_goals(found)]
    for part, title, rows in SECTIONS:
        lines += _section(results.get(part), title, rows)
    lines += _short_ones(found, results)
    lines += _conditions(results)
    text = "\n".join(lines).rstrip() + "\n"
    file.write_text(text, "utf-8")
    return text


def _goals(found: list[Figure]) -> list[str]:
    rows = ["", "| figure | goal | median | least to most | CPU ratio | |", "|---|---|---|---|---|---|"]
    for figure in found:
        goal = figure.goal
        bound = f"≥ {goal.at_least:g}" if goal.at_least is not None else f"≤ {goal.at_most:g}{goal.unit}"
        if not figure.values:
            rows.append(f"| {goal.label} | {bound} | – | – | – | not measured: {one_line(figure.missing)} |")
            continue
        cpu = "–" if figure.cpu_ratio is None else f"{figure.cpu_ratio:.2f}"
        spread = f"{number(min(figure.values))} to {number(max(figure.values))}"
        state = "reached" if figure.is_reached else "**falls short**"
        value = f"{number(figure.value)}{goal.unit}"
        rows.append(f"| {goal.label} | {bound} | {value} | {spread} | {cpu} | {state} |")
    return rows


def _section(found: dict[str, Any] | None, title: str, rows: Callable[[Any], list[str]]) -> list[str]:
    if found is None:
        return []
    if "failed" in found:
        return ["", f"## {title}", "", f"Not measured: {found['failed']}"]
    return ["", f"## {title}", "", *rows(found["data"])]


def _short_ones(found: list[Figure], results: Results) -> list[str]:
    """What falls short, each with where the process's CPU goes."""
    short = [figure for figure in found if figure.values and not figure.is_reached]
    if not short:
        return []
    rows = ["", "## What falls short", ""]
    rows += [f"- {f.goal.label}: {number(f.value)}{f.goal.unit}." for f in short]
    profiles = results.get("profile", {}).get("data", {})
    for name in dict.fromkeys(f.goal.profile for f in short if f.goal.profile):
        profile = profiles.get(name)
        if profile is None or "failed" in profile:
            continue
        where = ", ".join(f"{package} {100 * share:.0f} %" for package, share in profile["packages"])
        rows += ["", f"Profile of {name} ({profile['samples']:,} samples of running threads): {where}.", ""]
        rows += ["| function | share of CPU alone |", "|---|---|"]
        rows += [f"| `{function}` | {100 * share:.1f} % |" for function, share in profile["self"]]
    return rows


def _conditions(results: Results) -> list[str]:
    if not results:
        return []
    newest = max(results.values(), key=lambda found: found["at"])
    machine, versions = newest["machine"], newest["versions"]
    rows = [
        "",
        "## Measured on",
        "",
        f"{machine['processor']}, {machine['memory']}, {machine['system']}, {machine['disk']}; generator, "
        "server and database on the same cores.",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        "| part | when (UTC) | commit | rounds | load before | took s |",
        "|---|---|---|---|---|---|",
    ]
    for part, found in results.items():
        rows.append(
            f"| {part} | {found['at']} | {found['commit']} | {found['rounds']} of {found['round_s']:g} s "
            f"| {found['machine']['load']} | {found['seconds']} |"
        )
    return rows


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.2f}"
