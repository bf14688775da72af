"""A downsell that saves sales to some and gives money away to the others."""

from dataclasses import replace

from experiments.model import OfferKind, PolicyKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, POLICY, experiment, shop
from sim.worlds.world import Effect, Reaction

WORLD = shop(
    (
        CONTROL,
        Effect(
            "lite-shoe",
            OfferKind.DOWNSELL,
            "SHOE-LITE",
            6_900,
            4_100,
            "shoes",
            replaces="SHOE-1",
            reaction=Reaction(appeal=0.8, clicks=0.1),
            by_segment={"price_sensitive": Reaction(appeal=1.6, rescue=0.45, clicks=0.2)},
        ),
    )
)

SCENARIO = Scenario(
    key="price_sensitive_downsell",
    title="A cheaper shoe for those who would leave",
    claim=(
        "By segment the policy shows the downsell to most of the price sensitive and to few of the "
        "others, and earns more than either variant for all."
    ),
    ground_truth=(
        "The cheaper shoe raises the margin of the price sensitive, whose sales it saves, and lowers that"
        " of everybody else, who would have bought the dearer one."
    ),
    world=WORLD,
    experiment=experiment(
        "price_sensitive_downsell",
        WORLD,
        "a cheaper shoe saves the sales that would be lost",
        policy=replace(POLICY, kind=PolicyKind.SEGMENT, control_share=0.10),
    ),
    days=42,
)
