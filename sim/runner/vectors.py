"""The fold of `experiments.fold` over arrays: the unit vectors of many customers, as known at an age.

One customer at a time `fold_unit` takes some 50 microseconds; a year of a shop has millions. What these
arrays say of the customers of a world is equal, to the unit, to `fold_unit` of their events (a test holds
the two together).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.fold import HORIZONS_US, REPEAT_HORIZON_US, FoldRules
from experiments.model import Anchor
from experiments.statistics import FIXED_POINT, MONEY_TOTALS
from sim.worlds.cells import Ints
from sim.worlds.outcomes import NEVER, Outcomes

RATING_TOP = 10
MONTHS = ("buyer_90d", "repeat_90d", *HORIZONS_US)
"""The features that later orders change long after the attribution window."""
VECTOR = (
    "assigned",
    "units",
    "exposed",
    "clicked",
    "took",
    "converted",
    "orders",
    "revenue",
    "refunded_orders",
    "refunded_value",
    "margin",
    "refund_loss",
    "carts",
    "abandoned",
    "rating_sum",
    "ratings",
    "pre_margin",
    *MONTHS,
    *(f"{name}_capped" for name in MONEY_TOTALS),
)
"""The features a world's customers can have; all others are 0."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Known:
    """Customers and what happens to them, with the age at which they are looked at.

    `age_us` since the arrival, (n,); an event is known once it has been sent by then (`sent` has the times of
    that, `outcomes` those at which things happen). A negative age is somebody who has not arrived.
    """

    rules: FoldRules
    outcomes: Outcomes
    sent: Outcomes
    pre_margin_minor: Ints
    arrival_us: Ints  # since the midnight of the cohort's day
    age_us: Ints

    @cached_property
    def anchor_us(self) -> Ints:
        """Since the arrival; -1 where there is none yet."""
        if self.rules.experiment.anchor is Anchor.ASSIGNMENT:
            return np.where(self.age_us >= 0, 0, -1)
        return np.where(self._seen("exposed_us"), self.outcomes.exposed_us, NEVER)

    @cached_property
    def order_times(self) -> Ints:
        """Of the first and the later orders, (1 + periods, n), -1 where not known."""
        times, sent = (np.vstack([one.order_us, one.repeat_us]) for one in (self.outcomes, self.sent))
        return np.where((times >= 0) & (sent <= self.age_us), times, NEVER)

    @cached_property
    def order_is_in(self) -> Flags:
        """Which of the orders count in the window, (1 + periods, n)."""
        return self._in_window(self.order_times)

    @cached_property
    def is_refunded(self) -> Flags:
        """Whether the first order is known to have come back."""
        return self._seen("refund_us")

    @cached_property
    def exposed(self) -> Flags:
        """Exposed within the window."""
        return self._happened("exposed_us")

    @cached_property
    def clicked(self) -> Flags:
        """Exposed, and clicked within the window."""
        return self._answered("clicked_us")

    @cached_property
    def took(self) -> Flags:
        """Exposed, and accepted within the window."""
        return self._answered("took_us")

    @cached_property
    def totals(self) -> dict[str, Ints]:
        """Money of the orders in the window, by name of `MONEY_TOTALS`."""
        found = self.outcomes
        first, later = self.order_is_in[0], self.order_is_in[1:].sum(axis=0)
        booked = first * found.amount_minor + later * found.repeat_amount_minor
        refunded = (first & self.is_refunded) * found.refunded_minor
        spent = first * (found.cost_minor - self.is_refunded * found.recovered_minor)
        return {
            "revenue": booked,
            "net_revenue": booked - refunded,
            "refunded_value": refunded,
            "margin": booked - refunded - spent - later * found.repeat_cost_minor,
        }

    def vectors(self, features: Sequence[str] = VECTOR) -> dict[str, Ints]:
        """Feature -> (n,) integers, as `fold_unit` would find them; months only where they are asked for."""
        found, is_unit = self.outcomes, self.anchor_us >= 0
        orders = self.order_is_in.sum(axis=0)
        rated, (carts, abandoned) = self._happened("rated_us"), self._carts()
        first, totals = self.order_is_in[0], self.totals
        scores = np.array([round(FIXED_POINT * score / RATING_TOP) for score in range(RATING_TOP + 1)])
        vector = {
            "assigned": (self.age_us >= 0).astype(np.int64),
            "units": is_unit.astype(np.int64),
            "exposed": self.exposed.astype(np.int64),
            "clicked": self.clicked.astype(np.int64),
            "took": self.took.astype(np.int64),
            "converted": (orders > 0).astype(np.int64),
            "orders": orders,
            "revenue": totals["revenue"],
            "refunded_orders": (first & self.is_refunded).astype(np.int64),
            "refunded_value": totals["refunded_value"],
            "margin": totals["margin"],
            "refund_loss": (first & self.is_refunded) * (found.refunded_minor - found.recovered_minor),
            "carts": carts.astype(np.int64),
            "abandoned": abandoned.astype(np.int64),
            "rating_sum": np.where(rated, scores[np.clip(found.rating, 0, RATING_TOP)], 0),
            "ratings": rated.astype(np.int64),
            "pre_margin": np.where(is_unit, self.pre_margin_minor, 0),
        }
        vector |= self._capped()
        return vector if set(MONTHS).isdisjoint(features) else vector | self._horizons()

    def _seen(self, name: str) -> Flags:
        sent = getattr(self.sent, name)
        return (sent >= 0) & (sent <= self.age_us)

    def _happened(self, name: str) -> Flags:
        """Known to have happened in the window."""
        return self._in_window(np.where(self._seen(name), getattr(self.outcomes, name), NEVER))

    def _carts(self) -> tuple[Flags, Flags]:
        """Who is known to have opened a cart in the window, and who to have left it.

        A cart that is told of only by its abandonment was opened then, as far as anybody can know; an order
        that comes soon after that would seem to close it.
        """
        found = self.outcomes
        is_open, is_left = self._seen("cart_us"), self._seen("abandoned_us")
        opened_us = np.where(is_open, found.cart_us, np.where(is_left, found.abandoned_us, NEVER))
        carts = self._in_window(opened_us)
        until_us = np.where(is_open, found.abandoned_us, 2 * found.abandoned_us - found.cart_us)
        ordered = (self.order_times[0] >= 0) & (self.order_times[0] < until_us)
        return carts, carts & is_left & ~ordered

    def _in_window(self, at_us: Ints) -> Flags:
        anchor = self.anchor_us
        return (anchor >= 0) & (at_us >= anchor) & (at_us < anchor + self.rules.window_us)

    def _answered(self, name: str) -> Flags:
        ends_us = self.anchor_us + self.rules.window_us
        return self.exposed & self._seen(name) & (getattr(self.outcomes, name) < ends_us)

    def _horizons(self) -> dict[str, Ints]:
        """What is counted over months: later orders, and margins."""
        found, anchor = self.outcomes, self.anchor_us
        is_after = (anchor >= 0) & (self.order_times >= anchor)
        age = np.where(is_after, self.order_times - anchor, np.iinfo(np.int64).max)
        within = (age < REPEAT_HORIZON_US).sum(axis=0)
        spent = found.cost_minor + self.is_refunded * (found.refunded_minor - found.recovered_minor)
        first, later = found.amount_minor - spent, found.repeat_amount_minor - found.repeat_cost_minor
        horizons = {
            name: (age[0] < length_us) * first + (age[1:] < length_us).sum(axis=0) * later
            for name, length_us in HORIZONS_US.items()
        }
        return {
            "buyer_90d": (within >= 1).astype(np.int64),
            "repeat_90d": (within >= 2).astype(np.int64),
            **horizons,
        }

    def _capped(self) -> dict[str, Ints]:
        capped: dict[str, Ints] = {}
        for name, total in self.totals.items():
            low, high = self.rules.caps.get(name, (None, None))
            is_cut = low is not None and high is not None
            capped[f"{name}_capped"] = np.where(total != 0, np.clip(total, low, high), 0) if is_cut else total
        return capped


