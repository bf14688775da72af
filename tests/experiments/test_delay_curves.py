"""The delay curve against published development factors, known laws with truncation, and planted bugs."""

from math import inf

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.ages import BINS, age_bin
from experiments.analysis.delay import DelayCurve, Outcomes, delay_curves, shrinkage_of

EDGES = (np.arange(BINS + 1) / BINS) ** 3

# Taylor and Ashe (1983), cumulative claims; the factors are those of Mack (1993), ASTIN Bulletin 23, table 1.
TAYLOR_ASHE = (
    (357848, 1124788, 1735330, 2218270, 2745596, 3319994, 3466336, 3606286, 3833515, 3901463),
    (352118, 1236139, 2170033, 3353322, 3799067, 4120063, 4647867, 4914039, 5339085),
    (290507, 1292306, 2218525, 3235179, 3985995, 4132918, 4628910, 4909315),
    (310608, 1418858, 2195047, 3757447, 4029929, 4381982, 4588268),
    (443160, 1136350, 2128333, 2897821, 3402672, 3873311),
    (396132, 1333217, 2180715, 2985752, 3691712),
    (440832, 1288463, 2419861, 3483130),
    (359480, 1421128, 2864498),
    (376686, 1363294),
    (344014,),
)
MACK = (3.491, 1.747, 1.457, 1.174, 1.104, 1.086, 1.054, 1.077, 1.018)


def test_the_curve_is_the_chain_ladder_of_the_published_triangle():
    cohorts = []
    for row in TAYLOR_ASHE:
        increments = [int(n) for n in np.diff((0, *row))]
        cohorts.append(Outcomes(increments + [0] * (BINS - len(row)), BINS if len(row) == 10 else len(row)))
    curves = delay_curves({"all": cohorts}, 1.0)
    assert curves is not None
    reached = np.array(curves["all"].reached)
    assert reached[10:] == pytest.approx(np.ones(15))
    assert reached[2:11] / reached[1:10] == pytest.approx(MACK, abs=5e-4)


@pytest.mark.parametrize(
    "law",
    [stats.expon(scale=0.2), stats.weibull_min(0.5, scale=0.05), stats.weibull_min(2.0, scale=0.4)],
    ids=["exponential", "weibull, late tail", "weibull, late peak"],
)
def test_a_known_law_is_found_from_cohorts_that_were_cut_off(law):
    """30 cohorts, followed from 0 to beyond the horizon; the plain distribution of delays is refused."""
    rng = np.random.default_rng(7)
    cohorts, seen = [], []
    for number in range(30):
        followed = number / 20  # in horizons
        delays = law.rvs(4000 - 120 * number, random_state=rng)
        delays = delays[delays < 1.0]
        counts = np.histogram(delays[delays <= followed], EDGES)[0]
        cohorts.append(
            Outcomes(counts.tolist(), int(np.searchsorted(EDGES, min(followed, 1.0), "right")) - 1)
        )
        seen.append(counts)
    curves = delay_curves({"a": cohorts}, 1.0)
    assert curves is not None
    truth = law.cdf(EDGES) / law.cdf(1.0)
    # At edge j the variance is F^2 times the sum over k > j of r / (1 - r) / Y_k (Lagakos et al. 1988, (4)).
    y = sum(np.cumsum(c.counts) * (np.arange(BINS) < c.bins_seen) for c in cohorts)
    rate = 1 - truth[:-1] / truth[1:]
    terms = np.append((rate / (1 - np.minimum(rate, 0.999999)) / np.maximum(y, 1))[::-1].cumsum()[::-1], 0.0)
    errors = truth * np.sqrt(terms)
    informed = (truth > 0.01) & (errors > 0)
    off = np.abs(np.array(curves["a"].reached) - truth)[informed] / errors[informed]
    assert off.max() < 5
    naive = np.append(0.0, np.cumsum(sum(seen))) / np.sum(seen)
    assert (np.abs(naive - truth)[informed] / errors[informed]).max() > 10


def test_kappa_is_found_and_variants_of_one_law_share_a_curve():
    """Beta-binomial of size 40: kappa within a factor of 1.5 from 200 variants; one law: mostly pooled."""
    rng = np.random.default_rng(3)
    y = np.full((200, 6), 300.0)
    rates = rng.beta(0.3 * 40, 0.7 * 40, y.shape)
    assert 40 / 1.5 < shrinkage_of(rng.binomial(300, rates).astype(float), y) < 40 * 1.5
    same = [
        shrinkage_of(rng.binomial(300, 0.3, (4, 24)).astype(float), y[:4, :1] + np.zeros(24))
        for _ in range(200)
    ]
    assert np.mean([kappa == inf or kappa > 1000 for kappa in same]) > 0.85


def test_shrinkage_by_hand():
    """Bin 2: a 10 of 20, b 10 of 60; pooled 20 of 80. With kappa = 20: a (10 + 5) / 40, b (10 + 5) / 80."""
    cohorts = {"a": [Outcomes([10, 10] + [0] * 22, 24)], "b": [Outcomes([50, 10] + [0] * 22, 24)]}
    half = delay_curves(cohorts, 1.0, shrinkage=20.0)
    assert half is not None
    assert (half["a"].reached[1], half["b"].reached[1]) == pytest.approx((1 - 15 / 40, 1 - 15 / 80))
    own, pooled = delay_curves(cohorts, 1.0, shrinkage=0.0), delay_curves(cohorts, 1.0, shrinkage=inf)
    assert own is not None
    assert pooled is not None
    assert (own["a"].reached[1], pooled["a"].reached[1]) == pytest.approx((0.5, 0.75))
    estimated = delay_curves(cohorts, 1.0)
    assert estimated is not None
    assert 0.5 < estimated["a"].reached[1] < 0.75


def test_too_few_outcomes_have_no_curve():
    assert delay_curves({"a": [Outcomes([19] + [0] * 23, 24)], "b": [Outcomes([9] * 24, 0)]}, 1.0) is None


def test_the_mean_over_ages_is_the_integral():
    rng = np.random.default_rng(2)
    curve = DelayCurve(500.0, (0.0, *map(float, np.sort(rng.random(23))), 1.0))
    for low, high in ((0.0, 0.3), (0.0, 499.0), (17.0, 230.0), (450.0, 900.0), (600.0, 700.0)):
        wanted, _ = integrate.quad(
            lambda age: np.interp(age / 500.0, EDGES, curve.reached), low, high, points=EDGES * 500, limit=200
        )
        assert curve.mean_over(low, high) == pytest.approx(wanted / (high - low), rel=1e-9)
    assert curve.mean_over(40.0, 40.0) == pytest.approx(np.interp(0.08, EDGES, curve.reached))


def test_bins_of_age_are_their_own_definition():
    horizon = 7 * 86_400_000_000
    rng = np.random.default_rng(1)
    ages = [0, 1, horizon - 1, horizon, *map(int, rng.integers(0, horizon, 500))]
    ages += [horizon * j**3 // BINS**3 + extra for j in range(1, BINS) for extra in (-1, 0, 1)]
    for age in ages:
        j = age_bin(age, horizon)
        assert 1 <= j <= BINS
        assert age * BINS**3 <= horizon * j**3
        assert j == 1 or age * BINS**3 > horizon * (j - 1) ** 3
