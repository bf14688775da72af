"""One of three offers earns more and hurts nothing."""

from experiments.model import OfferKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, experiment, shop, socks
from sim.worlds.world import Effect, Reaction

WORLD = shop(
    (
        CONTROL,
        socks(),
        Effect(
            "care-kit",
            OfferKind.BUNDLE,
            "CARE-KIT",
            2_490,
            1_990,
            "care",
            reaction=Reaction(appeal=0.6, pressure=0.02, clicks=0.05),
        ),
    )
)

SCENARIO = Scenario(
    key="healthy",
    title="A good offer among others",
    claim=(
        "The policy gives most of the traffic to the socks, which earn more than equal shares would, and "
        "no guardrail kills them."
    ),
    ground_truth=(
        "Socks add some 7 % to the margin per customer at no harm; the care kit earns about what it "
        "annoys away."
    ),
    world=WORLD,
    experiment=experiment("healthy", WORLD, "one of two offers at checkout earns more and hurts nothing"),
    days=42,
)
