"""Late outcomes and drifting rates: what a delay model and discounting gain, and what they cost without need.

The setting of Chapelle and Li 2011 (An Empirical Evaluation of Thompson Sampling, 3 and table 2): Bernoulli
arms, one a little better, feedback late; here a unit's order comes after an exponential delay (Chapelle 2014)
or not within the window, and shares are computed once a day by the production allocator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.ages import BINS, HOURS, binned
from experiments.allocation.drift import reading_as, watch_drift
from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion
from experiments.model import (
    DelayHandling,
    Discounting,
    Experiment,
    Offer,
    OfferKind,
    PolicyKind,
    PolicySettings,
    Variant,
)
from experiments.statistics import Cell, CellKey

FloatArray = NDArray[np.float64]

START = date(2026, 3, 2)
HOURS_A_DAY = 24
_EDGES = (np.arange(BINS + 1) / BINS) ** 3
_VECTORS = ({"assigned": 1, "units": 1, "converted": 1}, {"assigned": 1, "units": 1})


@dataclass(frozen=True, slots=True)
class World:
    """`rates[day][arm]`: chance of an order within the window; `delay_days`: mean delay, 0 is at once."""

    rates: Sequence[Sequence[float]]
    per_day: int = 1000
    delay_days: float = 0.0
    window_days: int = 7


@dataclass(frozen=True, slots=True)
class Reader:
    """A policy's way of reading its cells; `as_they_are` counts open windows as if they were closed."""

    name: str
    settings: PolicySettings = field(default_factory=PolicySettings)
    as_they_are: bool = False


_THOMPSON = PolicySettings(
    kind=PolicyKind.THOMPSON, objective="conversion_rate", control_share=0.01, floor=0.01, burn_in=50
)
AS_THEY_ARE = Reader("open windows as they are", _THOMPSON, as_they_are=True)
MATURED = Reader("closed windows (delay: matured)", _THOMPSON)
MODEL = Reader("all, by age (delay: model)", replace(_THOMPSON, delay=DelayHandling.MODEL))
_WEEKS = replace(_THOMPSON, discount_half_life=timedelta(days=7))
DISCOUNTED = Reader("discount_half_life: 7d", _WEEKS, as_they_are=True)
AFTER_DRIFT = Reader(
    "discount_half_life: 7d, discount: after_drift",
    replace(_WEEKS, discount=Discounting.AFTER_DRIFT),
    as_they_are=True,
)


def stationary(days: int, arms: int = 10, best: float = 0.10, others: float = 0.08) -> list[list[float]]:
    """Chapelle and Li's arms: the last is better than all others."""
    return [[others] * (arms - 1) + [best]] * days


