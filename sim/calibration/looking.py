"""What a person who looks all the time is told where nothing is different: sums of every metric by look.

Units come in equal batches, one look after each. Arms are equal in every world, so that each interval that
leaves 0 out is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion, moved
from experiments.model import Experiment, Offer, OfferKind, PolicyKind, PolicySettings, Variant
from experiments.statistics import Cell, CellKey, Moments
from sim.calibration.bandit import START

ARMS = ("none", "a", "b")
MEAN_VALUE = 5_000  # minor units
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shop:
    """How units buy: the probability, further orders per buyer, and the spread of an order's value.

    An order's value is log-normal with this standard deviation of its logarithm (0.83: a CV of 1). With
    `rising` the conversion grows evenly from half to one and a half times its mean.
    """

    conversion: float
    more_orders: float = 0.0
    sigma: float = 0.83
    rising: bool = False

    def units(self, n: int, when: float, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
        """Of the buyers among n units: their places (sorted), orders and money in minor units.

        `when` lies between 0, the beginning, and 1.
        """
        conversion = self.conversion * (0.5 + when if self.rising else 1.0)
        places = np.flatnonzero(rng.random(n) < conversion)
        orders = 1 + (rng.poisson(self.more_orders, len(places)) if self.more_orders else 0)
        orders = np.broadcast_to(orders, places.shape).astype(np.int64)
        level = np.log(MEAN_VALUE) - self.sigma**2 / 2
        value = np.exp(level + self.sigma * rng.standard_normal(len(places)))
        return places, orders, np.rint(value * orders).astype(np.int64)


METRICS = ("conversion_rate", "revenue_per_unit", "aov")


@dataclass(frozen=True, slots=True)
class Looks:
    """Sums of n, x, y, xx, xy, yy by metric, (looks, arms, 6): of each batch alone, not of all so far.

    `epoch` says in which epoch each batch lies, `shares` what was served in each epoch.
    """

    sums: Mapping[str, Ints]
    epoch: Sequence[int]
    shares: Sequence[Mapping[str, float]]


def simulate(
    shop: Shop,
    looks: int,
    batch: int,
    rng: np.random.Generator,
    allocate: Allocate,
    *,
    metrics: Sequence[str],
) -> Looks:
    """Batches of units, each assigned with the shares that `allocate` gives when its epoch begins."""
    first = allocate(0, {})
    assert first is not None  # whoever allocates begins with shares
    shares = [first]
    epoch: list[int] = []
    sums = {metric: np.zeros((looks, len(ARMS), 6), dtype=np.int64) for metric in metrics}
    counted = np.zeros((len(ARMS), 2), dtype=np.int64)
    for look in range(looks):
        fresh = allocate(look, dict(zip(ARMS, counted.tolist(), strict=True))) if look else None
        if fresh is not None and fresh != shares[-1]:
            shares.append(fresh)
        epoch.append(len(shares) - 1)
        keys = [key for key in ARMS if key in shares[-1]]
        arm = rng.choice(len(keys), size=batch, p=[shares[-1][key] for key in keys])
        places, orders, value = shop.units(batch, look / looks, rng)
        units, buyers = (np.bincount(of, minlength=len(ARMS)) for of in (arm, arm[places]))
        counted += np.stack([units, buyers], axis=1)
        for metric in metrics:
            sums[metric][look] = _sums(metric, units, buyers, arm[places], orders, value)
    return Looks(sums, epoch, shares)


Allocate = Callable[[int, Mapping[str, Sequence[int]]], Mapping[str, float] | None]
"""From a look and each arm's (units, buyers) so far to the shares from then on; None to leave them."""


def evenly(keys: Sequence[str]) -> Allocate:
    """Fixed, equal shares."""
    shares = dict.fromkeys(keys, 1.0 / len(keys))
    return lambda look, counted: shares if look == 0 else None


def thompson(every: int, experiment: Experiment) -> Allocate:
    """The production allocator, asked after so many looks; it knows of conversion alone."""
    last: list[PolicyVersion] = []

    def allocate(look: int, counted: Mapping[str, Sequence[int]]) -> Mapping[str, float] | None:
        if look % every:
            return None
        now = datetime.combine(START, datetime.min.time(), tzinfo=UTC).replace(year=START.year + 1)
        cells = [_converted(key, *counts) for key, counts in counted.items() if counts[0]]
        before = last[-1] if last else None
        found = propose(
            experiment,
            cells,
            frozenset(ARMS),
            [ARMS],
            guarded=Guarded(),
            promoted=None,
            last=before,
            time_zone="UTC",
            now=now,
        )
        version = PolicyVersion(len(last) + 1, len(last) + 1, 0, Cause.STARTED, ARMS[0], found.sets)
        if before is not None and not moved(before, version):
            return None
        last.append(version)
        return {key: share / 2**32 for key, share in version.shares_for(ARMS).items()}

    return allocate


def experiment_of(keys: Sequence[str], kind: PolicyKind = PolicyKind.FIXED) -> Experiment:
    """The experiment of these arms: control share 0.10, floor 0.02, burn-in 200."""
    offers = [
        Variant(key, Offer(OfferKind.CROSS_SELL if index else OfferKind.NONE), is_control=not index)
        for index, key in enumerate(keys)
    ]
    settings = PolicySettings(
        kind=kind, objective="conversion_rate", control_share=0.10, floor=0.02, burn_in=200
    )
    return Experiment(
        key="look", touchpoint="checkout", currency="EUR", variants=tuple(offers), policy=settings
    )


def _converted(key: str, units: int, buyers: int) -> Cell:
    """All units of an arm: the allocator's likelihood does not ask when they came."""
    sums = {"assigned": units, "units": units, "converted": buyers}
    products = {"units*units": units, "converted*units": buyers, "converted*converted": buyers}
    moments = Moments(sums, {name: value for name, value in products.items() if value})
    return Cell(CellKey(key, "", 1, START, 1), frozenset(ARMS), moments)


def _sums(metric: str, units: Ints, buyers: Ints, arm: Ints, orders: Ints, value: Ints) -> Ints:
    """The six sums of a batch by arm; x and y of the metric as in `analysis.metrics`."""
    if metric == "conversion_rate":
        return np.stack([units, buyers, units, buyers, buyers, units], axis=1)

    def total(of: Ints) -> Ints:
        # Exact: minor units squared over a batch stay below 2^53
        return np.bincount(arm, weights=of, minlength=len(ARMS)).astype(np.int64)

    if metric == "revenue_per_unit":
        return np.stack([units, total(value), units, total(value * value), total(value), units], axis=1)
    first = [units, total(value), total(orders)]
    return np.stack([*first, total(value * value), total(value * orders), total(orders * orders)], axis=1)