def part_of(outcomes: Outcomes, rows: Ints) -> Outcomes:
    """The outcomes of some of the customers."""
    return Outcomes(**{one.name: getattr(outcomes, one.name)[..., rows] for one in fields(outcomes)})


def outcomes_joined(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of several groups of customers as one, in the order given."""
    periods = max(len(part.repeat_us) for part in parts)
    repeats = [
        np.vstack([part.repeat_us, np.full((periods - len(part.repeat_us), len(part)), NEVER)])
        for part in parts
    ]
    names = [one.name for one in fields(Outcomes) if one.name != "repeat_us"]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Outcomes(repeat_us=np.concatenate(repeats, axis=1), **arrays)


def orders_until(outcomes: Outcomes, window_us: int) -> Outcomes:
    """The outcomes without later orders that come after the window, wherever its anchor is."""
    times = outcomes.repeat_us
    kept = np.where(times < window_us + np.maximum(outcomes.exposed_us, 0), times, NEVER)
    periods = np.flatnonzero((kept != NEVER).any(axis=1))
    return replace(outcomes, repeat_us=kept[: periods[-1] + 1 if len(periods) else 0])


def change_times(sent: Outcomes) -> Ints:
    """When what is known of each customer changes, since the arrival: (changes, n), -1 for never."""
    named = ("exposed_us", "clicked_us", "took_us", "cart_us", "order_us", "refund_us", "abandoned_us")
    times = [getattr(sent, name) for name in (*named, "rated_us")]
    return np.vstack([np.zeros_like(sent.order_us), *times, sent.repeat_us])