def swapping(days: int, every: int, arms: int = 4) -> list[list[float]]:
    """The best arm is another one after every so many days; the others stay."""
    return [[0.14 if arm == (day // every) % arms else 0.08 for arm in range(arms)] for day in range(days)]


def regret(world: World, reader: Reader, rng: np.random.Generator) -> tuple[float, float]:
    """Orders forgone against the best arm of each day, and the orders expected of it; one run."""
    experiment = _experiment(world, reader)
    keys = tuple(variant.key for variant in experiment.variants)
    past: dict[str, Cell] = {}
    still_open: list[_Cohort] = []
    version: PolicyVersion | None = None
    drift: dict[str, Any] | None = None
    forgone = possible = 0.0
    for day, rates in enumerate(world.rates):
        shares = dict.fromkeys(keys, 1.0) if version is None else version.shares_for(keys)
        weights = np.array([shares[key] for key in keys], dtype=np.float64)
        counts = rng.multinomial(world.per_day, weights / weights.sum())
        forgone += float(counts @ (max(rates) - np.array(rates)))
        possible += world.per_day * max(rates)
        still_open += [
            _Cohort.drawn(world, key, day, int(n), rate, rng)
            for key, n, rate in zip(keys, counts, rates, strict=True)
            if n
        ]
        now = float(day + 1)
        if experiment.policy.discount_half_life is None:
            still_open = _settled(still_open, past, world, now, keys)
        cells = [*past.values(), *(cohort.cell(world, now, keys) for cohort in still_open)]
        at = datetime.combine(START, datetime.min.time(), tzinfo=UTC) + timedelta(days=now, seconds=1)
        if experiment.policy.discount is Discounting.AFTER_DRIFT:
            drift = watch_drift(experiment, cells, drift, time_zone="UTC", now=at).to_json()
        proposal = propose(
            reading_as(experiment, discounting=bool(drift and drift["discounting"])),
            cells,
            frozenset(keys),
            [keys],
            guarded=Guarded(),
            promoted=None,
            last=version,
            time_zone="UTC",
            now=at,
        )
        version = PolicyVersion(day + 1, day + 1, 0, Cause.SHARES_MOVED, keys[0], proposal.sets)
    return forgone, possible


def regrets(world: World, reader: Reader, *, runs: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """`regret` of many runs, the same seeds whoever reads; each of shape (runs,)."""
    found = [regret(world, reader, np.random.default_rng([seed, run])) for run in range(runs)]
    return np.array([pair[0] for pair in found]), np.array([pair[1] for pair in found])


@dataclass(frozen=True, slots=True)
class _Cohort:
    """The units of an arm and day: their hours, and for the buyers the day they bought and their delay."""

    key: str
    day: int
    hours: NDArray[np.int64]
    bought: FloatArray
    delays: FloatArray

    @classmethod
    def drawn(
        cls, world: World, key: str, day: int, n: int, rate: float, rng: np.random.Generator
    ) -> "_Cohort":
        anchors = rng.random(n) * HOURS_A_DAY
        # `rate` is of orders within the window, so the delay is drawn from the law cut there.
        reach = -np.expm1(-world.window_days / world.delay_days) if world.delay_days else 0.0
        buys = rng.random(n) < rate
        drawn = -world.delay_days * np.log1p(-reach * rng.random(n)) if reach else np.zeros(n)
        delays: FloatArray = drawn[buys]
        hours = np.bincount(anchors.astype(np.int64) + 1, minlength=HOURS_A_DAY + 1)
        return cls(key, day, hours, day + anchors[buys] / HOURS_A_DAY + delays, delays)

    def cell(self, world: World, now: float, keys: Sequence[str]) -> Cell:
        """The rollup cell as it stands."""
        come = self.delays[self.bought <= now]
        cell = Cell(CellKey(self.key, "", 1, START + timedelta(days=self.day), 1), frozenset(keys))
        cell.moments.add_units(_VECTORS, [len(come), int(self.hours.sum()) - len(come)])
        cell.histograms[HOURS] = {hour: int(n) for hour, n in enumerate(self.hours) if n}
        bins = np.maximum(1, np.searchsorted(_EDGES, come / world.window_days))
        for number, n in enumerate(np.bincount(bins, minlength=BINS + 1)):
            if n:
                cell.histograms[binned("converted", number)] = {1: int(n)}
        return cell


def _settled(
    cohorts: Sequence[_Cohort], past: dict[str, Cell], world: World, now: float, keys: Sequence[str]
) -> list[_Cohort]:
    """Put closed cohorts of an arm into one cell, which reads the same; those still open are left."""
    left: list[_Cohort] = []
    for cohort in cohorts:
        if cohort.day + 1 + world.window_days > now:
            left.append(cohort)
            continue
        cell = cohort.cell(world, now, keys)
        whole = past.setdefault(cohort.key, Cell(cell.key, frozenset(keys)))
        whole.moments.add(cell.moments)
        for name, histogram in cell.histograms.items():
            into = whole.histograms.setdefault(name, {})
            for number, n in histogram.items():
                into[number] = into.get(number, 0) + n
    return left


def _experiment(world: World, reader: Reader) -> Experiment:
    arms = [f"arm{number}" for number in range(len(world.rates[0]))]
    variants = (Variant(key, Offer(OfferKind.CROSS_SELL), is_control=key == arms[0]) for key in arms)
    window = timedelta(seconds=1) if reader.as_they_are else timedelta(days=world.window_days)
    return Experiment(
        key="study",
        touchpoint="checkout",
        currency="EUR",
        variants=tuple(variants),
        attribution_window=window,
        policy=reader.settings,
    )
