"""Coverage of the lift's 95 % interval, metric by metric, against binomial limits.

Conditions as the definitions gate them: large arms, moderate tails. 400 simulated experiments each; the
limits are the 0.05 % and 99.95 % points of Binomial(400, 0.95).
"""

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.comparison import Pair, pair_of
from experiments.analysis.estimates import Part, Pool, unstratified
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.sums import WEIGHT_ONE, PairSums
from experiments.posteriors.compare import difference, ratio_minus_one
from tests.experiments.cells import experiment_of

RUNS = 400
LIMITS = stats.binom(RUNS, 0.95).ppf([0.0005, 0.9995])
DEFINITIONS = metric_definitions(experiment_of("socks"))


def sums(x: np.ndarray, y: np.ndarray) -> PairSums:
    parts = (len(x), x.sum(), y.sum(), (x * x).sum(), (x * y).sum(), (y * y).sum())
    return PairSums(*(WEIGHT_ONE * int(part) for part in parts))


def simulate(rng: np.random.Generator, key: str, rate: float, price: float) -> PairSums:
    n = 3000
    orders = rng.binomial(1, rate, n) * (1 + rng.binomial(1, 0.2, n))
    revenue = np.where(orders > 0, orders * rng.gamma(4.0, price / 4.0, n), 0).astype(np.int64)
    units = np.ones(n, dtype=np.int64)
    returned = rng.binomial(orders, 0.1)
    pairs = {
        "conversion_rate": (orders > 0, units),
        "revenue_per_unit": (revenue, units),
        "aov": (revenue, orders),
        "refund_rate": (returned, orders),
    }
    x, y = pairs[key]
    return sums(x.astype(np.int64), y.astype(np.int64))


TRUTH = {  # rates 0.30 and 0.33, prices 2000 and 2200, orders of a buyer 1.2
    "conversion_rate": (0.30, 0.33),
    "revenue_per_unit": (0.30 * 1.2 * 2000, 0.33 * 1.2 * 2200),
    "aov": (2000.0, 2200.0),
    "refund_rate": (0.1, 0.1),
}


def pair_for(rng: np.random.Generator, key: str) -> Pair:
    definition = DEFINITIONS[key]
    arms = [simulate(rng, key, 0.33, 2200), simulate(rng, key, 0.30, 2000)]
    mean = sum(arm.x for arm in arms) / sum(arm.n for arm in arms)
    variance = sum(arm.squared_deviations() for arm in arms) / (sum(arm.units for arm in arms) - 2)
    pair = pair_of(*(unstratified(definition, [Part(1.0, arm, {}, Pool(mean, variance))]) for arm in arms))
    assert pair is not None
    return pair


@pytest.mark.parametrize("key", list(TRUTH))
def test_the_lifts_intervals_cover_the_truth(key):
    """Absolute and relative; an interval three tenths too narrow (planted) must fail."""
    rng = np.random.default_rng(77)
    control, treatment = TRUTH[key]
    absolute = relative = narrow = 0
    for _ in range(RUNS):
        pair = pair_for(rng, key)
        posteriors = pair.treatment_posterior, pair.control_posterior
        low, high = difference(*posteriors).interval(0.95)
        # amounts are whole minor units, rounded down: the truth is half a unit lower in both arms
        absolute += low <= treatment - control <= high
        centre, half = (low + high) / 2, 0.7 * (high - low) / 2
        narrow += abs(treatment - control - centre) <= half
        change = ratio_minus_one(*posteriors)
        assert change is not None
        low, high = change.interval(0.95)
        relative += low <= treatment / control - 1 <= high
    assert LIMITS[0] <= absolute <= LIMITS[1]
    assert LIMITS[0] <= relative <= LIMITS[1]
    assert narrow < LIMITS[0], "three tenths too narrow must be noticed, or the test has no power"
