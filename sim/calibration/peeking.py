"""False alarms of whoever looks 200 times: of credible intervals, and of confidence sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.analysis.aipw import increments
from experiments.analysis.inverse import by_shares
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.report import Sequential
from experiments.analysis.sequential_lifts import lift_of_increments, lift_of_sums
from experiments.analysis.strata import Table
from experiments.analysis.sums import WEIGHT_ONE, PairSums
from experiments.model import PolicyKind
from sim.calibration.chart import NARROW, line_chart
from sim.calibration.looking import (
    ARMS,
    METRICS,
    Allocate,
    Looks,
    Shop,
    evenly,
    experiment_of,
    simulate,
    thompson,
)
from sim.calibration.part import Part, Promise, Rows, Step, at_most, flat, nothing, paragraph

LOOKS = 200
TOLD = range(10, LOOKS + 1, 10)
SCREEN = 2.5
"""Standard errors below which no sequence can alarm: their half-width is never less than 3.04."""


@dataclass(frozen=True, slots=True)
class World:
    """Where nothing is different: a shop, what is looked at there, and how many units come between looks."""

    shop: Shop
    metrics: Sequence[str]
    batch: int = 500
    is_bandit: bool = False


WORLDS = {
    "10 % buy": World(Shop(0.10), ["conversion_rate"]),
    "3 % buy": World(Shop(0.03), ["conversion_rate", "revenue_per_unit"]),
    "3 % buy, heavy tail": World(Shop(0.03, sigma=1.6), ["revenue_per_unit"]),
    "all buy, CV 1": World(Shop(1.0), ["revenue_per_unit"]),
    "30 % buy, several orders": World(Shop(0.30, more_orders=0.5), ["aov"]),
    "buyers rise from 5 to 15 %": World(Shop(0.10, rising=True), ["conversion_rate"]),
    "Thompson, 10 % buy": World(Shop(0.10, more_orders=0.5), METRICS, 250, is_bandit=True),
    "Thompson, buyers rise from 5 to 15 %": World(Shop(0.10, rising=True), METRICS[:1], 250, is_bandit=True),
}


@dataclass(frozen=True, slots=True)
class Row:
    """Shares of the lifts with at least one false alarm, and how wide the sequence is in the end."""

    world: str
    metric: str
    lifts: int
    credible: float
    sequential: float
    multiple: float  # half-width of the sequence over the standard error at the last look, median
    credible_by: tuple[float, ...]  # the first two again, after each look of `TOLD`
    sequential_by: tuple[float, ...]


def peeking(
    name: str, world: World, *, runs: int, seed: int, looks: int = LOOKS, step: Step = nothing
) -> list[Row]:
    """Simulate a world and look after every batch; a row for each metric."""
    keys = ARMS if world.is_bandit else ARMS[:2]
    experiment = experiment_of(keys, PolicyKind.THOMPSON if world.is_bandit else PolicyKind.FIXED)
    definitions = [metric_definitions(experiment)[metric] for metric in world.metrics]
    watched: dict[str, list[_Watched]] = {metric: [] for metric in world.metrics}
    for run_no in range(runs):
        rng = np.random.default_rng([seed, run_no])
        allocate: Allocate = thompson(2, experiment) if world.is_bandit else evenly(keys)
        found = simulate(world.shop, looks, world.batch, rng, allocate, metrics=world.metrics)
        for definition in definitions:
            watched[definition.key] += [
                _watch(found, definition, key, is_bandit=world.is_bandit) for key in keys[1:]
            ]
        step()
    return [
        Row(
            name,
            metric,
            len(lifts),
            _by(lifts, looks)[0],
            _by(lifts, looks)[1],
            float(np.median([one.multiple for one in lifts])),
            tuple(_by(lifts, look)[0] for look in TOLD),
            tuple(_by(lifts, look)[1] for look in TOLD),
        )
        for metric, lifts in watched.items()
    ]


@dataclass(frozen=True, slots=True)
class _Watched:
    """One lift, looked at to the end: the number of the first look with a false alarm, infinite if none."""

    credible: float
    sequential: float
    multiple: float


def _by(lifts: Sequence[_Watched], look: int) -> tuple[float, float]:
    """Shares of the lifts with a false alarm up to that look."""
    return (
        float(np.mean([one.credible <= look for one in lifts])),
        float(np.mean([one.sequential <= look for one in lifts])),
    )


def table_of(looks: Looks, definition: MetricDefinition, last: int) -> Table:
    """The read-out's table after a look: sums by arm and epoch."""
    sums: dict[tuple[str, int, int], PairSums] = {}
    units: dict[tuple[int, int], float] = {}
    epochs = np.asarray(looks.epoch[: last + 1])
    batches = looks.sums[definition.key][: last + 1]
    for epoch in np.unique(epochs).tolist():
        rows = batches[epochs == epoch].sum(axis=0).tolist()
        units[1, epoch] = float(sum(row[0] for row in rows))
        for key, row in zip(ARMS, rows, strict=True):
            n, x, y, xx, xy, yy = (WEIGHT_ONE * value for value in row)
            if n:
                sums[key, 1, epoch] = PairSums(n, x, y, xx, xy, yy, definition.scale)
    keys = frozenset(looks.shares[0])
    return Table(definition, sums, {1: keys}, units, {1: tuple(units)}, keys, {})


