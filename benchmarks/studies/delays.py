"""The study behind docs/delay-and-drift.md: delay model, discounting and drift alarm against the truth."""

import sys
from pathlib import Path

import numpy as np

from benchmarks.studies.alarms import Shop, alarms
from benchmarks.studies.late import (
    AFTER_DRIFT,
    AS_THEY_ARE,
    DISCOUNTED,
    MATURED,
    MODEL,
    FloatArray,
    Reader,
    World,
    regrets,
    stationary,
    swapping,
)

PAGE = Path(__file__).parents[2] / "docs" / "delay-and-drift.md"
MARK = "<!-- measured: written by `make studies`, do not edit below -->"
LATE = World(stationary(30), delay_days=2.0)
AT_ONCE = World(stationary(30))
CHANGING = World(swapping(60, 20))
STEADY = World(stationary(60, 4, 0.14))
COST_RUNS = 10
"""So many times the replications for a cost that may be nothing: it is to be known to 1 % of the regret."""


def delays(runs: int, seed: int) -> None:
    """Run, and write the measured half of the page."""
    parts = [
        MARK,
        f"Seed {seed}. Standard errors are of the paired difference: the same seeds whoever reads.",
        "",
        "### Late orders",
        "Chapelle and Li's arms (one of ten converts 10 %, the others 8 %), 1,000 units a day for 30 days,",
        "shares once a day; orders come after an exponential delay of 2 days, window 7 days.",
        f"{runs} replications.",
        "",
        *_table(LATE, MODEL, [AS_THEY_ARE, MATURED], runs, seed),
        "### The same without delay",
        "What the model costs where there is nothing to correct, beside plain Thompson sampling;",
        *_without_delay(COST_RUNS * runs, seed),
        "### Rates that change",
        "Four arms; the best converts 14 %, the others 8 %, and every 20 days another one is best; 60 days.",
        "Outcomes come at once, so `open windows as they are` is plain Thompson sampling.",
        "",
        *_table(CHANGING, AFTER_DRIFT, [AS_THEY_ARE, DISCOUNTED], max(2, runs // 2), seed),
        "### The same without change",
        "What discounting costs where nothing drifts.",
        "",
        *_table(STEADY, AFTER_DRIFT, [AS_THEY_ARE, DISCOUNTED], max(2, runs // 2), seed),
        "### The alarm",
        *_alarms(runs, seed),
    ]
    text = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    PAGE.write_text(text + "\n".join(parts) + "\n", encoding="utf-8")


def gain(world: World, reader: Reader, other: Reader, *, runs: int, seed: int) -> tuple[float, float, float]:
    """Orders the reader gains on the other per run, the standard error, and the gain in orders of it."""
    ours, possible = regrets(world, reader, runs=runs, seed=seed)
    theirs, _ = regrets(world, other, runs=runs, seed=seed)
    return _difference(ours, theirs, possible)


def _difference(ours: FloatArray, theirs: FloatArray, possible: FloatArray) -> tuple[float, float, float]:
    gained = theirs - ours
    error = float(gained.std(ddof=1)) / np.sqrt(len(gained))
    return float(gained.mean()), float(error), float(gained.mean() / (possible - theirs).mean())


def _table(world: World, reader: Reader, others: list[Reader], runs: int, seed: int) -> list[str]:
    ours, possible = regrets(world, reader, runs=runs, seed=seed)
    compared = [(other, regrets(world, other, runs=runs, seed=seed)[0]) for other in others]
    return _rows(reader, ours, compared, possible)


def _without_delay(runs: int, seed: int) -> list[str]:
    ours, possible = regrets(AT_ONCE, MODEL, runs=runs, seed=seed)
    theirs, _ = regrets(AT_ONCE, AS_THEY_ARE, runs=runs, seed=seed)
    return without_delay(ours, theirs, possible)


def without_delay(ours: FloatArray, theirs: FloatArray, possible: FloatArray) -> list[str]:
    """What the model costs without need, and how well that is known, each (runs,)."""
    gained, error, _ = _difference(ours, theirs, possible)
    most = max(0.0, 1.96 * error - gained) / theirs.mean()
    return [
        f"{len(ours):,} replications. The standard error of the difference is {error:.1f} orders, "
        f"{error / theirs.mean():.1%} of what is",
        f"forgone; with 97.5 % confidence the model adds less than {most:.1%} to it.",
        "",
        *_rows(MODEL, ours, [(AS_THEY_ARE, theirs)], possible),
    ]


def _rows(
    reader: Reader, ours: FloatArray, compared: list[tuple[Reader, FloatArray]], possible: FloatArray
) -> list[str]:
    lines = [
        f"| reads | forgone of {possible.mean():,.0f} orders | first gains | standard errors | of orders |",
        "|---|---:|---:|---:|---:|",
        f"| {reader.name} | {ours.mean():.0f} | | | |",
    ]
    for other, theirs in compared:
        gained, error, part = _difference(ours, theirs, possible)
        errors = f"{gained / error:+.1f}" if error else "equal"
        lines.append(f"| {other.name} | {theirs.mean():.0f} | {gained:+.0f} | {errors} | {part:+.1%} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def _alarms(runs: int, seed: int) -> list[str]:
    steady = alarms(Shop(), runs=3 * runs, seed=seed)
    false = sum(day is not None for day in steady)
    moved = alarms(Shop(after=(0.065, 0.0715, 0.078), changes=50), runs=runs, seed=seed)
    turned = alarms(Shop(after=(0.05, 0.07, 0.06), changes=50), runs=runs, seed=seed)
    print(false, moved[:5], turned[:5], file=sys.stderr, flush=True)
    return [
        "Three variants at 5, 5.5 and 6 %, 3,000 units a day, Sundays half as much again, shares drawn anew",
        f"each week (at least a tenth each). Without drift {false} of {len(steady)} shops",
        f"({false / len(steady):.1%}) saw an alarm in 90 daily looks. From day 50 on:",
        "",
        "| what changes | seen within 7 days | within 14 | ever (54 days) |",
        "|---|---:|---:|---:|",
        *(_row(name, found) for name, found in (("all rates 30 % up", moved), ("a from 5.5 to 7 %", turned))),
    ]


def _row(name: str, found: list[int | None]) -> str:
    after = [float("inf") if day is None else day - 50 for day in found]
    shares = [sum(0 <= day < limit for day in after) / len(after) for limit in (7, 14, 54)]
    return f"| {name} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"
