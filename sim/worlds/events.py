"""The events a shop would send of one customer, as the wire has them, with the noise of its world."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sim.worlds.customers import Customers, Row
from sim.worlds.offers import Effect, Product
from sim.worlds.outcomes import NEVER, Outcomes
from sim.worlds.people import RATING_SCALE
from sim.worlds.sending import SLOTS, sendings
from sim.worlds.world import World

Event = dict[str, Any]
Timeline = list[tuple[datetime, Event]]

KINDS = {
    name: SLOTS.index(field)
    for name, field in {
        "exposure": "exposed_us",
        "click": "clicked_us",
        "accept": "took_us",
        "decline": "declined_us",
        "cart": "cart_us",
        "abandonment": "abandoned_us",
        "order": "order_us",
        "refund": "refund_us",
        "rating": "rated_us",
    }.items()
}
"""The place of each event's name, as it is told apart within a customer, among the kinds that are sent."""
AGAIN = "again"
"""Begins the names of later orders, which end in their period, from 1."""

HISTORY_AGO = timedelta(days=10)
"""When before the arrival the earlier order was, where there was one."""


def events_of(
    world: World,
    customers: Customers,
    outcomes: Outcomes,
    i: int,
    *,
    unit_id: str,
    decision_id: str | None,
    at: datetime,
) -> Timeline:
    """All events of customer i who arrived at `at`, each with the instant at which it is sent, in that order.

    It is sent when it happens, or late, and some twice: the world's noise, the same for the same customer.
    `occurred_at` is when it happened. Without a decision (nothing was recorded) nothing names one.
    """
    happened = _answers(outcomes, i, decision_id) if decision_id is not None else []
    happened += _cart(world, outcomes, i, unit_id)
    happened += _orders(world, customers, outcomes, i, unit_id)
    if outcomes.rated_us[i] != NEVER:
        score = {"unit_id": unit_id, "score": int(outcomes.rating[i]), "scale": RATING_SCALE}
        happened.append((int(outcomes.rated_us[i]), "rating", {"type": "rating", **score}))
    kinds = len(SLOTS) + len(outcomes.repeat_us)
    sent = sendings(world.noise, customers.u[Row.NOISE, i : i + 1], kinds)
    timeline: Timeline = []
    for after_us, name, event in happened:
        when = at + timedelta(microseconds=after_us)
        said = {"event_id": f"{unit_id}-{name}", "occurred_at": when.isoformat(), **event}
        kind = KINDS[name] if name in KINDS else len(SLOTS) + int(name.removeprefix(AGAIN)) - 1
        first = when + timedelta(microseconds=int(sent.late_us[kind, 0]))
        timeline.append((first, said))
        if sent.again_us[kind, 0]:
            timeline.append((first + timedelta(microseconds=int(sent.again_us[kind, 0])), said))
    return sorted(timeline, key=lambda entry: entry[0])


def history_of(world: World, customers: Customers, i: int, *, unit_id: str, at: datetime) -> Timeline:
    """The order customer i made in the 30 days before, if any: what the pre-period margin is made of."""
    margin = int(customers.pre_margin_minor[i])
    if not margin:
        return []
    when = at - HISTORY_AGO
    order: Event = {
        "event_id": f"{unit_id}-before",
        "occurred_at": when.isoformat(),
        "type": "order",
        "unit_id": unit_id,
        "order_id": f"o-{unit_id}-before",
        "amount": 2 * margin,
        "cost": margin,
        "currency": world.currency,
    }
    return [(when, order)]


_Happened = list[tuple[int, str, Event]]
"""Microseconds after the arrival, a name of its own within the customer, and the event."""


def _answers(outcomes: Outcomes, i: int, decision_id: str) -> _Happened:
    slots = (
        ("exposure", outcomes.exposed_us),
        ("click", outcomes.clicked_us),
        ("accept", outcomes.took_us),
        ("decline", outcomes.declined_us),
    )
    return [
        (int(times[i]), kind, {"type": kind, "decision_id": decision_id})
        for kind, times in slots
        if times[i] != NEVER
    ]


