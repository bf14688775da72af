"""What every variant is really worth in the simulated shop, in closed form."""

from dataclasses import dataclass

from sim.shop.journey import goods_of, recovered_minor
from sim.shop.world import AddOn, Basket, Reaction, Shop


@dataclass(frozen=True, slots=True)
class VariantTruth:
    """Expected values of one variant once everything has matured; money in minor units."""

    conversion_rate: float
    cart_abandonment_rate: float
    take_rate: float | None  # None for a variant that offers nothing
    aov: float
    refund_rate: float
    revenue_per_unit: float  # net of refunds
    margin_per_unit: float


def truth(shop: Shop) -> dict[str, VariantTruth]:
    """The true metrics of every variant, per visitor who reached the checkout.

    With need n ~ U(0, 1), s = P(sees), c = base conversion, a = appeal, p = pressure:
    P(buys) = c (1 - s p / 2), and P(buys and takes) = s c a ((1 - p)/2 + p/3), the integral of
    a n (1 - p (1 - n)) over n. Refunds return the whole order with probability r, or r + regret when
    the offer was taken. Baskets are independent of the rest, so money is a sum over baskets.
    """
    return {key: _variant_truth(shop, shop.reactions[key], add_on) for key, add_on in shop.add_ons.items()}


def _variant_truth(shop: Shop, reaction: Reaction, add_on: AddOn) -> VariantTruth:
    a, p, s, c = reaction.appeal, reaction.pressure, shop.seeing, shop.conversion
    buys = c * (1 - s * p / 2)
    buys_and_takes = s * c * a * ((1 - p) / 2 + p / 3)
    booked = revenue = margin = refunded_orders = 0.0
    for probability, bought, refund in (
        (buys - buys_and_takes, None, shop.refund),
        (buys_and_takes, add_on, min(1.0, shop.refund + reaction.regret)),
    ):
        refunded_orders += probability * refund
        for basket in shop.baskets:
            amount, cost, recovered = _order(shop, basket, bought)
            weight = probability * basket.probability
            booked += weight * amount
            revenue += weight * amount * (1 - refund)
            margin += weight * (amount - cost - refund * (amount - recovered))
    return VariantTruth(
        conversion_rate=buys,
        cart_abandonment_rate=1 - buys,
        take_rate=None if add_on.sku is None else a / 2,
        aov=booked / buys,
        refund_rate=refunded_orders / buys,
        revenue_per_unit=revenue,
        margin_per_unit=margin,
    )


def _order(shop: Shop, basket: Basket, add_on: AddOn | None) -> tuple[int, int, int]:
    goods = goods_of(basket, add_on)
    cost = sum(product.cost_minor for product in goods)
    return sum(product.price_minor for product in goods), cost, recovered_minor(shop, cost)
