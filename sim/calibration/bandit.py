"""A whole experiment without a service: the production allocator and read-out over simulated units.

Every unit of an arm has one of a few outcomes (nothing, an order, an order with the offer, either of
them refunded), so an epoch of any size costs one multinomial draw and the truth is in closed form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import product

import numpy as np

from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion, moved, same_shares
from experiments.model import (
    Experiment,
    Guardrail,
    Offer,
    OfferKind,
    PolicyKind,
    PolicySettings,
    Variant,
)
from experiments.statistics import Cell, CellKey, Moments, product_name

START = date(2026, 3, 2)
BASKETS = ((0.5, 8_900, 3_600), (0.3, 15_800, 6_900), (0.2, 10_400, 4_600))
"""Probability, value and margin of what is in the cart, in minor units."""
CONTROL = "none"


@dataclass(frozen=True, slots=True)
class Arm:
    """What one variant does to shoppers; money in minor units."""

    conversion: float
    take: float = 0.0  # of those who buy
    refund: float = 0.05
    regret: float = 0.0  # added to the refund probability of a taken offer
    gain: int = 0  # what a taken offer adds to an order's value
    gain_margin: int = 0

    def outcomes(self) -> tuple[list[float], list[dict[str, int]]]:
        """Probabilities of the outcomes and the unit vector of each."""
        probabilities, vectors = [1 - self.conversion], [unit_vector()]
        branches = product(BASKETS, ((False, 1 - self.take), (True, self.take)), (False, True))
        for (likely, value, margin), (taken, part), is_refunded in branches:
            refund = self.refund + (self.regret if taken else 0.0)
            share = refund if is_refunded else 1 - refund
            probabilities.append(self.conversion * likely * part * share)
            worth = value + taken * self.gain, margin + taken * self.gain_margin
            vectors.append(unit_vector(*worth, is_refunded=is_refunded, took=taken))
        return probabilities, vectors

    def truth(self) -> dict[str, float]:
        """The expected value of every metric the studies look at."""
        probabilities, vectors = self.outcomes()

        def mean(name: str) -> float:
            return sum(p * v.get(name, 0) for p, v in zip(probabilities, vectors, strict=True))

        return {
            "conversion_rate": mean("converted"),
            "margin_per_unit": mean("margin"),
            "aov": mean("revenue") / mean("orders"),
            "refund_rate": mean("refunded_orders") / mean("orders"),
            "cart_abandonment_rate": mean("abandoned") / mean("carts"),
        }


def unit_vector(
    value: int = 0, margin: int = 0, *, is_refunded: bool = False, took: bool = False
) -> dict[str, int]:
    """One unit: a cart, abandoned unless it was bought; a refund takes the value and 8 in 10 of the cost."""
    vector = {"assigned": 1, "units": 1, "exposed": 1, "carts": 1}
    if not value:
        return vector | {"abandoned": 1}
    left = margin - value + round(0.8 * (value - margin)) if is_refunded else margin
    refunded = value if is_refunded else 0
    vector |= {"converted": 1, "orders": 1, "revenue": value, "margin": left, "margin_capped": left}
    vector |= {"revenue_capped": value, "net_revenue_capped": value - refunded, "took": int(took)}
    if is_refunded:
        vector |= {"refunded_orders": 1, "refunded_value": refunded, "refunded_value_capped": refunded}
    return vector


@dataclass(frozen=True, slots=True)
class Design:
    """A world and the experiment run in it; one epoch is one cohort day, seen in full when it ends.

    `scale` multiplies every conversion by epoch (drift common to all arms).
    """

    arms: Mapping[str, Arm]
    epochs: int
    per_epoch: int
    control_share: float = 0.20
    floor: float = 0.02
    burn_in: int = 400
    guardrails: tuple[Guardrail, ...] = ()
    objective: str = "margin_per_unit"
    kind: PolicyKind = PolicyKind.THOMPSON
    scale: Sequence[float] = field(default=())

    def experiment(self) -> Experiment:
        """The experiment document of the design."""
        offers = [
            Variant(key, Offer(OfferKind.NONE if key == CONTROL else OfferKind.CROSS_SELL), key == CONTROL)
            for key in self.arms
        ]
        return Experiment(
            key="study",
            touchpoint="checkout",
            currency="EUR",
            variants=tuple(offers),
            attribution_window=timedelta(seconds=1),
            guardrails=self.guardrails,
            policy=PolicySettings(
                kind=self.kind,
                objective=self.objective,
                control_share=self.control_share,
                floor=self.floor,
                burn_in=self.burn_in,
            ),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: what the ledger's folder would hold, and the last version."""

    experiment: Experiment
    cells: Sequence[Cell]
    now: datetime
    version: PolicyVersion
    killed: frozenset[str]


