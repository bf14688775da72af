"""What the ledger must hold, computed the slow way from the accepted facts alone.

Written from the contract and the definitions, sharing no code with the service: a list of assignments, a
list of events, and for each experiment the vector of every unit that counts. Times are seconds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

DAY = 86_400
PERSON = ("visitor", "customer")


@dataclass(frozen=True)
class Assigned:
    """An assignment that was made."""

    experiment: str
    kind: str
    unit: str
    at: int
    variant: str
    members: tuple[str, ...]
    decision_id: str
    segment: str = ""


@dataclass(frozen=True)
class Happened:
    """An accepted event: what it says, when, whom it names, which decision it belongs to."""

    body: dict[str, Any]
    at: int
    names: frozenset[tuple[str, str]]
    decision: Assigned | None = None

    @property
    def type(self) -> str:
        return self.body["type"]


@dataclass(frozen=True)
class Rules:
    """What an experiment says about counting."""

    key: str
    kind: str
    window: int
    anchor: str = "assignment"
    reassign_after: int | None = None
    metrics: dict[str, tuple[str, int | None]] = field(default_factory=dict)  # key -> event name, window


@dataclass(frozen=True)
class Shop:
    """The store's settings while everything was recorded."""

    time_zone: str
    rates: dict[str, str]  # units of EUR one unit of the currency is worth
    recovered_rate: str
    abandon_after: int


@dataclass
class Balance:
    amount: int
    cost: int | None
    refunded: int
    over: int
    recovered: int
    is_refunded: bool
    is_cancelled: bool


