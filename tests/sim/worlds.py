"""A small world in which everything happens, for the tests of worlds."""

from datetime import date

from experiments.model import OfferKind
from sim.worlds.world import (
    Basket,
    Delay,
    Delays,
    Effect,
    Grid,
    Noise,
    Product,
    Reaction,
    Repeats,
    Season,
    Segment,
    Session,
    Shock,
    Stage,
    World,
)

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

WORLD = World(
    currency="EUR",
    start=date(2026, 3, 2),
    customers_per_day=1000,
    touchpoint="checkout",
    products=(
        Product("SHOE", 8900, 5300, "shoes"),
        Product("JACKET", 6900, 3600, "clothes"),
        Product("BOTTLE", 1500, 500),
    ),
    baskets=(Basket(("SHOE",), 0.5), Basket(("SHOE", "JACKET"), 0.3), Basket(("SHOE", "BOTTLE"), 0.2)),
    segments=(
        Segment("new", 0.5, 0.4, budget=Grid((9000, 30000), (0.4, 0.6)), rates=0.3, fatigue=0.05),
        Segment(
            "loyal",
            0.3,
            0.7,
            need=Grid((0.3, 0.9), (0.5, 0.5)),
            order_value=1.3,
            refund=0.03,
            repeat=0.3,
            rates=0.5,
            rating=Grid((5, 8, 10), (0.1, 0.4, 0.5)),
            history=0.6,
            history_margin_minor=4000,
        ),
        Segment(
            "price_sensitive",
            0.2,
            0.3,
            sensitivity=Grid((1, 2, 4), (0.3, 0.4, 0.3)),
            budget=Grid((8000, 12000), (0.5, 0.5)),
            abandonment=0.8,
            refund=0.1,
            history=0.1,
        ),
    ),
    effects=(
        Effect("none"),
        Effect(
            "socks",
            OfferKind.CROSS_SELL,
            "SOCK",
            1290,
            410,
            reaction=Reaction(appeal=0.9, pressure=0.02, clicks=0.1, rating=0.3),
            novelty_days=20,
        ),
        Effect(
            "pro",
            OfferKind.UPSELL,
            "SHOE-PRO",
            12900,
            7400,
            "shoes",
            replaces="SHOE",
            reaction=Reaction(
                appeal=0.9, pressure=0.3, regret=0.3, rating=-1.5, repeat=-0.2, abandonment=-0.1
            ),
        ),
        Effect(
            "cheaper",
            OfferKind.DOWNSELL,
            "SHOE-LITE",
            6900,
            4400,
            replaces="SHOE",
            reaction=Reaction(appeal=0.4, pressure=-0.05, rescue=0.2, repeat=0.1, rating=0.5),
            by_segment={"price_sensitive": Reaction(appeal=0.8, rescue=0.4, clicks=0.3)},
            novelty_days=30,
        ),
        Effect(
            "bundle",
            OfferKind.BUNDLE,
            "CARE",
            2500,
            1200,
            discount=0.1,
            offers=3,
            reaction=Reaction(appeal=0.7, pressure=0.05),
            arrives=5,
        ),
    ),
    session=Session((Stage("product_page", 0.8, 1), Stage("cart", 0.6, 2), Stage("checkout")), seeing=0.85),
    season=Season(
        weekday_traffic=(1, 1, 1, 1, 1.2, 1.4, 0.6),
        weekday_conversion=(1, 1, 1, 1, 0.95, 0.9, 1.05),
        monthly_traffic=(0.8, 0.8, 0.9, 1, 1, 1, 0.9, 0.9, 1, 1, 1.3, 1.5),
        monthly_conversion=(1, 1, 1, 1, 1, 1, 0.9, 0.9, 1, 1, 1.1, 1.2),
        shocks=(
            Shock(10, 12, traffic=3, conversion=1.3, order_value=1.2, mix={"price_sensitive": 3}),
            Shock(12, 20, refunds=2),
        ),
    ),
    delays=Delays(
        order=Delay((60, HOUR_S, DAY_S, 3 * DAY_S), (0.7, 0.2, 0.1)),
        refund=Delay((HOUR_S, 5 * DAY_S, 30 * DAY_S), (0.5, 0.5)),
        rating=Delay((DAY_S, 4 * DAY_S, 9 * DAY_S), (0.6, 0.4)),
    ),
    repeats=Repeats(after_days=4, every_days=25, times=7),
    noise=Noise(bots=0.08, bots_see=0.5, bots_click=0.7),
    order_value_cv=0.6,
)