def simulate(
    design: Design,
    rng: np.random.Generator,
    watch: Callable[[Experiment, Sequence[Cell]], None] | None = None,
) -> Run:
    """Run a design: draw an epoch's units by the current shares, then allocate as the service does.

    `watch` looks at the cells after every epoch.
    """
    experiment, keys = design.experiment(), tuple(design.arms)
    cells: dict[CellKey, Cell] = {}
    opened = START
    active = frozenset(keys)
    first = propose(
        experiment, [], active, [], guarded=Guarded(), promoted=None, last=None, time_zone="UTC", now=_at(0)
    )
    version = PolicyVersion(1, 1, 0, Cause.STARTED, CONTROL, first.sets)
    entries: Sequence[Mapping[str, object]] = ()
    for epoch in range(design.epochs):
        shares = version.shares_for(keys)
        counts = rng.multinomial(design.per_epoch, [shares[key] / 2**32 for key in keys])
        factor = design.scale[epoch] if design.scale else 1.0
        for key, n in zip(keys, counts, strict=True):
            if n:
                arm = replace(design.arms[key], conversion=design.arms[key].conversion * factor)
                # One cell for each arm and epoch, on the day it began: nothing here looks at days
                place = CellKey(key, "", 1, opened, version.epoch)
                cell = cells.setdefault(place, Cell(place, frozenset(keys)))
                enrol(cell.moments, arm, int(n), rng)
        guarded, now = Guarded(), _at(epoch + 1)
        if design.guardrails:
            guarded = guard(
                experiment, list(cells.values()), active, entries, version, time_zone="UTC", now=now
            )
            entries, active = guarded.entries, active - guarded.killed
        proposal = propose(
            experiment,
            list(cells.values()),
            active,
            [keys],
            guarded=guarded,
            promoted=None,
            last=version,
            time_zone="UTC",
            now=now,
        )
        chosen = PolicyVersion(
            version.number + 1, version.epoch, 0, Cause.SHARES_MOVED, CONTROL, proposal.sets, guarded.capped
        )
        if moved(version, chosen):
            if not same_shares(version, chosen):
                chosen, opened = replace(chosen, epoch=version.epoch + 1), _day(epoch + 1)
            version = chosen
        if watch is not None:
            watch(experiment, list(cells.values()))
    return Run(experiment, list(cells.values()), _at(design.epochs), version, frozenset(keys) - active)


def enrol(moments: Moments, arm: Arm, n: int, rng: np.random.Generator) -> None:
    """Add n units of the arm to the moments, one multinomial draw of their outcomes."""
    probabilities, vectors = arm.outcomes()
    for units, vector in zip(rng.multinomial(n, probabilities).tolist(), vectors, strict=True):
        names = sorted(name for name, value in vector.items() if value)
        for index, name in enumerate(names):
            moments.sums[name] = moments.sums.get(name, 0) + units * vector[name]
            for other in names[index:]:
                place = product_name(name, other)
                moments.products[place] = (
                    moments.products.get(place, 0) + units * vector[name] * vector[other]
                )


def _day(epoch: int) -> date:
    return START + timedelta(days=epoch)


def _at(epoch: int) -> datetime:
    return datetime.combine(_day(epoch), datetime.min.time(), tzinfo=UTC) + timedelta(minutes=1)
