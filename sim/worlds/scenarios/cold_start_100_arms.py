"""A catalogue full of offers of which nothing is known."""

from dataclasses import replace

from experiments.model import OfferKind
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import CONTROL, POLICY, experiment, shop
from sim.worlds.world import Effect, Reaction

OFFERS = 99


def _offer(number: int) -> Effect:
    """Offer 0 ... 98: qualities in equal steps, in an order that the number does not tell."""
    quality = (number * 37 % OFFERS) / (OFFERS - 1)
    price = 1_490 + 500 * (number % 5)
    return Effect(
        f"offer-{number:02d}",
        OfferKind.CROSS_SELL,
        f"ADD-{number:02d}",
        price,
        round(0.35 * price),
        "accessories",
        reaction=Reaction(appeal=0.2 + 1.6 * quality**2, pressure=0.12 * (1 - quality)),
    )


WORLD = shop(
    (CONTROL, *(_offer(number) for number in range(OFFERS))), customers_per_day=10_000, order_value_cv=0.3
)

SCENARIO = Scenario(
    key="cold_start_100_arms",
    title="A hundred arms, nothing known",
    claim=(
        "The policy gives away less than half of what equal shares give away, and in the last week more "
        "than half of the traffic goes to the ten best of the hundred."
    ),
    ground_truth=(
        "The 99 offers lie between harmful and a fifth more margin; ten of them are within a few percent "
        "of the best."
    ),
    world=WORLD,
    experiment=experiment(
        "cold_start_100_arms",
        WORLD,
        "some of 99 accessories earn more than none",
        policy=replace(POLICY, control_share=0.05, floor=0.001, burn_in=200),
        guardrails=(),
    ),
    days=56,
)
