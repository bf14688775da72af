"""The same offer three times."""

from sim.worlds.scenario import Scenario
from sim.worlds.scenarios.shop import experiment, shop, socks

WORLD = shop((socks("socks-a"), socks("socks-b"), socks("socks-c")))

SCENARIO = Scenario(
    key="a_a",
    title="A/A: nothing to find",
    claim="In at most 5 of 100 runs does the read-out call a variant better or worse than the control.",
    ground_truth="All three variants are the same offer.",
    world=WORLD,
    experiment=experiment("a_a", WORLD, "the same socks, three times: there is no difference"),
    days=28,
)
