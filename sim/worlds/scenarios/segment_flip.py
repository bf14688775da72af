"""An offer that is good for some, bad for others and nothing on average."""

from dataclasses import replace

from experiments.model import OfferKind, PolicyKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, POLICY, experiment, shop
from sim.worlds.world import Effect, Reaction

WORLD = shop(
    (
        CONTROL,
        Effect(
            "trail-kit",
            OfferKind.CROSS_SELL,
            "TRAIL-KIT",
            4_490,
            2_000,
            "accessories",
            reaction=Reaction(appeal=0.35, pressure=0.17, clicks=0.05),
            by_segment={"loyal": Reaction(appeal=0.45, clicks=0.2)},
        ),
    )
)

SCENARIO = Scenario(
    key="segment_flip",
    title="Good for some, bad for others",
    claim=(
        "By segment the policy shows the kit to most of the loyal and to few of the others, and earns "
        "more than either variant for all."
    ),
    ground_truth=(
        "The kit raises the margin of the loyal by more than 5 %, lowers that of all others by as much, "
        "and does next to nothing on average."
    ),
    world=WORLD,
    experiment=experiment(
        "segment_flip",
        WORLD,
        "a trail kit raises the margin of some customers",
        policy=replace(POLICY, kind=PolicyKind.SEGMENT, control_share=0.10),
        guardrails=(),  # of all segments together: they would cut an offer that only some should see
    ),
    days=42,
)
