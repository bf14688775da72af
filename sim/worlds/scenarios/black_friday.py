"""Four days on which nothing is as usual."""

from dataclasses import replace
from datetime import date

from experiments.model import OfferKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, WEEK, experiment, shop, socks
from sim.worlds.world import Effect, Reaction, Shock

FIRST_DAY = 25
"""Friday, 27 November 2026, in a run that begins on Monday, 2 November."""

WORLD = shop(
    (
        CONTROL,
        socks(),
        Effect(
            "belt",
            OfferKind.CROSS_SELL,
            "BELT-1",
            2_990,
            1_400,
            "accessories",
            reaction=Reaction(appeal=0.5, pressure=0.03, clicks=0.05),
        ),
    ),
    start=date(2026, 11, 2),
    season=replace(
        WEEK,
        shocks=(
            Shock(
                FIRST_DAY,
                FIRST_DAY + 3,
                traffic=4.0,
                conversion=1.35,
                order_value=0.85,
                refunds=1.3,
                mix={"price_sensitive": 2.5},
            ),
        ),
    ),
)

SCENARIO = Scenario(
    key="black_friday",
    title="Black Friday",
    claim=(
        "Four days of four times the traffic do not upset the policy: the socks lead before and after, "
        "and the interval of their lift covers the truth of the whole run."
    ),
    ground_truth=(
        "On four days there are four times as many customers, who buy more often, for less, and are "
        "another mix; the socks are the best all the time."
    ),
    world=WORLD,
    experiment=experiment("black_friday", WORLD, "one of two offers earns more, on Black Friday too"),
    days=49,
)