def sequence_at(looks: Looks, definition: MetricDefinition, last: int, key: str) -> Sequential | None:
    """The confidence sequence as the report has it after a look."""
    table = table_of(looks, definition, last)
    if len(looks.shares) == 1:
        found = lift_of_sums(table, key, ARMS[0])
    else:
        shares = {(1, epoch): shares for epoch, shares in enumerate(looks.shares)}
        found = lift_of_increments(table, by_shares(table, shares), key, ARMS[0])
    return found if isinstance(found, Sequential) else None


def _watch(looks: Looks, definition: MetricDefinition, key: str, *, is_bandit: bool) -> _Watched:
    scores = _by_increments(looks, definition, key) if is_bandit else _by_sums(looks, definition, key)
    alarm = math.inf
    for look in _screened(scores):
        found = sequence_at(looks, definition, look, key)
        if found is None or found.ci_low is None or found.ci_high is None:
            continue
        if not found.ci_low <= 0.0 <= found.ci_high:
            alarm = look + 1.0
            break
    last = sequence_at(looks, definition, len(looks.epoch) - 1, key)
    multiple = np.nan
    if last is not None and last.value is not None and last.ci_high is not None and scores[-1]:
        multiple = abs((last.ci_high - last.value) / last.value * scores[-1])
    beyond = np.flatnonzero(np.abs(scores) > 1.96)
    return _Watched(beyond[0] + 1.0 if len(beyond) else math.inf, alarm, float(multiple))


def _screened(scores: NDArray[np.float64]) -> Iterator[int]:
    """Looks worth the whole calculation, and the one after: a score holds for the epoch that it ends."""
    near = np.abs(scores) > SCREEN
    near[1:] |= near[:-1]
    near[:-1] |= near[1:]
    yield from np.flatnonzero(near).tolist()


def _by_sums(looks: Looks, definition: MetricDefinition, key: str) -> NDArray[np.float64]:
    """The lift in standard errors after each look, all units pooled."""
    sums = np.cumsum(looks.sums[definition.key], axis=0).astype(float)
    arms = [sums[:, ARMS.index(arm)].T for arm in (key, ARMS[0])]
    figures: list[NDArray[np.float64]] = []
    errors: list[NDArray[np.float64]] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for n, x, y, xx, xy, yy in arms:
            ratio = x / y
            figures.append(ratio)
            errors.append((xx - 2 * ratio * xy + ratio**2 * yy) / (y / n) ** 2 / n**2)
        scores = (figures[0] - figures[1]) / np.sqrt(errors[0] + errors[1])
    return np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)


