"""An offer that works because it is new."""

from dataclasses import replace
from datetime import timedelta

from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, POLICY, experiment, shop, socks
from sim.worlds.world import Reaction

WORLD = shop(
    (
        CONTROL,
        socks("game", novelty_days=12, reaction=Reaction(appeal=2.2, pressure=0.07, clicks=0.2)),
    )
)

SCENARIO = Scenario(
    key="novelty_fades",
    title="What is new today",
    claim=(
        "With older results discounted, the offer has less than half of the traffic in the last week of "
        "the run, after more than half of it in its best week."
    ),
    ground_truth=(
        "The offer adds to the margin in the first three weeks and takes from it in the end: its appeal "
        "halves every 12 days, its annoyance stays."
    ),
    world=WORLD,
    experiment=experiment(
        "novelty_fades",
        WORLD,
        "a game around socks at checkout raises the margin per customer for good",
        policy=replace(POLICY, discount_half_life=timedelta(days=7)),
        guardrails=(),
    ),
    days=84,
)
