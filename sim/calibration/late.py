"""Posteriors of units whose outcomes are still to come (`policy.delay: model`): what their intervals hold.

A shop as in `sim.calibration.refunds`: orders come some days after the anchor, refunds eight days after their
order in the mean. It is read by the allocator while windows are open, the orders' of the last week and the
refunds' of all. The truth is that of closed windows, with refunds up to the oldest age seen.

Two limits are published and not promised (`experiments.analysis.development`). Counts n_eff say too much
where most units buy; and a figure does not know how uncertain the curve is, which is common to all variants,
so that their difference hardly feels it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

import numpy as np

from experiments.ages import BINS, HOURS, binned
from experiments.analysis.objective import allocation_posteriors
from experiments.model import DelayHandling, PolicyKind, PolicySettings
from experiments.posteriors.compare import difference
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell
from sim.calibration.levels import World, level
from sim.calibration.refunds import (
    COST,
    EXPERIMENT,
    NONE,
    OFFER,
    RATE,
    REFUND,
    REFUND_DELAY,
    REFUND_WINDOW,
    START,
    VALUE,
    WINDOW,
    cell_of,
    in_the_end,
    reach,
)

KEYS = (NONE, OFFER)
_EDGES = (np.arange(BINS + 1) / BINS) ** 3
_SIGMA = float(np.sqrt(np.log(2.0)))  # a coefficient of variation of 1


@dataclass(frozen=True, slots=True)
class Shop:
    """`rates` are of orders at whatever age; read on the morning of a day, for one objective."""

    objective: str
    rates: Mapping[str, float]
    delay_days: float
    day: int
    units: int

    def truth(self, key: str) -> float:
        """The objective once windows have closed."""
        if self.objective == "conversion_rate":
            return self.rates[key] * -float(np.expm1(-WINDOW / self.delay_days))
        return in_the_end(key, reach(self.day))[self.objective]

    def cells(self, key: str, rng: np.random.Generator) -> list[Cell]:
        """The cells of one arm: its units came evenly over the days before."""
        anchor = np.sort(rng.uniform(0.0, self.day, self.units))
        lag = rng.exponential(self.delay_days, self.units)
        buys = (rng.random(self.units) < self.rates[key]) & (lag < WINDOW)
        back = lag + rng.exponential(REFUND_DELAY, self.units)
        age = self.day - anchor
        sold = buys & (lag <= age)
        gone = sold & (rng.random(self.units) < REFUND[key]) & (back <= age)
        columns = {"units": np.ones(self.units, dtype=np.int64)}
        if self.objective == "conversion_rate":
            columns["converted"] = sold.astype(np.int64)
        else:
            size = VALUE[key] * np.exp(rng.normal(-(_SIGMA**2) / 2.0, _SIGMA, self.units))
            columns["revenue"] = np.rint(size * sold).astype(np.int64)
            columns["refund_loss"] = columns["revenue"] * gone
            cost = np.rint(COST * columns["revenue"]).astype(np.int64)
            columns["margin_capped"] = columns["revenue"] - cost - columns["refund_loss"]
        starts = np.searchsorted(anchor, np.arange(self.day + 1))
        cells: list[Cell] = []
        for number in range(self.day):
            mine = slice(int(starts[number]), int(starts[number + 1]))
            features = {name: column[mine] for name, column in columns.items()}
            cell = cell_of(key, START + timedelta(days=number), features)
            hours = np.bincount((24.0 * (anchor[mine] - number)).astype(np.int64) + 1)
            cell.histograms[HOURS] = {int(hour): int(n) for hour, n in enumerate(hours) if n}
            _ages(cell, ("converted", "orders"), lag[mine][sold[mine]] / WINDOW)
            _ages(cell, ("refunded_orders",), back[mine][gone[mine]] / (WINDOW + REFUND_WINDOW))
            cells.append(cell)
        return cells


def _ages(cell: Cell, features: tuple[str, ...], ages: FloatArray) -> None:
    """Count events by bin of age, those up to the horizon."""
    numbers = np.maximum(1, np.searchsorted(_EDGES, ages[ages <= 1.0]))
    for number, events in enumerate(np.bincount(numbers)):
        if events:
            for feature in features:
                cell.histograms[binned(feature, number)] = {1: int(events)}


def delayed(shop: Shop, rng: np.random.Generator, *, is_planted: bool) -> Mapping[str, float]:
    """Levels of the offer's figure and of its difference from control, as the allocator reads them.

    The curve is read a day too early: cohorts are counted as one day younger than they are.
    """
    cells = [cell for key in KEYS for cell in shop.cells(key, rng)]
    if is_planted:
        cells = [replace(cell, key=cell.key._replace(day=cell.key.day + timedelta(days=1))) for cell in cells]
    policy = PolicySettings(PolicyKind.THOMPSON, shop.objective, delay=DelayHandling.MODEL)
    now = datetime.combine(START, time(), tzinfo=UTC) + timedelta(days=shop.day)
    about = replace(EXPERIMENT, policy=policy)
    found = allocation_posteriors(about, cells, KEYS, time_zone="UTC", now=now).posteriors
    offer, control = found[OFFER], found[NONE]
    return {
        "the offer": level(offer, shop.truth(OFFER)),
        "difference": float(difference(offer, control).cdf(shop.truth(OFFER) - shop.truth(NONE))),
    }


def _world(shop: Shop, *, own: float | None = 0.95, lift: float | None = 0.95) -> World:
    return World(
        lambda rng, is_planted: delayed(shop, rng, is_planted=is_planted),
        "every cohort taken for one day younger",
        {"the offer": own, "difference": lift},
    )


RATES = {NONE: RATE, OFFER: RATE}
LATE: Mapping[str, World] = {
    "late orders, 10 % buy": _world(Shop("conversion_rate", {NONE: 0.1, OFFER: 0.11}, 2.0, 12, 5_000)),
    "late orders, 60 % buy": _world(
        Shop("conversion_rate", {NONE: 0.6, OFFER: 0.63}, 2.0, 12, 5_000), own=None, lift=None
    ),
    "refunds to come, margin": _world(Shop("margin_per_unit", RATES, 1.0, 15, 8_000), own=None),
}