def _by_increments(looks: Looks, definition: MetricDefinition, key: str) -> NDArray[np.float64]:
    """The same by AIPW: after the last look of every epoch, from the increments up to it."""
    table = table_of(looks, definition, len(looks.epoch) - 1)
    shares = {(1, epoch): shares for epoch, shares in enumerate(looks.shares)}
    rows = increments(table, by_shares(table, shares), key, ARMS[0])
    weights = np.array([row.weight * row.units for row in rows])
    whole = np.cumsum(weights)
    lift = np.cumsum(weights * [row.lift for row in rows]) / whole
    error = np.sqrt(np.cumsum(weights**2 * [row.variance for row in rows])) / whole
    by_epoch = dict(zip((row.place[1] for row in rows), (lift / error).tolist(), strict=True))
    return np.array([by_epoch.get(epoch, 0.0) for epoch in looks.epoch])


def text(rows: Rows) -> str:
    """The table."""
    lines = [
        paragraph(
            f"{LOOKS} looks at arms that are equal: the part of the lifts whose 95 % interval left "
            "0 out at some look. Fixed shares: two arms, 100,000 units. Thompson: three arms, "
            "50,000 units, control share 0.10, floor 0.02, shares up to 100 times anew, AIPW. "
            "`width` is the half-width of the sequence in standard errors at the last look, where "
            "a credible interval has 1.96."
        ),
        "",
        "| world | metric | lifts | credible interval | confidence sequence | width |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.world} | `{row.metric}` | {row.lifts} | {row.credible:.3f} | {row.sequential:.3f} "
        f"| {row.multiple:.2f} |"
        for row in flat(rows)
    ]
    return "\n".join(lines)


def promises(rows: Rows) -> list[Promise]:
    """At most 5 % of the lifts alarm falsely at any look, in each world."""
    return [
        Promise(
            f"200 looks at equal arms: at most 5 % false alarms of the sequence: {row.world}, `{row.metric}`",
            f"{row.sequential:.1%}",
            at_most(row.sequential, LIMIT, row.lifts),
            row.world,
        )
        for row in flat(rows)
    ]


def chart(rows: Rows) -> str:
    """False alarms by the number of looks: of both intervals, with fixed shares and under a bandit."""
    found = flat(rows)
    lines: dict[str, list[tuple[float, float]]] = {"promised at most": [(0, LIMIT), (LOOKS, LIMIT)]}
    for kind, of_kind in (
        ("fixed shares", [row for row in found if not WORLDS[row.world].is_bandit]),
        ("Thompson", [row for row in found if WORLDS[row.world].is_bandit]),
    ):
        if of_kind:
            most = max(of_kind, key=lambda row: row.sequential)
            lines[f"credible interval, {kind}"] = [(0, 0), *zip(TOLD, most.credible_by, strict=True)]
            lines[f"confidence sequence, {kind}"] = [(0, 0), *zip(TOLD, most.sequential_by, strict=True)]
    title = "Equal arms with a false alarm, worst world"
    return line_chart(title, "looks so far", "share of lifts", lines, NARROW)


LIMIT = 0.05

PART = Part(
    key="peeking",
    title="Looking all the time",
    runs=2_000,
    worlds=dict(zip(WORLDS, (12, 14, 10, 13, 13, 12, 100, 73), strict=True)),
    row=Row,
    measure=lambda world, runs, seed, step: peeking(world, WORLDS[world], runs=runs, seed=seed, step=step),
    text=text,
    promises=promises,
    chart=chart,
    before=(
        "A credible interval holds 95 % at one look. The confidence sequence of a lift "
        "(`sequential` in the report) holds 95 % over all looks together. Here every arm is the "
        "same, so whatever leaves 0 out is a false alarm."
    ),
    after=(
        "A lift of money of which nine tenths are zeros comes nearest to 5 % under a bandit: few "
        "units decide, and the sequence is asymptotic. The beta-binomial mixture is exact while a "
        "rate stays what it is. Where all arms' rates rise together the exact proof no longer "
        "covers it, and the worlds above in which they do show what happens then."
    ),
)
