"""An upsell that makes orders dearer, loses customers and comes back."""

from experiments.model import OfferKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, experiment, shop, socks
from sim.worlds.world import Effect, Reaction

WORLD = shop(
    (
        CONTROL,
        Effect(
            "pro-shoe",
            OfferKind.UPSELL,
            "SHOE-1-PRO",
            12_900,
            7_400,
            "shoes",
            replaces="SHOE-1",
            reaction=Reaction(appeal=1.0, pressure=0.30, regret=0.30, rating=-1.0, repeat=-0.1, clicks=0.1),
        ),
        socks(),
    )
)

SCENARIO = Scenario(
    key="toxic_upsell",
    title="The toxic upsell",
    claim=(
        "The upsell that raises the order value is throttled or killed by a guardrail within two weeks, "
        "and the read-out never calls it healthy."
    ),
    ground_truth=(
        "The Pro shoe raises the order value, but costs more than 10 % of the conversion, doubles the "
        "refunds and lowers the margin per customer."
    ),
    world=WORLD,
    experiment=experiment(
        "toxic_upsell", WORLD, "the Pro version of the shoe raises the margin per customer"
    ),
    days=42,
)
