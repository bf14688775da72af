"""How long after its anchor a unit's outcomes came: what delay curves are learned from.

Of orders and refunded orders every experiment keeps them, for what is still to be refunded; of the rest those
with a delay model (`policy.delay: model`). A unit without an order pays nothing for it.

Ages go into the cell's histograms as `<feature>@<bin>` -> {events of the unit in that bin: units}, and the
local hour of a unit's anchor as `hour` -> {hour + 1: units}. Both are counts of units, so they are taken
out again as exactly as they were put in.

A horizon is cut at its (j / 24)^3, j = 0 ... 24: seconds apart where most orders come, 12 % of the horizon
at its end. Bin j holds ages above edge j - 1 up to and including edge j; age 0 lies in bin 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from experiments.facts import CustomFact, OrderFact, Slot, SlotFact
from experiments.model import Experiment
from experiments.orders import OrderBalance
from experiments.statistics import custom_features

BINS = 24
HOUR_US = 3_600_000_000
HOURS = "hour"
"""Name of the histogram of the hours of the day at which a cell's units have their anchor."""

REFUNDS = "refunded_orders"
"""The one feature whose horizon is the attribution and the refund window together."""


class Window(NamedTuple):
    """A unit's attribution window, and when its refunds are final; microseconds since 1970."""

    anchor_us: int
    end_us: int
    final_us: int


def age_bin(age_us: int, horizon_us: int) -> int:
    """The bin 1 ... 24 of an age from 0 to the horizon: the least j with age <= horizon (j / 24)^3.

    >>> age_bin(0, 13824), age_bin(1, 13824), age_bin(2, 13824), age_bin(13824, 13824)
    (1, 1, 2, 24)
    """
    scaled = age_us * BINS**3
    j = max(1, int((scaled / horizon_us) ** (1 / 3)))  # rounding cannot lift it above the bin
    while horizon_us * j**3 < scaled:
        j += 1
    return j


def binned(feature: str, bin_number: int) -> str:
    """The name under which a cell's histograms count a feature's events of one bin of age."""
    return f"{feature}@{bin_number}"


def hour_of(at_us: int, day: date, zone: ZoneInfo) -> int:
    """Full hours from the day's midnight to the instant, 0 to 24 (a day with a clock change may have 25)."""
    midnight = datetime.combine(day, time(), tzinfo=zone)
    return int((at_us / 1e6 - midnight.timestamp()) // 3600)


def order_ages(window: Window, balances: Sequence[tuple[OrderFact, OrderBalance]]) -> dict[str, int]:
    """The unit's orders and refunded orders by bin of age, as `binned` names; bins without any are left out.

    >>> from experiments.orders import fold_order
    >>> orders = [OrderFact("o", at_us, "EUR", 900, 400) for at_us in (1, 13823)]
    >>> order_ages(Window(0, 13824, 13824), [(order, fold_order(order)) for order in orders])
    {'orders@1': 1, 'orders@24': 1}
    """
    counts: dict[str, int] = {}
    length_us, final_us = window.end_us - window.anchor_us, window.final_us - window.anchor_us
    within = [pair for pair in balances if window.anchor_us <= pair[0].at_us < window.end_us]
    _count(counts, "orders", (order.at_us - window.anchor_us for order, _ in within), length_us)
    refunded = [_first_refund(order) for order, balance in within if balance.is_refunded]
    _count(counts, REFUNDS, [at - window.anchor_us for at in refunded if at <= window.final_us], final_us)
    return counts


def ages_of(
    experiment: Experiment,
    window: Window,
    slots: Sequence[SlotFact],
    balances: Sequence[tuple[OrderFact, OrderBalance]],
    customs: Sequence[CustomFact],
) -> dict[str, int]:
    """All the unit's events by feature and bin of age, as `binned` names; bins without events are left out.

    >>> from experiments.orders import fold_order
    >>> orders = [OrderFact("o", at_us, "EUR", 900, 400) for at_us in (1, 13823)]
    >>> balances = [(order, fold_order(order)) for order in orders]
    >>> ages_of(Experiment("k", "t", "EUR", ()), Window(0, 13824, 13824), [], balances, [])
    {'orders@1': 1, 'orders@24': 1, 'converted@1': 1}
    """
    counts = order_ages(window, balances)
    length_us = window.end_us - window.anchor_us
    for feature, at_us in _slot_times(slots, window.end_us).items():
        _count(counts, feature, [max(0, at_us - window.anchor_us)], length_us)
    times = (order.at_us for order, _ in balances if window.anchor_us <= order.at_us < window.end_us)
    first_us = min(times, default=None)
    _count(counts, "converted", [] if first_us is None else [first_us - window.anchor_us], length_us)
    for metric in experiment.metrics:
        horizon_us = length_us if metric.window is None else metric.window // timedelta(microseconds=1)
        since = (fact.at_us - window.anchor_us for fact in customs if fact.name == metric.event)
        found = [age for age in since if 0 <= age < horizon_us]
        had, count, _ = custom_features(metric.key)
        _count(counts, had, [min(found)] if found else [], horizon_us)
        _count(counts, count, found, horizon_us)
    return counts


def events_of(histograms: Mapping[str, Mapping[int, int]], feature: str) -> list[int]:
    """Events of a feature in each of the 24 bins, over all units of a cell.

    >>> events_of({"orders@2": {1: 10, 3: 1}}, "orders")[:3]
    [0, 13, 0]
    """
    found = [0] * BINS
    for place, name in enumerate(_names(feature)):
        one = histograms.get(name)
        if one:
            found[place] = sum([events * units for events, units in one.items()])
    return found


@lru_cache(maxsize=256)  # read for every cell of a report
def _names(feature: str) -> tuple[str, ...]:
    return tuple(binned(feature, number) for number in range(1, BINS + 1))


def _slot_times(slots: Sequence[SlotFact], end_us: int) -> dict[str, int]:
    """When the unit was exposed, clicked and took: the latter two count from the exposure on."""
    first: dict[Slot, int] = {}
    for slot in slots:
        if slot.at_us < end_us:
            first[slot.slot] = min(slot.at_us, first.get(slot.slot, slot.at_us))
    seen_us = first.get(Slot.EXPOSURE)
    if seen_us is None:
        return {}
    names = {Slot.EXPOSURE: "exposed", Slot.CLICK: "clicked", Slot.ACCEPT: "took"}
    return {names[slot]: max(seen_us, at_us) for slot, at_us in first.items()}


def _first_refund(order: OrderFact) -> int:
    """When the first refund that counts came; one dated before its order came with it."""
    return max(
        order.at_us, min(r.at_us for r in order.refunds if r.currency is None or r.currency == order.currency)
    )


def _count(counts: dict[str, int], feature: str, ages_us: Iterable[int], horizon_us: int) -> None:
    for age_us in ages_us:
        name = binned(feature, age_bin(age_us, horizon_us))
        counts[name] = counts.get(name, 0) + 1
