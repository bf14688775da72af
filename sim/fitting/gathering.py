"""What was read of a log, row by row, until all of it is there; then the arrays of `ShopLog`."""

from collections import Counter
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

import numpy as np

from sim.fitting.log import (
    DAY_S,
    HISTORY_S,
    Bools,
    Floats,
    Ints,
    ShopLog,
    Tells,
    as_date,
    coded,
    day_number,
    local_days,
)
from sim.fitting.mapping import FitMapping
from sim.replay.errors import BadFile


@dataclass(slots=True)
class Visit:
    """A customer's first visit, and what they did there."""

    at_s: float
    segment: str = ""
    variant: str = ""
    seen: bool = False
    took: bool = False


@dataclass(slots=True)
class Order:
    """An order; money in minor units, nan where it is not told."""

    unit: str
    at_s: float
    amount: float = float("nan")
    cost: float = float("nan")
    items: dict[str, float] = field(default_factory=dict[str, float])
    refund_s: float = float("nan")
    refunded: float = 0.0
    recovered: float = float("nan")


@dataclass(slots=True)
class Gathered:
    """All that was read: visits by unit, orders by id."""

    tells: Tells
    zone: ZoneInfo
    control: str = ""
    variants: tuple[str, ...] = ()
    visits: dict[str, Visit] = field(default_factory=dict[str, Visit])
    orders: dict[str, Order] = field(default_factory=dict[str, Order])
    seen: set[str] = field(default_factory=set[str])
    took: set[str] = field(default_factory=set[str])
    first_s: float = float("inf")
    last_s: float = float("-inf")
    notes: Counter[str] = field(default_factory=Counter[str])

    def saw(self, at_s: float) -> None:
        """Something happened then."""
        self.first_s = min(self.first_s, at_s)
        self.last_s = max(self.last_s, at_s)

    def visit(self, unit: str, at_s: float, segment: str, variant: str) -> None:
        """A visit; the first of a unit counts."""
        self.saw(at_s)
        known = self.visits.get(unit)
        if known is None or at_s < known.at_s:
            self.visits[unit] = Visit(at_s, segment, variant)

    def refund(self, number: str, at_s: float, amount: float | None, recovered: float) -> None:
        """A refund of an order, all that is left of it if no amount is told; times are those of the first."""
        self.saw(at_s)
        order = self.orders.get(number)
        if order is None:
            self.notes["refunds of orders that are not in the log, left out"] += 1
            return
        order.refund_s = at_s if np.isnan(order.refund_s) else min(order.refund_s, at_s)
        order.refunded += float("inf") if amount is None else amount
        if not np.isnan(recovered):
            order.recovered = recovered + (0.0 if np.isnan(order.recovered) else order.recovered)


def shop_log(gathered: Gathered, mapping: FitMapping) -> ShopLog:
    """The arrays; BadFile where nobody is left."""
    until = mapping.period.until
    end_s = gathered.last_s if until is None else until.timestamp()
    orders = _orders_until(gathered, end_s)
    if not gathered.tells.visits:  # whoever orders comes with the first order that counts
        known, gathered.visits = gathered.visits, {}
        for order in orders:
            if order.unit not in gathered.visits:
                gathered.visits[order.unit] = Visit(order.at_s, known[order.unit].segment)
    strangers = len((gathered.seen | gathered.took) - gathered.visits.keys())
    if strangers:
        gathered.notes["customers with an exposure or a take and no visit, left out"] += strangers
    units = _arrived(gathered, mapping, end_s)
    visits = [gathered.visits[unit] for unit in units]
    arrival = np.array([visit.at_s for visit in visits])
    day, second = local_days(arrival, gathered.zone)
    first, last = _window(mapping, day)
    codes, labels = coded([visit.segment for visit in visits], mapping.segments_max)
    place = {key: number for number, key in enumerate(gathered.variants)}
    n = len(units)
    variant = np.array([place.get(visit.variant, 0) for visit in visits], np.int64)
    log = ShopLog(
        tells=gathered.tells,
        currency=mapping.currency,
        zone=gathered.zone,
        first_day=as_date(first),
        days=last - first + 1,
        start_s=gathered.first_s,
        end_s=end_s,
        within_s=mapping.order_within.total_seconds(),
        segments=labels if mapping.segment or mapping.export else ("all",),
        variants=gathered.variants,
        arrival_s=arrival,
        day=day - first,
        second=second,
        segment=codes,
        variant=variant,
        seen=np.array([unit in gathered.seen for unit in units], bool),
        took=np.array([unit in gathered.took for unit in units], bool),
        **{name: np.full(n, np.nan) for name in ("order_s", "amount", "cost", "refund_s", "recovered")},
        refunded=np.zeros(n),
        later_unit=np.zeros(0, np.int64),
        later_s=np.zeros(0),
        history=np.where(arrival - gathered.first_s >= HISTORY_S, 0.0, np.nan),
        item_unit=np.zeros(0, np.int64),
        item_sku=np.zeros(0, np.int64),
        item_amount=np.zeros(0),
        skus=(),
        notes=(),
    )
    return _with_orders(log, orders, {unit: number for number, unit in enumerate(units)}, gathered)


