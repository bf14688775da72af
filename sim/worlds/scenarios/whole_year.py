"""A year with everything in it: segments, delays, guardrails, ramps, seasons, shocks, novelty and bots."""

from dataclasses import replace
from datetime import timedelta

from experiments.model import DelayHandling, OfferKind, PolicyKind, Ramp
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, POLICY, WEEK, experiment, shop, socks
from sim.worlds.timing import DAY_S
from sim.worlds.world import Delay, Delays, Effect, Noise, Reaction, Repeats, Shock

ARRIVES = 120
BLACK_FRIDAY = 270
"""Friday, 27 November 2026, in a year that begins on Monday, 2 March."""

WORLD = shop(
    (
        CONTROL,
        socks(),
        Effect(
            "trail-kit",
            OfferKind.CROSS_SELL,
            "TRAIL-KIT",
            4_490,
            2_000,
            "accessories",
            reaction=Reaction(appeal=0.35, pressure=0.12, clicks=0.05),
            by_segment={"loyal": Reaction(appeal=1.3, clicks=0.2)},
        ),
        Effect(
            "pro-shoe",
            OfferKind.UPSELL,
            "SHOE-1-PRO",
            12_900,
            7_400,
            "shoes",
            replaces="SHOE-1",
            reaction=Reaction(appeal=1.0, pressure=0.30, regret=0.30, rating=-1.0, clicks=0.1),
        ),
        Effect(
            "game",
            OfferKind.CROSS_SELL,
            "GAME-1",
            3_490,
            1_200,
            "gadgets",
            reaction=Reaction(appeal=1.2, pressure=0.02, clicks=0.2),
            novelty_days=20,
            arrives=ARRIVES,
        ),
    ),
    customers_per_day=2_740,
    season=replace(
        WEEK,
        monthly_traffic=(0.8, 0.8, 0.9, 1.0, 1.0, 1.0, 0.9, 0.8, 1.0, 1.1, 1.3, 1.4),
        monthly_conversion=(0.95, 0.95, 1.0, 1.0, 1.0, 1.0, 0.95, 0.95, 1.0, 1.0, 1.1, 1.1),
        shocks=(
            Shock(BLACK_FRIDAY, BLACK_FRIDAY + 3, 4.0, 1.35, 0.85, 1.3, {"price_sensitive": 2.5}),
            Shock(303, 340, refunds=1.4),
        ),
    ),
    delays=Delays(refund=Delay((DAY_S, 5 * DAY_S, 12 * DAY_S, 25 * DAY_S), (0.3, 0.5, 0.2))),
    repeats=Repeats(),
    noise=Noise(bots=0.03, duplicates=0.02, late=0.02),
)

SCENARIO = Scenario(
    key="whole_year",
    title="A whole year, with everything in it",
    claim=(
        "Over the year the policy earns more than the best of the offers for all customers all the time, "
        "and the upsell that harms is gone within a month."
    ),
    ground_truth=(
        "The socks are good for everybody and the trail kit for the loyal; the Pro shoe costs sales and "
        "comes back; a game that arrives in summer is the best of all until its novelty fades."
    ),
    world=WORLD,
    experiment=experiment(
        "whole_year",
        WORLD,
        "there is an offer for every segment, and it changes with time",
        policy=replace(
            POLICY,
            kind=PolicyKind.SEGMENT,
            control_share=0.05,
            floor=0.01,
            delay=DelayHandling.MODEL,
            discount_half_life=timedelta(days=28),
            ramp=Ramp(every=timedelta(days=7)),
            cadence=timedelta(days=7),
        ),
    ),
    days=365,
)
