"""What one shopper does under one variant, and the events a shop would send of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sim.shop.world import AddOn, Basket, Product, Shop, Shopper

SEE_AFTER = timedelta(seconds=5)
ANSWER_AFTER = timedelta(seconds=30)
ABANDON_AFTER = timedelta(hours=6)

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Journey:
    """What happened, true values: money in minor units, the refund as it will come."""

    sees: bool
    takes: bool
    buys: bool
    refunds: bool
    amount_minor: int
    cost_minor: int
    refunded_minor: int
    recovered_minor: int

    @property
    def margin_minor(self) -> int:
        """Amount - cost - refund + recovered cost, 0 without an order."""
        return self.amount_minor - self.cost_minor - self.refunded_minor + self.recovered_minor


def journey(shop: Shop, shopper: Shopper, variant: str) -> Journey:
    """What this shopper does when this variant is shown; the same shopper always does the same."""
    reaction = shop.reactions[variant]
    sees = shopper.u_see < shop.seeing
    takes = sees and shopper.u_take < reaction.appeal * shopper.need
    annoyed = reaction.pressure * (1 - shopper.need) if sees else 0.0
    buys = shopper.u_buy < shop.conversion * (1 - annoyed)
    if not buys:
        return Journey(sees, takes, buys, False, 0, 0, 0, 0)
    goods = goods_of(shopper.basket, shop.add_ons[variant] if takes else None)
    amount, cost = sum(g.price_minor for g in goods), sum(g.cost_minor for g in goods)
    refunds = shopper.u_refund < shop.refund + (reaction.regret if takes else 0.0)
    return Journey(
        sees,
        takes,
        buys,
        refunds,
        amount,
        cost,
        refunded_minor=amount if refunds else 0,
        recovered_minor=recovered_minor(shop, cost) if refunds else 0,
    )


def goods_of(basket: Basket, add_on: AddOn | None) -> tuple[Product, ...]:
    """The goods of an order: the basket, with the add-on beside it or in the place of what it replaces."""
    if add_on is None or add_on.sku is None:
        return basket.products
    kept = tuple(product for product in basket.products if product.sku != add_on.replaces)
    return (*kept, Product(add_on.sku, add_on.price_minor, add_on.cost_minor))


def recovered_minor(shop: Shop, cost_minor: int) -> int:
    """The cost of goods that comes back with a returned order."""
    return round(shop.recovered * cost_minor)


def events_of(
    shop: Shop, shopper: Shopper, variant: str, decision_id: str | None, at: datetime
) -> list[tuple[datetime, Event]]:
    """The events of a journey that began with an assignment at `at`, each with its instant.

    Answers name their decision; without one (nothing was recorded) only carts and orders are sent.
    """
    happened = journey(shop, shopper, variant)
    who, cart_id, order_id = shopper.unit_id, f"c-{shopper.unit_id}", f"o-{shopper.unit_id}"
    timeline: list[tuple[datetime, Event]] = [
        (at, {"type": "checkout_started", "unit_id": who, "cart_id": cart_id})
    ]
    if decision_id is not None and happened.sees:
        timeline.append((at + SEE_AFTER, {"type": "exposure", "decision_id": decision_id}))
        if shop.reactions[variant].appeal:
            answer = "accept" if happened.takes else "decline"
            timeline.append((at + ANSWER_AFTER, {"type": answer, "decision_id": decision_id}))
    if not happened.buys:
        timeline.append((at + ABANDON_AFTER, {"type": "abandonment", "unit_id": who, "cart_id": cart_id}))
    else:
        bought_at = at + shopper.buy_after
        goods = goods_of(shopper.basket, shop.add_ons[variant] if happened.takes else None)
        timeline.append((bought_at, order_event(shop.currency, who, order_id, cart_id, goods)))
        if happened.refunds:
            timeline.append(
                (
                    bought_at + shopper.refund_after,
                    {
                        "type": "refund",
                        "order_id": order_id,
                        "refund_id": "r-1",
                        "amount": happened.refunded_minor,
                        "cost_recovered": happened.recovered_minor,
                    },
                )
            )
    return [
        (when, {"event_id": f"{who}-{event['type']}", "occurred_at": when.isoformat(), **event})
        for when, event in timeline
    ]


def order_event(
    currency: str, unit_id: str, order_id: str, cart_id: str | None, goods: tuple[Product, ...]
) -> Event:
    """An order of these goods: amount and cost are their sums."""
    event: Event = {
        "type": "order",
        "unit_id": unit_id,
        "order_id": order_id,
        "amount": sum(product.price_minor for product in goods),
        "cost": sum(product.cost_minor for product in goods),
        "currency": currency,
        "items": [{"sku": g.sku, "price": g.price_minor, "quantity": 1, "cost": g.cost_minor} for g in goods],
    }
    return event if cart_id is None else {**event, "cart_id": cart_id}