def _orders_until(gathered: Gathered, end_s: float) -> list[Order]:
    """Orders of some value by then, by time, refunds of later left out."""
    kept: list[Order] = []
    for order in gathered.orders.values():
        if order.at_s > end_s:
            gathered.notes["orders after `until`, left out"] += 1
            continue
        if gathered.tells.amounts and not order.amount > 0:
            gathered.notes["orders of no value, left out"] += 1
            continue
        if order.refund_s > end_s:
            order.refund_s, order.refunded, order.recovered = float("nan"), 0.0, float("nan")
        order.refunded = min(order.refunded, order.amount) if gathered.tells.amounts else 0.0
        kept.append(order)
    return sorted(kept, key=lambda order: order.at_s)


def _arrived(gathered: Gathered, mapping: FitMapping, end_s: float) -> list[str]:
    """Who came first on the days of `arrivals`, by time."""
    keys = list(gathered.visits)
    at_s = np.array([gathered.visits[unit].at_s for unit in keys])
    day, _ = local_days(at_s, gathered.zone)
    first, last = mapping.period.first, mapping.period.last
    kept = at_s <= end_s
    if first is not None:
        kept &= day >= day_number(first)
    if last is not None:
        kept &= day <= day_number(last)
    if gathered.variants:
        known = _known_variants(gathered)
        stray = np.array([gathered.visits[unit].variant not in known for unit in keys], bool)
        if stray.any():
            gathered.notes["customers of a variant that the experiment has not, left out"] += int(stray.sum())
        kept &= ~stray
    chosen = np.flatnonzero(kept)
    if not len(chosen):
        raise BadFile("nobody came on the days of `arrivals`")
    return [keys[index] for index in chosen[np.argsort(at_s[chosen], kind="stable")].tolist()]


def _known_variants(gathered: Gathered) -> set[str]:
    """The experiment's variants; BadFile where the log has none of them, or nobody of the control."""
    known, there = set(gathered.variants), {visit.variant for visit in gathered.visits.values()}
    if not known & there:
        raise BadFile(
            f"no customer has a variant of the experiment ({', '.join(gathered.variants)}); the log has "
            f"{', '.join(sorted(there)[:5])}: say which is which by `variant: {{column: ..., keys: {{...}}}}`"
        )
    if gathered.control not in there:
        raise BadFile(
            f"nobody in the log got the control {gathered.control!r}, so what offers do cannot be told: "
            "leave `variant` out of the mapping to fit the shop as it is"
        )
    return known


def _window(mapping: FitMapping, day: Ints) -> tuple[int, int]:
    first, last = mapping.period.first, mapping.period.last
    return (
        int(day.min()) if first is None else day_number(first),
        int(day.max()) if last is None else day_number(last),
    )


def _with_orders(log: ShopLog, orders: list[Order], place: dict[str, int], gathered: Gathered) -> ShopLog:
    """The first order within the window of each visit, and the later ones."""
    firsts: dict[int, Order] = {}
    later: list[tuple[int, float]] = []
    history = log.history.copy()
    for order in orders:
        unit = place.get(order.unit)
        if unit is None:
            if order.unit not in gathered.visits:
                gathered.notes["orders of customers without a visit, left out"] += 1
            continue
        since = order.at_s - log.arrival_s[unit]
        if since < 0:
            if since >= -HISTORY_S:
                history[unit] += order.amount - order.cost
        elif unit in firsts:
            later.append((unit, order.at_s))
        elif since <= log.within_s:
            firsts[unit] = order
        else:
            gathered.notes["orders too long after the visit, left out"] += 1
    columns = {
        name: _column(log, firsts, name)
        for name in ("at_s", "amount", "cost", "refund_s", "refunded", "recovered")
    }
    lines = [
        (unit, sku, amount) for unit, order in firsts.items() for sku, amount in order.items.items() if sku
    ]
    codes, skus = coded([sku for _, sku, _ in lines], 10**9) if lines else (np.zeros(0, np.int64), ())
    return replace(
        log,
        order_s=columns.pop("at_s"),
        **columns,
        later_unit=np.array([unit for unit, _ in later], np.int64),
        later_s=np.array([at_s for _, at_s in later]),
        history=history,
        item_unit=np.array([unit for unit, _, _ in lines], np.int64),
        item_sku=codes,
        item_amount=np.array([amount for _, _, amount in lines], float),
        skus=skus,
        notes=tuple(f"{count} {what}" for what, count in sorted(gathered.notes.items())),
    )


def _column(log: ShopLog, firsts: dict[int, Order], name: str) -> Floats:
    column = np.full(len(log), 0.0 if name == "refunded" else np.nan)
    if firsts:
        units = np.fromiter(firsts, np.int64, len(firsts))
        column[units] = [getattr(order, name) for order in firsts.values()]
    return column


def whole_days(log: ShopLog) -> Bools:
    """Which days of the arrivals were watched from midnight to midnight, shape (days,).

    The first is where somebody else came before it or it began quietly; the last is cut by the end.
    """
    starts = (day_number(log.first_day) + np.arange(log.days)) * DAY_S
    _, second = local_days(np.array([log.start_s, log.end_s]), log.zone)
    shift = local_days(np.array([log.end_s]), log.zone)[0][0] * DAY_S + second[1]
    begins = local_days(np.array([log.start_s]), log.zone)[0][0] * DAY_S + second[0]
    # an hour's quiet at night is no cut; a log whose times are days alone ends at the last midnight
    slack = 3 * 3600.0 if log.tells.hours else DAY_S
    return (starts >= begins - slack) & (starts + DAY_S <= shift + slack)
