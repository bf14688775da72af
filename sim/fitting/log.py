"""A shop's log as arrays: who came, what their first order was and what became of it, who came back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DAY_S = 86_400.0
HISTORY_S = 30 * DAY_S
MIDNIGHT = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Tells:
    """What the log can tell; what it cannot is assumed."""

    visits: bool  # who came and did not order
    days: bool  # on which day things happened
    hours: bool  # at which time of the day
    amounts: bool
    costs: bool
    refunds: bool
    refund_times: bool
    recovered: bool
    exposures: bool
    takes: bool
    goods: bool
    returns: bool  # whether a customer who comes back is known again


@dataclass(frozen=True, slots=True, eq=False)
class ShopLog:
    """n customers by their first visit (or first order where there are no visits); money in minor units.

    Arrays are of shape (n,), times seconds since 1970 (UTC); nan = there is none. An order counts as that of
    the visit if it came within `within_s`, later ones of the same customer stand in the arrays `later_*`.
    """

    tells: Tells
    currency: str
    zone: ZoneInfo
    first_day: date
    days: int
    start_s: float  # when the log begins
    end_s: float  # until when it was watched
    within_s: float
    segments: tuple[str, ...]
    variants: tuple[str, ...]  # the control first; empty where the log has none
    arrival_s: Floats
    day: Ints  # local, since `first_day`
    second: Floats  # of the local day
    segment: Ints
    variant: Ints  # 0 where there is none
    seen: Bools
    took: Bools
    order_s: Floats
    amount: Floats
    cost: Floats
    refund_s: Floats
    refunded: Floats
    recovered: Floats
    later_unit: Ints
    later_s: Floats
    history: Floats  # margin of orders in the 30 days before the visit; nan = the log begins too late
    item_unit: Ints  # lines of first orders
    item_sku: Ints
    item_amount: Floats
    skus: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def ordered(self) -> Bools:
        """Who ordered."""
        return ~np.isnan(self.order_s)

    @property
    def returned(self) -> Bools:
        """Whose order came back, whole or in part."""
        return ~np.isnan(self.refund_s)

    @property
    def age_s(self) -> Floats:
        """How long each customer has been watched."""
        return self.end_s - self.arrival_s


def local_days(at_s: Floats, zone: ZoneInfo) -> tuple[Ints, Floats]:
    """Local day since 1970 and second of it; an offset is looked up once an hour.

    >>> days, seconds = local_days(np.array([3600.0 * 23.5]), ZoneInfo("Europe/Rome"))
    >>> int(days[0]), float(seconds[0])
    (1, 1800.0)
    """
    hours, where = np.unique(np.floor(at_s / 3600), return_inverse=True)
    offsets = np.array([_offset(hour, zone) for hour in hours.tolist()])
    local = at_s + offsets[where]
    day = np.floor(local / DAY_S)
    return day.astype(np.int64), local - day * DAY_S


def _offset(hour: float, zone: ZoneInfo) -> float:
    found = datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone).utcoffset()
    assert found is not None
    return found.total_seconds()


def day_number(day: date) -> int:
    """Days since 1970."""
    return (day - MIDNIGHT.date()).days


def as_date(number: int) -> date:
    """The day of that number."""
    return MIDNIGHT.date() + timedelta(days=number)


def coded(values: Sequence[str], most: int, rest: str = "other") -> tuple[Ints, tuple[str, ...]]:
    """Codes and labels, the frequent first; beyond `most` labels all others are one.

    >>> codes, labels = coded(["b", "a", "b", "c"], 2)
    >>> codes.tolist(), labels
    ([0, 1, 0, 1], ('b', 'other'))
    """
    found, where, counts = np.unique(np.array(values, dtype=object), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    labels = [str(found[place]) or "unknown" for place in order]
    if len(labels) > most:
        labels = [*labels[: most - 1], rest]
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.minimum(np.arange(len(order)), len(labels) - 1)
    return place_of[where], tuple(labels)
