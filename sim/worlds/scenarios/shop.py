"""The shop of the named scenarios: running shoes at checkout, and the experiment it would set up."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from experiments.model import Experiment, Guardrail, OfferKind, PolicyKind, PolicySettings
from sim.worlds.scenario import variants_of
from sim.worlds.timing import DAY_S
from sim.worlds.world import Basket, Delay, Delays, Effect, Grid, Product, Reaction, Season, Segment, World

CURRENCY = "EUR"
CONTROL = Effect("none")

SEGMENTS = (
    Segment(
        "new",
        share=0.45,
        conversion=0.48,
        budget=Grid((14_000, 40_000), (0.3, 0.7)),
        history=0.0,
    ),
    Segment(
        "loyal",
        share=0.30,
        conversion=0.62,
        need=Grid((0.2, 0.5, 0.9), (0.3, 0.4, 0.3)),
        sensitivity=Grid((0.2, 1.0), (0.5, 0.5)),
        fatigue=0.01,
        order_value=1.2,
        refund=0.04,
        repeat=0.3,
        rates=0.2,
        history=0.5,
        history_margin_minor=3_500,
    ),
    Segment(
        "price_sensitive",
        share=0.25,
        conversion=0.40,
        sensitivity=Grid((1.5, 3.0), (0.5, 0.5)),
        budget=Grid((9_500, 17_000), (0.5, 0.5)),
        fatigue=0.03,
        order_value=0.9,
        refund=0.06,
        history=0.2,
        history_margin_minor=1_500,
    ),
)

WEEK = Season(
    weekday_traffic=(1.0, 0.95, 0.95, 1.0, 1.05, 1.1, 0.95),
    weekday_conversion=(1.0, 1.0, 1.0, 1.0, 1.02, 0.98, 1.0),
)

DELAYS = Delays(refund=Delay((0.25 * DAY_S, 2 * DAY_S, 6 * DAY_S), (0.6, 0.4)))
"""Refunds come before the attribution window closes, as a shop with a guardrail on them should have it."""

GUARDRAILS = (
    Guardrail("conversion_rate", warn=0.02, throttle=0.05, kill=0.10),
    Guardrail("refund_rate", warn=0.15, throttle=0.30, kill=0.60),
    Guardrail("cart_abandonment_rate", warn=0.02, throttle=0.05, kill=0.10),
)

POLICY = PolicySettings(
    kind=PolicyKind.THOMPSON, control_share=0.15, floor=0.02, cadence=timedelta(days=1), burn_in=400
)


def socks(variant: str = "socks", *, appeal: float = 0.9, **changes: Any) -> Effect:
    """The offer that is good for everybody: cheap, wanted, not pushy. `changes` are fields of `Effect`."""
    effect = Effect(
        variant,
        OfferKind.CROSS_SELL,
        "SOCK-3",
        1_990,
        490,
        "clothes",
        reaction=Reaction(appeal=appeal, pressure=0.01, clicks=0.05),
    )
    return replace(effect, **changes)


def shop(effects: Sequence[Effect], **changes: Any) -> World:
    """The shop with these variants; `changes` are fields of `World`."""
    world = World(
        currency=CURRENCY,
        start=date(2026, 3, 2),
        customers_per_day=3_000,
        touchpoint="checkout",
        products=(
            Product("SHOE-1", 8_900, 5_300, "shoes"),
            Product("JACKET-4", 6_900, 3_600, "clothes"),
            Product("BOTTLE-2", 1_500, 500, "accessories"),
        ),
        baskets=(
            Basket(("SHOE-1",), 0.5),
            Basket(("SHOE-1", "JACKET-4"), 0.3),
            Basket(("SHOE-1", "BOTTLE-2"), 0.2),
        ),
        segments=SEGMENTS,
        effects=tuple(effects),
        season=WEEK,
        delays=DELAYS,
    )
    return replace(world, **changes)


def experiment(key: str, world: World, hypothesis: str, **changes: Any) -> Experiment:
    """The experiment of a scenario: learns once a day from units a week old.

    `changes` are fields of `Experiment`; those of its policy are written `policy=replace(POLICY, ...)`.
    """
    found = Experiment(
        key=key,
        touchpoint=world.touchpoint,
        currency=world.currency,
        variants=tuple(variants_of(world.effects, world.effects[0].variant)),
        name=key.replace("_", " "),
        hypothesis=hypothesis,
        attribution_window=timedelta(days=7),
        refund_window=timedelta(days=14),
        policy=POLICY,
        guardrails=GUARDRAILS,
        salt=key,
    )
    return replace(found, **changes)
