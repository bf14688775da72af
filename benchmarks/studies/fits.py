"""How often intervals of `rialto sim fit` hold what is true and its check is right: logs of known worlds.

Each log is a CSV file that a world has left (tests/sim/fitting_logs.py), read and fitted as a shop's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.studies.blocks import write_block
from sim.fitting.fit import Fit, fit
from sim.fitting.predictive import check_fit
from sim.fitting.reading import read_log
from sim.fitting.season import WEEKDAYS
from sim.worlds.world import World
from tests.sim.fitting_logs import APART, WORLD, Row, in_utc, mapping, rows_of, write_log

PAGE = Path(__file__).parents[2] / "docs" / "fitting.md"
SMALL = replace(WORLD, customers_per_day=60)
KIND, ORDER, AMOUNT = 1, 5, 7
"""Places in a row of a log."""
ODD = replace(
    APART,
    season=replace(APART.season, weekday_conversion=(1, 1, 1, 1, 1, 0.75, 1.25)),
)


@dataclass(frozen=True, slots=True)
class Held:
    """One parameter: how often its interval held the truth, over runs."""

    name: str
    held: int
    runs: int


@dataclass(frozen=True, slots=True)
class Alarms:
    """Logs of one kind: how many the check called bad, and the figures it named most often."""

    kind: str
    bad: int
    runs: int
    named: tuple[str, ...]


def truth_of(world: World) -> dict[str, float]:
    """The parameters of a world under their names in a fit."""
    true = {"seeing": world.session.seeing, "order_value_cv": world.order_value_cv}
    true["refunded_part[1]"] = world.refunded_part.weights[-1]
    for segment in world.segments:
        for name in ("share", "conversion", "refund", "repeat"):
            true[f"{name}[{segment.key}]"] = getattr(segment, name)
        reaction = world.effects[1].reaction_of(segment.key)
        for name in ("appeal", "pressure", "regret"):
            true[f"{name}[{world.effects[1].variant}/{segment.key}]"] = getattr(reaction, name)
    season = world.season
    true["customers_per_day"] = world.customers_per_day * float(np.mean(season.weekday_traffic))
    for name, week in (("traffic", season.weekday_traffic), ("conversion", season.weekday_conversion)):
        for day, factor in zip(WEEKDAYS, week, strict=True):
            true[f"weekday_{name}[{day}]"] = factor / float(np.mean(week))
    return true


def coverage(world: World, *, runs: int, seed: int) -> list[Held]:
    """How often the intervals of each parameter hold it."""
    true = truth_of(world)
    held = dict.fromkeys(true, 0)
    for _, found in _fits(world, runs, seed):
        for name, value in true.items():
            one = found.found.estimates[name]
            assert one.low is not None
            assert one.high is not None
            held[name] += one.low <= value <= one.high
    return [Held(name, count, runs) for name, count in held.items()]


def alarms(kind: str, *, runs: int, seed: int, replications: int = 100) -> Alarms:
    """How often the check calls logs of this kind bad."""
    names: dict[str, int] = {}
    bad = 0
    for run, found in _fits(SMALL, runs, seed, KINDS[kind]):
        called = check_fit(found, replications=replications, seed=run).bad
        bad += bool(called)
        for one in called:
            names[one.name] = names.get(one.name, 0) + 1
    most = sorted(names, key=lambda name: -names[name])[:3]
    return Alarms(kind, bad, runs, tuple(most))


def _fits(
    world: World,
    runs: int,
    seed: int,
    change: Callable[[list[Row], np.random.Generator], list[Row]] | None = None,
) -> Iterator[tuple[int, Fit]]:
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs):
            rows = rows_of(world, seed + run)
            if change is not None:
                rows = change(rows, np.random.default_rng([seed, run]))
            path = write_log(Path(folder) / "log.csv", rows)
            yield run, fit(read_log(path, mapping()), mapping(), seed=run)


def heavy_tails(rows: list[Row], rng: np.random.Generator) -> list[Row]:
    """Orders times exp(0.6 t), t of 3 degrees of freedom."""
    factors: dict[str, float] = {}

    def changed(row: Row) -> Row:
        if not row[ORDER]:
            return row
        factor = float(np.exp(np.clip(0.6 * rng.standard_t(3), -6, 6)))
        return _times(row, factors.setdefault(row[ORDER], factor))  # a refund is of the same order

    return [changed(row) for row in rows]


def weekend_refunds(rows: list[Row], rng: np.random.Generator) -> list[Row]:
    """Of the refunds of orders from Monday to Friday one in three comes; those of weekends all do."""
    weekday = {row[ORDER]: in_utc(row[0]).weekday() for row in rows if row[KIND] == "order"}
    return [row for row in rows if row[KIND] != "refund" or weekday[row[ORDER]] > 4 or rng.random() < 1 / 3]


def rows_twice(rows: list[Row], rng: np.random.Generator) -> list[Row]:
    """One order in twenty stands there again under another number."""
    again = [row for row in rows if row[KIND] == "order" and rng.random() < 0.05]
    return [*rows, *((*row[:ORDER], f"{row[ORDER]}-twice", *row[ORDER + 1 :]) for row in again)]


def two_shops(rows: list[Row], rng: np.random.Generator) -> list[Row]:
    """A fifth of the customers order eight times as much, and no column says who."""
    large: dict[str, bool] = {}

    def changed(row: Row) -> Row:
        is_large = large.setdefault(row[2], bool(rng.random() < 0.2))
        return _times(row, 8.0) if is_large and row[ORDER] else row

    return [changed(row) for row in rows]


def _times(row: Row, factor: float) -> Row:
    money = (f"{float(cell) * factor:.2f}" for cell in row[AMOUNT : AMOUNT + 2])
    return (*row[:AMOUNT], *money)


def right(rows: list[Row], rng: np.random.Generator) -> list[Row]:
    """A log as its world has left it."""
    del rng
    return rows


KINDS: dict[str, Callable[[list[Row], np.random.Generator], list[Row]]] = {
    "the world's own": right,
    "order values with heavy tails": heavy_tails,
    "weekends refunded three times as often": weekend_refunds,
    "one order in twenty twice": rows_twice,
    "a fifth orders eight times as much": two_shops,
}


def text(held: list[Held], found: list[Alarms]) -> str:
    """The measured part of the page."""
    total, runs = sum(one.held for one in held), held[0].runs
    least = min(held, key=lambda one: one.held)
    odd = [one for one in held if one.name in ("weekday_conversion[sat]", "weekday_conversion[sun]")]
    days = " and ".join(f"{one.held / one.runs:.1%}" for one in odd)
    customers = round(WORLD.customers_per_day * 42 / 100) * 100
    lines = [
        f"In {runs} fits of logs of a known world ({customers:,} customers in six weeks; two segments that "
        "react apart, refunds of a part, Saturdays that convert at three quarters of the usual and Sundays "
        f"at five), {total / runs / len(held):.1%} of {runs * len(held):,} intervals of 95 % held the truth; "
        f"of the parameter held least often (`{least.name}`) {least.held / runs:.1%}, of the conversion of "
        f"the two odd days {days}.",
        "",
        "| logs of half as many customers | called bad | of them | 95 % limits | figures named most |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        limits = stats.binomtest(one.bad, one.runs).proportion_ci()
        named = ", ".join(f"`{name}`" for name in one.named)
        share = f"{one.bad / one.runs:.1%} | {limits.low:.1%} to {limits.high:.1%}"
        lines.append(f"| {one.kind} | {one.bad} of {one.runs} | {share} | {named} |")
    return "\n".join(lines)


def fits(*, runs: int, seed: int) -> None:
    """Run all, and write the measured part of docs/fitting.md; of planted misfits a quarter as many."""
    held = coverage(ODD, runs=runs, seed=seed)
    found = [
        alarms(kind, runs=runs if kind == "the world's own" else max(1, runs // 4), seed=seed)
        for kind in KINDS
    ]
    write_block(PAGE, "measured", text(held, found))
