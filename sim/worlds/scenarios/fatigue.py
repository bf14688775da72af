"""A wall of offers against a single one."""

from dataclasses import replace

from experiments.model import OfferKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, SEGMENTS, experiment, shop, socks
from sim.worlds.world import Effect, Reaction, Session, Stage

WORLD = shop(
    (
        CONTROL,
        socks("one-offer"),
        Effect(
            "wall",
            OfferKind.BUNDLE,
            "WALL-5",
            2_490,
            900,
            "accessories",
            offers=5,
            reaction=Reaction(appeal=1.1, pressure=0.01, clicks=0.2),
        ),
    ),
    segments=tuple(replace(segment, fatigue=segment.fatigue + 0.02) for segment in SEGMENTS),
    session=Session((Stage("product_page", 0.9, 1), Stage("cart", 0.7, 1), Stage("checkout"))),
)

SCENARIO = Scenario(
    key="fatigue",
    title="A wall of offers",
    claim=(
        "The policy prefers one offer to the wall of five, although more customers take something from "
        "the wall and their orders are worth more."
    ),
    ground_truth=(
        "The wall has the higher take rate and order value and the lower margin, below that of no offer: "
        "every further offer costs part of the orders."
    ),
    world=WORLD,
    experiment=experiment("fatigue", WORLD, "more offers at checkout sell more"),
    days=42,
)