def cells(shop: Shop, rules: Rules, made: list[Assigned], events: list[Happened], now: int) -> dict[Any, Any]:
    """(variant, members, day, segment) -> sums and cross-products over units, zeros left out."""
    found: dict[Any, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
    for place, vector in _units(shop, rules, made, events, now):
        cell = found[place]
        names = sorted(name for name, value in vector.items() if value)
        for i, a in enumerate(names):
            cell[a] += vector[a]
            for b in names[i:]:
                cell[a, b] += vector[a] * vector[b]
    return {place: {k: v for k, v in cell.items() if v} for place, cell in found.items()}


def summary(shop: Shop, events: list[Happened]) -> dict[str, Any]:
    """The store's summary over all time."""
    orders = {e.body["order_id"]: e for e in events if e.type == "order"}
    changes = [e for e in events if e.type in ("refund", "cancel", "order_adjusted")]
    total = dict.fromkeys(("orders", "revenue", "refunded", "over_refunded", "refunded_orders"), 0)
    total["unconverted_orders"] = 0
    for order_id, order in orders.items():
        mine = [e for e in changes if e.body["order_id"] == order_id]
        rate = _rate(shop, order.body)
        if rate is None:
            total["unconverted_orders"] += 1
            continue
        balance = balance_of(shop, order, mine)
        total["orders"] += 1
        total["revenue"] += round(balance.amount * rate)
        total["refunded"] += round(balance.refunded * rate)
        total["over_refunded"] += round(balance.over * rate)
        total["refunded_orders"] += balance.is_refunded
    orphans = [e for e in changes if e.type != "order_adjusted" and e.body["order_id"] not in orders]
    total["orphan_refunds"] = len(orphans)
    total["orphan_refunded"] = sum(e.body.get("amount", 0) for e in orphans)
    some = total["orders"]
    ratios = {"aov": "revenue", "refund_rate": "refunded_orders"}
    return {**total, **{name: total[top] / some if some else None for name, top in ratios.items()}}


def balance_of(shop: Shop, order: Happened, changes: list[Happened]) -> Balance:
    """An order after everything that came later to it."""
    adjusted = [e.body for e in changes if e.type == "order_adjusted"]
    amount = max(0, order.body["amount"] + sum(a.get("amount_delta", 0) for a in adjusted))
    cost = _cost(order.body)
    for delta in (a["cost_delta"] for a in adjusted if "cost_delta" in a):
        cost = (cost or 0) + delta
    refunds = [e.body for e in changes if e.type == "refund" and _is_in_currency_of(order, e)]
    cancelled = any(e.type == "cancel" for e in changes)
    stated = sum(r["amount"] for r in refunds if "amount" in r)
    takes_rest = cancelled or any("amount" not in r for r in refunds)
    refunded = amount if takes_rest else min(amount, stated)
    return Balance(
        amount,
        cost,
        refunded,
        max(0, stated - amount),
        0 if cost is None else _recovered(shop, refunds, cancelled, amount, cost, stated),
        bool(refunds) or cancelled,
        cancelled,
    )


def _recovered(
    shop: Shop, refunds: list[dict[str, Any]], cancelled: bool, amount: int, cost: int, stated: int
) -> int:
    """Stated, or by the rate for the part of the goods that came back; a cancel brings back the rest."""
    rate, back = Fraction(shop.recovered_rate), Fraction(0)
    rest = Fraction(max(0, amount - stated), amount) if amount else Fraction(1)
    rest_rates = [Fraction(1)] if cancelled else []
    for refund in refunds:
        if "cost_recovered" in refund:
            back += refund["cost_recovered"]
        elif "amount" not in refund:
            rest_rates.append(rate)
        elif refund["amount"]:
            back += rate * cost * Fraction(refund["amount"], max(amount, stated))
    back += max(rest_rates, default=Fraction(0)) * cost * rest
    return min(round(back), max(cost, 0))


def _is_in_currency_of(order: Happened, refund: Happened) -> bool:
    """A refund in another currency is refused; one that came before its order counts for nothing."""
    return refund.body.get("currency", order.body["currency"]) == order.body["currency"]


def _cost(order: dict[str, Any]) -> int | None:
    """As stated, else the costs of its items when each has one."""
    items = order.get("items", [])
    if "cost" not in order and items and all("cost" in item for item in items):
        return sum(item["cost"] * item["quantity"] for item in items)
    return order.get("cost")


def _rate(shop: Shop, order: dict[str, Any]) -> Fraction | None:
    """Cents that one minor unit of the order's currency is worth; a yen has no hundredths."""
    if order["currency"] == "EUR":
        return Fraction(1)
    stated = str(order["fx_rate"]) if "fx_rate" in order else shop.rates.get(order["currency"])
    return None if stated is None else Fraction(stated) * (100 if order["currency"] == "JPY" else 1)


def _persons(events: list[Happened]) -> dict[str, str]:
    """id -> customer, for ids that are one with somebody."""
    person: dict[str, str] = {}
    for event in events:
        if event.type == "identify":
            customer = next(id_ for kind, id_ in event.names if kind == "customer")
            person[event.body["anonymous_id"]] = person[customer] = customer
    return person


def _units(shop: Shop, rules: Rules, made: list[Assigned], events: list[Happened], now: int) -> Any:
    person = _persons(events) if rules.kind in PERSON else {}
    clusters: dict[str, list[Assigned]] = defaultdict(list)
    for assigned in made:
        if assigned.experiment == rules.key:
            clusters[person.get(assigned.unit, assigned.unit)].append(assigned)
    for root, enrolments in clusters.items():
        ids = {root} | {id_ for id_, customer in person.items() if customer == root}
        kinds = PERSON if root in person else (rules.kind,)
        mine = [e for e in events if _reaches(rules, e, kinds, ids, enrolments)]
        for group in _periods(rules, enrolments):
            yield _unit(shop, rules, group, mine, events, now)


def _reaches(
    rules: Rules, event: Happened, kinds: tuple[str, ...], ids: set[str], enrolments: list[Assigned]
) -> bool:
    if rules.kind == "request":
        return event.decision in enrolments
    return any(kind in kinds and id_ in ids for kind, id_ in event.names)


def _periods(rules: Rules, enrolments: list[Assigned]) -> list[list[Assigned]]:
    groups: list[list[Assigned]] = []
    for one in sorted(enrolments, key=lambda e: e.at):
        if not groups or (
            rules.reassign_after is not None and one.at - groups[-1][0].at >= rules.reassign_after
        ):
            groups.append([])
        groups[-1].append(one)
    return groups


def _unit(
    shop: Shop, rules: Rules, group: list[Assigned], mine: list[Happened], events: list[Happened], now: int
) -> tuple[tuple[str, tuple[str, ...], str, str], dict[str, int]]:
    first = group[0]
    vector: dict[str, int] = defaultdict(int)
    vector["assigned"] = 1
    vector["crossover"] = int(len({one.variant for one in group}) > 1)
    slots = [e for e in mine if e.decision in group and e.type in ("exposure", "click", "accept")]
    seen = [e.at for e in slots if e.type == "exposure"]
    anchor: int | None = first.at
    if rules.anchor == "exposure":
        anchor = max(first.at, min(seen)) if seen else None
    if anchor is not None:
        end = anchor + rules.window
        vector["units"] = 1
        happened = {e.type for e in slots if e.at < end}
        if "exposure" in happened:
            vector["exposed"] = 1
            vector["clicked"] = int("click" in happened)
            vector["took"] = int("accept" in happened)
        _orders(shop, vector, mine, events, anchor, end)
        _carts(shop, vector, mine, anchor, end, now)
        for e in mine:
            if e.type == "rating" and anchor <= e.at < end:
                vector["ratings"] += 1
                vector["rating_sum"] += round(Fraction(e.body["score"]) / Fraction(e.body["scale"]) * 2**32)
        for key, (name, window) in rules.metrics.items():
            until = end if window is None else anchor + window
            for e in mine:
                if e.type == "custom" and e.body["name"] == name and anchor <= e.at < until:
                    vector[f"{key}:had"] = 1
                    vector[f"{key}:count"] += 1
                    vector[f"{key}:sum"] += round(Fraction(e.body.get("value", 0)) * 2**32)
    at = datetime.fromtimestamp(first.at if anchor is None else anchor, UTC)
    day = at.astimezone(ZoneInfo(shop.time_zone)).date().isoformat()
    return (first.variant, first.members, day, first.segment), dict(vector)


def _orders(
    shop: Shop, vector: dict[str, int], mine: list[Happened], events: list[Happened], anchor: int, end: int
) -> None:
    within_90 = 0
    for order in (e for e in mine if e.type == "order"):
        changes = [
            e
            for e in events
            if e.type in ("refund", "cancel", "order_adjusted")
            and e.body["order_id"] == order.body["order_id"]
        ]
        balance = balance_of(shop, order, changes)
        rate = _rate(shop, order.body)
        margin = None
        if balance.cost is not None and rate is not None:
            margin = round((balance.amount - balance.cost - balance.refunded + balance.recovered) * rate)
        age = order.at - anchor
        if -30 * DAY <= age < 0 and rate is not None:
            then = balance_of(
                shop, order, [e for e in changes if e.type == "order_adjusted" or e.at < anchor]
            )
            if then.cost is not None:
                vector["pre_margin"] += round(
                    (then.amount - then.cost - then.refunded + then.recovered) * rate
                )
        if age < 0:
            continue
        within_90 += age < 90 * DAY
        for days in (30, 90, 180):
            vector[f"ltv_{days}d"] += (margin or 0) if age < days * DAY else 0
            vector[f"ltv_{days}d_unconverted"] += rate is None and age < days * DAY
            is_unknown = rate is not None and balance.cost is None
            vector[f"ltv_{days}d_unknown_cost"] += is_unknown and age < days * DAY
        if order.at >= end:
            continue
        vector["converted"] = 1
        vector["orders"] += 1
        vector["refunded_orders"] += balance.is_refunded
        vector["cancelled_orders"] += balance.is_cancelled
        if rate is None:
            vector["unconverted_orders"] += 1
            continue
        vector["revenue"] += round(balance.amount * rate)
        vector["refunded_value"] += round(balance.refunded * rate)
        vector["margin"] += margin or 0
        vector["unknown_cost_orders"] += balance.cost is None
        if balance.cost is not None:
            vector["refund_loss"] += round((balance.refunded - balance.recovered) * rate)
    vector["buyer_90d"] = int(within_90 >= 1)
    vector["repeat_90d"] = int(within_90 >= 2)
    vector["revenue_capped"] = vector["revenue"]
    vector["refunded_value_capped"] = vector["refunded_value"]
    vector["net_revenue_capped"] = vector["revenue"] - vector["refunded_value"]
    vector["margin_capped"] = vector["margin"]


def _carts(shop: Shop, vector: dict[str, int], mine: list[Happened], anchor: int, end: int, now: int) -> None:
    seen = [e for e in mine if e.type in ("cart", "checkout_started", "abandonment")]
    orders = [e for e in mine if e.type == "order"]
    for cart_id in {e.body["cart_id"] for e in seen}:
        same = [e for e in seen if e.body["cart_id"] == cart_id]
        opened = min(e.at for e in same)
        if not anchor <= opened < end:
            continue
        due = opened + shop.abandon_after
        closed = any(
            o.at < due and (o.body.get("cart_id") == cart_id or ("cart_id" not in o.body and o.at >= opened))
            for o in orders
        )
        given_up = due <= now or any(e.type == "abandonment" for e in same)
        vector["carts"] += 1
        vector["abandoned"] += given_up and not closed


def local_midnight(day: str, time_zone: str) -> int:
    """The first second of a day, for tests that need edges."""
    return int(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(time_zone)).timestamp())


def wire_time(at: int) -> str:
    """Seconds as RFC 3339."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)).isoformat()
