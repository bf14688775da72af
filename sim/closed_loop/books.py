"""What the ledger must add up to, by the contract alone: our own counters of what was acknowledged.

Nothing here is the core's or the service's, so that both can only agree by both being right. Every event
that was acknowledged touches one unit; before the counters are read, what such a unit had put in is taken
out and what it comes to now is put in, so that events count alike in whatever order they come. Times are
microseconds since 1970, money is minor units.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

DAY_US = 86_400_000_000
HORIZONS = (("ltv_30d", 30 * DAY_US), ("ltv_90d", 90 * DAY_US), ("ltv_180d", 180 * DAY_US))
REPEAT_US = 90 * DAY_US
FIELDS = (
    *("assigned", "units", "exposed", "clicked", "took", "converted", "orders", "revenue"),
    *("refunded_orders", "refunded", "margin", "carts", "abandoned", "ratings", "rating_points"),
    *("buyers", "repeats", *(name for name, _ in HORIZONS)),
)
"""What is counted of a variant; `rating_points` are hundredths of the scale."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLOTS = ("exposure", "click", "accept", "decline")
_CARTS = ("cart", "checkout_started", "abandonment")


def micros(at: datetime) -> int:
    """An instant in microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the experiment and the store decides what counts."""

    window_us: int
    abandon_us: int
    is_anchored_by_exposure: bool


@dataclass(slots=True)
class Order:
    """An order and what came back of it; `at_us` is None until it is known itself."""

    at_us: int | None = None
    cart_id: str | None = None
    amount: int = 0
    cost: int = 0
    refunds: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def refunded(self) -> int:
        """The effective refund."""
        return min(self.amount, sum(amount for amount, _ in self.refunds))

    def margin(self) -> int:
        """Amount - cost - effective refund + recovered cost."""
        recovered = min(self.cost, sum(back for _, back in self.refunds))
        return self.amount - self.cost - self.refunded() + recovered


@dataclass(slots=True)
class Unit:
    """Whom the service assigned, and all that was acknowledged of it."""

    variant: str | None = None  # None: asked, and not enrolled
    decision_id: str | None = None
    at_us: int = 0
    slots: dict[str, int] = field(default_factory=dict[str, int])  # the earliest of each type
    orders: dict[str, Order] = field(default_factory=dict[str, Order])
    carts: dict[str, int] = field(default_factory=dict[str, int])  # the first sight of each
    given_up: set[str] = field(default_factory=set[str])
    ratings: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    event_ids: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    counted: tuple[int, ...] | None = None


