"""A better offer that comes in mid-run."""

from dataclasses import replace
from datetime import timedelta

from experiments.model import OfferKind, Ramp
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, POLICY, experiment, shop, socks
from sim.worlds.world import Effect, Reaction

ARRIVES = 21

WORLD = shop(
    (
        CONTROL,
        socks(appeal=0.5),
        Effect(
            "insoles",
            OfferKind.CROSS_SELL,
            "INSOLE-1",
            2_990,
            900,
            "care",
            reaction=Reaction(appeal=1.0, pressure=0.01, clicks=0.1),
            arrives=ARRIVES,
        ),
    )
)

SCENARIO = Scenario(
    key="newcomer",
    title="A newcomer in mid-run",
    claim=(
        "The offer added on day 21 never exceeds the steps of its ramp and has more than half of the "
        "traffic in the last week."
    ),
    ground_truth="The newcomer earns more than the leader it finds; nothing about it is known when it comes.",
    world=WORLD,
    experiment=experiment(
        "newcomer",
        WORLD,
        "insoles, added after three weeks, beat the socks",
        policy=replace(POLICY, ramp=Ramp(steps=(0.02, 0.1, 0.3, 0.6), every=timedelta(days=2), units=300)),
    ),
    days=63,
)
