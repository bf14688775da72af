"""An offer that looks best until the refunds come."""

from datetime import timedelta

from experiments.model import OfferKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, experiment, shop, socks
from sim.worlds.timing import DAY_S
from sim.worlds.world import Delay, Delays, Effect, Reaction

WORLD = shop(
    (
        CONTROL,
        Effect(
            "watch",
            OfferKind.CROSS_SELL,
            "WATCH-1",
            5_900,
            3_200,
            "electronics",
            reaction=Reaction(appeal=1.6, pressure=0.01, regret=0.38, clicks=0.1),
        ),
        socks(appeal=0.5),
    ),
    customers_per_day=4_000,
    delays=Delays(refund=Delay((10 * DAY_S, 20 * DAY_S, 30 * DAY_S, 40 * DAY_S), (0.3, 0.5, 0.2))),
)

SCENARIO = Scenario(
    key="late_refunds",
    title="Refunds that come weeks later",
    claim=(
        "The watch leads in the ten days before a refund can be in, and has less than a tenth of the traffic "
        "in the last week: by then it is cut by guardrail and margin."
    ),
    ground_truth=(
        "Before refunds the watch earns the most of the three; net of them, which come ten to forty days "
        "later, it earns less than no offer at all."
    ),
    world=WORLD,
    experiment=experiment(
        "late_refunds",
        WORLD,
        "a watch beside the shoes raises the margin",
        attribution_window=timedelta(days=3),
        refund_window=timedelta(days=45),
    ),
    days=84,
)
