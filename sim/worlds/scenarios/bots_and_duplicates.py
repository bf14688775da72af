"""A good offer in dirty data."""

from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.healthy import WORLD as CLEAN
from sim.worlds.scenarios.shop import experiment, shop
from sim.worlds.world import Noise

WORLD = shop(
    CLEAN.effects,
    noise=Noise(bots=0.15, bots_see=0.6, bots_click=0.8, duplicates=0.05, late=0.10, late_h_max=36),
)

SCENARIO = Scenario(
    key="bots_and_duplicates",
    title="Bots, and events that come late or twice",
    claim=(
        "The socks lead as in the clean shop, nothing is counted twice, and the check of the sample ratio"
        " raises no alarm."
    ),
    ground_truth=(
        "Bots are 15 % of the units and never buy: every rate per unit is lower by as much, relative "
        "lifts are those of the people; click-through is what cannot be trusted."
    ),
    world=WORLD,
    experiment=experiment("bots_and_duplicates", WORLD, "one of two offers earns more and hurts nothing"),
    days=42,
)
