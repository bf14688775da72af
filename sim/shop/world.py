"""The shop and its shoppers: what is for sale, and how people react to an offer at checkout.

A shopper is drawn once, chances included, before any offer is made. So what the same shopper does under
every variant is settled in advance (potential outcomes), and `journey` needs no randomness of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Product:
    """Something for sale; price and cost in minor units."""

    sku: str
    price_minor: int
    cost_minor: int


@dataclass(frozen=True, slots=True)
class Basket:
    """What stands in the cart at checkout, and how often."""

    products: tuple[Product, ...]
    probability: float

    @property
    def price_minor(self) -> int:
        """The sum of the prices."""
        return sum(product.price_minor for product in self.products)

    @property
    def cost_minor(self) -> int:
        """The sum of the costs of goods."""
        return sum(product.cost_minor for product in self.products)


@dataclass(frozen=True, slots=True)
class Reaction:
    """How shoppers react to one variant.

    With need n in [0, 1]: P(take | seen) = appeal * n, and seeing the offer multiplies the chance to
    buy at all by 1 - pressure * (1 - n): the less one needs it, the more it annoys.
    """

    appeal: float = 0.0
    pressure: float = 0.0
    regret: float = 0.0  # added to the refund probability of an order that took the offer


@dataclass(frozen=True, slots=True)
class AddOn:
    """What taking the offer adds to an order, in minor units; nothing for the control."""

    sku: str | None = None
    price_minor: int = 0
    cost_minor: int = 0
    replaces: str | None = None  # an upsell takes the place of this product


@dataclass(frozen=True, slots=True)
class Shop:
    """The world: baskets, base rates, and every variant's add-on and reaction."""

    currency: str
    baskets: tuple[Basket, ...]
    add_ons: Mapping[str, AddOn]
    reactions: Mapping[str, Reaction]
    conversion: float = 0.5
    seeing: float = 0.9
    refund: float = 0.05
    recovered: float = 0.8  # share of the cost of goods that a refund brings back
    mobile: float = 0.6
    refund_delay_max: timedelta = timedelta(days=6)


@dataclass(frozen=True, slots=True)
class Shopper:
    """One visitor with the chances already drawn: each `u_...` is uniform on [0, 1)."""

    unit_id: str
    basket: Basket
    device: str
    need: float
    u_see: float
    u_take: float
    u_buy: float
    u_refund: float
    buy_after: timedelta
    refund_after: timedelta


def draw_shoppers(shop: Shop, n: int, *, prefix: str, rng: np.random.Generator) -> list[Shopper]:
    """Draw n shoppers named `prefix-0`, `prefix-1`, and so on."""
    chosen = rng.choice(len(shop.baskets), size=n, p=[basket.probability for basket in shop.baskets])
    chances: list[list[float]] = rng.random((n, 8)).tolist()
    return [
        Shopper(
            unit_id=f"{prefix}-{index}",
            basket=shop.baskets[basket],
            device="mobile" if u[0] < shop.mobile else "desktop",
            need=u[1],
            u_see=u[2],
            u_take=u[3],
            u_buy=u[4],
            u_refund=u[5],
            buy_after=timedelta(seconds=60 + int(u[6] * 3 * 3600)),
            refund_after=timedelta(days=1) + u[7] * (shop.refund_delay_max - timedelta(days=1)),
        )
        for index, (basket, u) in enumerate(zip(chosen.tolist(), chances, strict=True))
    ]


SHOE = Product("SHOE-1", 8900, 5300)
JACKET = Product("JACKET-4", 6900, 3600)
BOTTLE = Product("BOTTLE-2", 1500, 500)

BASKETS = (Basket((SHOE,), 0.5), Basket((SHOE, JACKET), 0.3), Basket((SHOE, BOTTLE), 0.2))

REACTIONS = {
    "none": Reaction(),
    "socks": Reaction(appeal=0.7, pressure=0.01, regret=0.0),  # good: wanted, cheap, not pushy
    "pro-shoe": Reaction(appeal=0.5, pressure=0.16, regret=0.35),  # toxic: dearer orders that come back
    "care-kit": Reaction(appeal=0.3, pressure=0.02, regret=0.0),  # neutral: earns what it annoys away
}


def shop_of(document: Mapping[str, Any]) -> Shop:
    """The demo's shop around an experiment document: prices and costs are the document's own."""
    add_ons: dict[str, AddOn] = {}
    for variant in document["variants"]:
        offer = variant["offer"]
        add_ons[variant["key"]] = AddOn(
            sku=offer.get("sku"),
            price_minor=offer.get("price", 0),
            cost_minor=offer.get("cost", 0),
            replaces=SHOE.sku if offer["kind"] == "upsell" else None,
        )
    return Shop(
        currency=document["currency"],
        baskets=BASKETS,
        add_ons=add_ons,
        reactions={key: REACTIONS[key] for key in add_ons},
    )