class Books:
    """Units and counters of one experiment."""

    def __init__(self, rules: Rules, variants: Iterable[str]) -> None:
        self._rules = rules
        self.units: dict[str, Unit] = {}
        self._counters: dict[str, list[int]] = {key: [0] * len(FIELDS) for key in variants}
        self.events: set[str] = set()
        self.restating = 0
        """Events acknowledged after the window of their unit had closed, of a time within it."""
        self._unit_of: dict[str, str] = {}  # by decision and by order
        self._touched: set[str] = set()
        self._timers: list[tuple[int, str, str]] = []

    def assigned(self, unit_id: str, variant: str | None, decision_id: str | None, at_us: int) -> None:
        """Note the answer to an ask of a unit that had no assignment."""
        unit = self.units.setdefault(unit_id, Unit())
        unit.variant, unit.decision_id, unit.at_us = variant, decision_id, at_us
        if decision_id is not None:
            self._unit_of[decision_id] = unit_id
        self._touched.add(unit_id)

    def decision_of(self, unit_id: str) -> str | None:
        """The decision of a unit; None while it has none."""
        unit = self.units.get(unit_id)
        return None if unit is None else unit.decision_id

    def acknowledged(self, event: Mapping[str, Any], now_us: int) -> None:
        """Note an event that was accepted, unless it is known already."""
        event_id = event["event_id"]
        if event_id in self.events:
            return
        self.events.add(event_id)
        unit_id = self._whose(event)
        unit = self.units.setdefault(unit_id, Unit())
        unit.event_ids.append((event_id, event.get("order_id")))
        at_us = micros(datetime.fromisoformat(event["occurred_at"]))
        self._note(unit, unit_id, event, at_us)
        self._touched.add(unit_id)
        if unit.variant is not None:
            end_us = unit.at_us + self._rules.window_us
            self.restating += unit.at_us <= at_us < end_us <= now_us

    def settle(self, now_us: int) -> None:
        """Give up the carts whose time is up, as the service does when its clock is set."""
        while self._timers and self._timers[0][0] <= now_us:
            _, unit_id, cart_id = heapq.heappop(self._timers)
            self.units[unit_id].given_up.add(cart_id)
            self._touched.add(unit_id)

    def counts(self) -> dict[str, dict[str, int]]:
        """The counters of every variant by name."""
        for unit_id in self._touched:
            unit = self.units[unit_id]
            if unit.variant is not None:
                self._count(unit, self._counters[unit.variant])
        self._touched.clear()
        return {key: dict(zip(FIELDS, sums, strict=True)) for key, sums in self._counters.items()}

    def events_of(self, unit_id: str) -> set[str]:
        """The events that the ledger must name with a unit: a refund whose order has not come is nobody's."""
        unit = self.units[unit_id]
        missing = {order_id for order_id, order in unit.orders.items() if order.at_us is None}
        return {event_id for event_id, order_id in unit.event_ids if order_id not in missing}

    def totals(self) -> dict[str, int]:
        """The store's orders, whosever and whenever: what its summary says."""
        total = dict.fromkeys(("orders", "revenue", "refunded", "refunded_orders"), 0)
        total |= {"orphan_refunds": 0, "orphan_refunded": 0}
        for unit in self.units.values():
            for order in unit.orders.values():
                if order.at_us is None:
                    total["orphan_refunds"] += len(order.refunds)
                    total["orphan_refunded"] += sum(amount for amount, _ in order.refunds)
                    continue
                total["orders"] += 1
                total["revenue"] += order.amount
                total["refunded"] += order.refunded()
                total["refunded_orders"] += bool(order.refunds)
        return total

    def _whose(self, event: Mapping[str, Any]) -> str:
        if "unit_id" in event:
            unit_id = event["unit_id"]
            if "order_id" in event:
                self._unit_of[event["order_id"]] = unit_id
            return unit_id
        if "decision_id" in event:
            return self._unit_of[event["decision_id"]]
        # A refund names its order alone, which may come later: our orders are named after their units.
        order_id = event["order_id"]
        return self._unit_of.get(order_id) or order_id.removeprefix("o-")

    def _note(self, unit: Unit, unit_id: str, event: Mapping[str, Any], at_us: int) -> None:
        kind = event["type"]
        if kind in _SLOTS:
            unit.slots[kind] = min(at_us, unit.slots.get(kind, at_us))
        elif kind in _CARTS:
            cart_id = event["cart_id"]
            if kind == "abandonment":
                unit.given_up.add(cart_id)
            opened_us = unit.carts[cart_id] = min(at_us, unit.carts.get(cart_id, at_us))
            heapq.heappush(self._timers, (opened_us + self._rules.abandon_us, unit_id, cart_id))
        elif kind == "order":
            order = unit.orders.setdefault(event["order_id"], Order())
            order.at_us, order.cart_id = at_us, event.get("cart_id")
            order.amount, order.cost = event["amount"], event["cost"]
        elif kind == "refund":
            order = unit.orders.setdefault(event["order_id"], Order())
            order.refunds.append((event["amount"], event["cost_recovered"]))
        elif kind == "rating":
            unit.ratings.append((at_us, 100 * event["score"] // event["scale"]))
        else:
            raise AssertionError(f"no world sends {kind}")

    def _count(self, unit: Unit, counters: list[int]) -> None:
        """Take the unit out of the counters of its variant and put it in as it is now."""
        now, before = self._of(unit), unit.counted or (0,) * len(FIELDS)
        if now != before:
            for place, (new, old) in enumerate(zip(now, before, strict=True)):
                counters[place] += new - old
            unit.counted = now

    def _of(self, unit: Unit) -> tuple[int, ...]:
        """What a unit comes to, in the order of `FIELDS`."""
        anchor_us: int | None = unit.at_us
        if self._rules.is_anchored_by_exposure:
            seen_us = unit.slots.get("exposure")
            anchor_us = None if seen_us is None else max(unit.at_us, seen_us)
        if anchor_us is None:
            return (1, *(0 for _ in FIELDS[1:]))
        end_us = anchor_us + self._rules.window_us
        saw, clicked, took = (unit.slots.get(kind, end_us) < end_us for kind in _SLOTS[:3])
        since = [
            (order.at_us - anchor_us, order) for order in unit.orders.values() if order.at_us is not None
        ]
        later = [(age_us, order) for age_us, order in since if age_us >= 0]
        inside = [order for age_us, order in later if age_us < self._rules.window_us]
        carts = [key for key, at_us in unit.carts.items() if anchor_us <= at_us < end_us]
        ratings = [points for at_us, points in unit.ratings if anchor_us <= at_us < end_us]
        soon = sum(age_us < REPEAT_US for age_us, _ in later)
        return (
            *(1, 1, saw, saw and clicked, saw and took),
            *(bool(inside), len(inside), sum(order.amount for order in inside)),
            sum(bool(order.refunds) for order in inside),
            sum(order.refunded() for order in inside),
            sum(order.margin() for order in inside),
            *(len(carts), sum(self._is_given_up(unit, key) for key in carts)),
            *(len(ratings), sum(ratings)),
            *(soon >= 1, soon >= 2),
            *(sum(o.margin() for age_us, o in later if age_us < until_us) for _, until_us in HORIZONS),
        )

    def _is_given_up(self, unit: Unit, cart_id: str) -> bool:
        """Whether its time was up before an order came that names it, or that names none and came later."""
        opened_us = unit.carts[cart_id]
        until_us = opened_us + self._rules.abandon_us
        orders = [(order.at_us, order.cart_id) for order in unit.orders.values()]
        is_ordered = any(
            at_us is not None
            and at_us < until_us
            and (named == cart_id or (named is None and at_us >= opened_us))
            for at_us, named in orders
        )
        return cart_id in unit.given_up and not is_ordered