def _cart(world: World, outcomes: Outcomes, i: int, unit_id: str) -> _Happened:
    if outcomes.cart_us[i] == NEVER:
        return []
    kind = "checkout_started" if world.touchpoint == "checkout" else "cart"
    who = {"unit_id": unit_id, "cart_id": f"c-{unit_id}"}
    happened: _Happened = [(int(outcomes.cart_us[i]), "cart", {"type": kind, **who})]
    if outcomes.abandoned_us[i] != NEVER:
        happened.append((int(outcomes.abandoned_us[i]), "abandonment", {"type": "abandonment", **who}))
    return happened


def _orders(world: World, customers: Customers, outcomes: Outcomes, i: int, unit_id: str) -> _Happened:
    if outcomes.order_us[i] == NEVER:
        return []
    effect = world.effects[outcomes.shown[i]]
    taken = effect if outcomes.took_us[i] != NEVER else None
    skus = world.baskets[customers.basket[i]].skus
    order_id = f"o-{unit_id}"
    money = int(outcomes.amount_minor[i]), int(outcomes.cost_minor[i])
    first = _order(world, unit_id, "", money, goods_of(world, skus, taken))
    happened: _Happened = [(int(outcomes.order_us[i]), "order", first)]
    if outcomes.refund_us[i] != NEVER:
        refund = {
            "type": "refund",
            "order_id": order_id,
            "refund_id": "r-1",
            "amount": int(outcomes.refunded_minor[i]),
            "cost_recovered": int(outcomes.recovered_minor[i]),
        }
        happened.append((int(outcomes.refund_us[i]), "refund", refund))
    money = int(outcomes.repeat_amount_minor[i]), int(outcomes.repeat_cost_minor[i])
    for period, after_us in enumerate(outcomes.repeat_us[:, i].tolist(), start=1):
        if after_us != NEVER:
            again = _order(world, unit_id, f"-again{period}", money, goods_of(world, skus, None))
            happened.append((after_us, f"{AGAIN}{period}", again))
    return happened


def goods_of(world: World, skus: Sequence[str], taken: Effect | None) -> list[Product]:
    """The goods of an order: the basket, with what was taken beside it or for what it replaces."""
    products = {product.sku: product for product in world.products}
    kept = [products[sku] for sku in skus if taken is None or sku != taken.replaces]
    if taken is None or taken.sku is None:
        return kept
    return [*kept, Product(taken.sku, taken.price_minor, taken.cost_minor, taken.category)]


def _order(
    world: World, unit_id: str, suffix: str, money: tuple[int, int], goods: Sequence[Product]
) -> Event:
    """An order: what its goods cost is divided among them by their list prices, to the last minor unit."""
    amount, cost = money
    prices = _divided(amount, [product.price_minor for product in goods])
    costs = _divided(cost, [product.cost_minor for product in goods])
    items = [
        {"sku": product.sku, "price": price, "quantity": 1, "cost": part}
        for product, price, part in zip(goods, prices, costs, strict=True)
    ]
    return {
        "type": "order",
        "unit_id": unit_id,
        "order_id": f"o-{unit_id}{suffix}",
        # A later order must not close a cart of the first visit, as one that names no cart would
        "cart_id": f"c-{unit_id}{suffix}",
        "amount": amount,
        "cost": cost,
        "currency": world.currency,
        "items": items,
    }


def _divided(total: int, by: Sequence[int]) -> list[int]:
    """`total` in whole parts in proportion to `by`; evenly where all of it is 0."""
    weights = by if sum(by) else [1] * len(by)
    whole, parts, before = sum(weights), [], 0
    for index in range(len(weights)):
        until = total * sum(weights[: index + 1]) // whole
        parts.append(until - before)
        before = until
    return parts
