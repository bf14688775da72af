"""A bundle that sells more and earns less."""

from experiments.model import OfferKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, experiment, shop, socks
from sim.worlds.world import Effect, Reaction

WORLD = shop(
    (
        CONTROL,
        Effect(
            "discount-bundle",
            OfferKind.BUNDLE,
            "CARE-DELUXE",
            3_490,
            2_900,
            "care",
            discount=0.15,
            reaction=Reaction(appeal=1.1, pressure=-0.06, clicks=0.1),
        ),
        socks(appeal=0.7),
    )
)

SCENARIO = Scenario(
    key="revenue_trap",
    title="More revenue, less profit",
    claim=(
        "The policy takes the traffic away from the bundle that brings the most revenue, since it learns "
        "from margin."
    ),
    ground_truth="The bundle has the highest revenue per customer of the three, and the lowest margin.",
    world=WORLD,
    experiment=experiment("revenue_trap", WORLD, "a bundle at a discount raises what a customer brings"),
    days=42,
)
