"""What the ledger knows of one unit, as values: the input of the folds.

Times are integer microseconds since 1970 UTC, money is integer minor units. A fact holds only what
was recorded; nothing here depends on the order in which facts arrived. Most are tuples by name: every fold
of a unit makes them anew from its rows, and frozen dataclasses take three times as long to make.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Slot(StrEnum):
    """What happened to a drawn slot; every one names the decision it belongs to."""

    EXPOSURE = "exposure"
    CLICK = "click"
    ACCEPT = "accept"


class Enrolment(NamedTuple):
    """One assignment row: a unit entered the experiment with this variant at this instant."""

    unit_no: int
    period: int
    at_us: int
    variant: str
    segment: str
    candidate_set: int
    epoch: int
    features: tuple[int, ...] = ()  # as encoded then; none on record is a context without any value
    share: int = 0  # of its variant when it was assigned, over 2^32


class SlotFact(NamedTuple):
    """An exposure, click or accept of a decision of this experiment."""

    slot: Slot
    unit_no: int  # the decision's unit and period: which enrolment the slot was drawn for
    period: int
    at_us: int


class CartFact(NamedTuple):
    """A cart seen (cart, checkout_started) or reported abandoned."""

    cart_id: str
    at_us: int
    abandon_after_us: int  # the store's abandonment window when it was recorded
    is_abandonment: bool = False


def sight_of(fact: object) -> Hashable | None:
    """Of what a fact is one sight among several, of which a fold needs the earliest alone; None of nothing.

    An exposure seen again, or a cart that has more in it, tells no fold anything.
    """
    if isinstance(fact, SlotFact):
        return fact.slot, fact.unit_no, fact.period
    return (fact.cart_id, fact.is_abandonment) if isinstance(fact, CartFact) else None


def is_seen_earlier(fact: object, other: object) -> bool:
    """Which of two sights of the same is the earlier."""
    if isinstance(fact, CartFact) and isinstance(other, CartFact):
        return (fact.at_us, fact.abandon_after_us) < (other.at_us, other.abandon_after_us)
    return isinstance(fact, SlotFact) and isinstance(other, SlotFact) and fact.at_us < other.at_us


class RatingFact(NamedTuple):
    """A score out of scale."""

    at_us: int
    score_fixed: int  # round(2^32 * score / scale)


class CustomFact(NamedTuple):
    """A custom event; `value_fixed` = round(2^32 * value), 0 when none was sent."""

    name: str
    at_us: int
    value_fixed: int


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund or a cancel of an order.

    `amount_minor` None = what all other refunds of the order leave. `cost_recovered_minor` None = the
    rate applies to the cost of the share refunded (parts per million, the store's setting when it was
    recorded; a cancel recovers all of it).
    """

    amount_minor: int | None
    cost_recovered_minor: int | None
    recovered_rate_ppm: int
    at_us: int
    is_cancel: bool = False
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A later correction of an order's amount or cost."""

    amount_delta_minor: int
    cost_delta_minor: int | None


@dataclass(frozen=True, slots=True)
class OrderFact:
    """An order with everything recorded about it since.

    `rates` maps a currency to the units of it that one unit of the order's currency was worth when the
    order was recorded, as decimal text: never looked up again.
    """

    order_id: str
    at_us: int
    currency: str
    amount_minor: int
    cost_minor: int | None
    cart_id: str | None = None
    rates: Mapping[str, str] = field(default_factory=dict)
    refunds: tuple[Refund, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """Everything recorded of one unit (a customer and all its visitors are one) in one experiment."""

    enrolments: Sequence[Enrolment]
    slots: Sequence[SlotFact] = ()
    orders: Sequence[OrderFact] = ()
    carts: Sequence[CartFact] = ()
    ratings: Sequence[RatingFact] = ()
    customs: Sequence[CustomFact] = ()
