import math

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.estimates import Part, Pool, before_data, mean, proportion, ratio, stratified
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.sums import PairSums, gather
from experiments.model import Prior
from tests.experiments.cells import cell_of, experiment_of

DEFINITIONS = metric_definitions(experiment_of("socks"))


def sums_of(key: str, n: int, **features: object) -> PairSums:
    cell = cell_of("socks", n=n, candidates=("none", "socks"), **features)  # type: ignore[arg-type]
    return next(iter(gather([cell], DEFINITIONS[key]).values()))


def part(weight: float, sums: PairSums, pool: Pool | None = None, place: tuple[int, int] = (0, 0)) -> Part:
    return Part(weight, sums, {place: sums.units}, pool)


def test_a_proportion_in_one_set_is_the_conjugate_beta():
    """30 of 200 with Beta(1, 1): Beta(31, 171); with Beta(2, 20): Beta(32, 190)."""
    sums = sums_of("conversion_rate", 200, converted=[1] * 30 + [0] * 170)
    plain = proportion([part(1.0, sums)])
    informed = proportion([part(1.0, sums)], Prior(alpha=2.0, beta=20.0))
    assert plain is not None
    assert informed is not None
    assert plain.figure == 0.15
    for estimate, law in ((plain, stats.beta(31, 171)), (informed, stats.beta(32, 190))):
        assert estimate.posterior.ppf(0.025) == pytest.approx(law.ppf(0.025), rel=1e-10)
        assert estimate.posterior.mean == pytest.approx(law.mean(), rel=1e-12)


def test_a_standardised_proportion_has_the_mean_and_variance_of_the_weighted_sum():
    """Weights 1/4, 3/4; posteriors Beta(1/4 + 5, 1/4 + 15) and Beta(3/4 + 40, 3/4 + 60)."""
    few = sums_of("conversion_rate", 20, converted=[1] * 5 + [0] * 15)
    many = sums_of("conversion_rate", 100, converted=[1] * 40 + [0] * 60)
    estimate = proportion([part(0.25, few), part(0.75, many, place=(1, 0))])
    first, second = stats.beta(5.25, 15.25), stats.beta(40.75, 60.75)
    assert estimate is not None
    assert estimate.figure == pytest.approx(0.25 * 0.25 + 0.75 * 0.4)
    assert estimate.posterior.mean == pytest.approx(0.25 * first.mean() + 0.75 * second.mean(), rel=1e-12)
    variance = first.var() / 16 + 9 * second.var() / 16
    assert estimate.posterior.variance == pytest.approx(variance, rel=1e-9)
    assert sum(x * x for x in estimate.influence.values()) == pytest.approx(variance, rel=1e-9)


def test_a_prior_counts_once_however_many_sets_share_it():
    """Ten equal sets of 100 units: the prior's pull is that of one set of 1,000, not ten times it."""
    sums = sums_of("conversion_rate", 100, converted=[1] * 2 + [0] * 98)
    estimate = proportion([part(0.1, sums, place=(i, 0)) for i in range(10)])
    assert estimate is not None
    assert estimate.posterior.mean == pytest.approx((20 + 1) / (1000 + 2), rel=1e-12)


def test_a_mean_is_the_normal_inverse_gamma_posterior_by_hand():
    """x = 2, 4, 9 (mean 5, SS 26); prior mean 4, kappa 1, nu 1, scale 10.

    kappa' = 4, mu' = (4 + 15)/4 = 4.75, nu' = 4, nu' s' = 10 + 26 + 1*3/4*(5-4)^2 = 36.75,
    so the mean is t_4 at 4.75 with scale sqrt(36.75 / 4 / 4).
    """
    sums = sums_of("margin_per_unit", 3, margin=[2, 4, 9])
    estimate = mean([part(1.0, sums, Pool(4.0, 10.0))])
    law = stats.t(4, loc=4.75, scale=math.sqrt(36.75 / 16))
    assert estimate is not None
    assert estimate.figure == 5.0
    for level in (0.025, 0.5, 0.975):
        assert estimate.posterior.ppf(level) == pytest.approx(law.ppf(level), rel=1e-10)


def test_a_mean_takes_the_documents_prior_in_place_of_the_pool():
    sums = sums_of("margin_per_unit", 3, margin=[2, 4, 9])
    given = mean([part(1.0, sums, Pool(0.0, 99.0))], Prior(mean=4.0, kappa=1.0, nu=1.0, scale=10.0))
    pooled = mean([part(1.0, sums, Pool(4.0, 10.0))])
    assert given is not None
    assert pooled is not None
    assert given.posterior == pooled.posterior


def test_satterthwaite_by_hand():
    """Two parts of weight 1/2: the sum's variance adds, its df is (a+b)^2 / (a^2/f + b^2/g)."""
    one = sums_of("margin_per_unit", 3, margin=[2, 4, 9])
    two = sums_of("margin_per_unit", 4, margin=[0, 0, 10, 30])
    pool = Pool(5.0, 10.0)
    estimate = mean([part(0.5, one, pool), part(0.5, two, pool, (1, 0))])
    halves = [mean([Part(1.0, s, {}, pool)], Prior(kappa=0.5, nu=0.5)) for s in (one, two)]
    assert estimate is not None
    a, b = (0.25 * half.posterior.scale**2 for half in halves)
    f, g = (half.posterior.df for half in halves)
    assert estimate.posterior.scale == pytest.approx(math.sqrt(a + b), rel=1e-12)
    assert estimate.posterior.df == pytest.approx((a + b) ** 2 / (a * a / f + b * b / g), rel=1e-12)


def test_the_delta_method_agrees_with_a_bootstrap():
    """AOV of 4,000 units, a tenth of whom order once to three times: 2,000 resamples, within 5 %.

    The standard deviation of 2,000 resamples has a standard error of 1.6 %, so 5 % is 3 of them.
    """
    rng = np.random.default_rng(5)
    orders = rng.binomial(1, 0.1, 4000) * rng.integers(1, 4, 4000)
    revenue = orders * 2000 + (orders > 0) * rng.integers(0, 9000, 4000)
    estimate = ratio([part(1.0, sums_of("aov", 4000, orders=orders, revenue=revenue))])
    picks = rng.multinomial(4000, np.full(4000, 1 / 4000), size=2000)
    resampled = (picks @ revenue) / (picks @ orders)
    assert estimate is not None
    assert estimate.figure == pytest.approx(revenue.sum() / orders.sum(), rel=1e-14)
    assert estimate.posterior.scale == pytest.approx(resampled.std(), rel=0.05)
    independent = (revenue / np.maximum(orders, 1))[orders > 0].std() / math.sqrt(orders.sum())
    assert independent != pytest.approx(resampled.std(), rel=0.05)  # orders of one unit are not independent


def test_a_ratio_in_one_part_is_the_textbook_delta_formula():
    orders, revenue = [1, 2, 1, 1, 3, 1, 2, 1, 1, 1], [10, 30, 12, 9, 40, 11, 15, 8, 14, 10]
    estimate = ratio([part(1.0, sums_of("aov", 10, orders=orders, revenue=revenue))])
    figure = sum(revenue) / sum(orders)
    residual = np.array(revenue) - figure * np.array(orders)
    assert estimate is not None
    assert estimate.posterior.df == 9
    assert estimate.posterior.scale == pytest.approx(
        math.sqrt(residual.var(ddof=1) / 10) / np.mean(orders), rel=1e-12
    )


@pytest.mark.parametrize(
    ("key", "n", "features"),
    [
        ("aov", 1000, {"orders": [1] * 5 + [0] * 995, "revenue": list(range(5)) + [0] * 995}),  # 5 orders
        ("aov", 20, {"orders": [1] * 20, "revenue": [500] * 20}),  # no spread
        ("aov", 1, {"orders": [1], "revenue": [500]}),
    ],
)
def test_too_little_for_an_interval_still_has_its_figure(key, n, features):
    estimate = ratio([part(1.0, sums_of(key, n, **features))])
    assert estimate is not None
    assert estimate.posterior is None
    assert estimate.figure == sum(features["revenue"]) / sum(features["orders"])


def test_no_units_or_no_orders_have_no_figure():
    assert ratio([part(1.0, sums_of("aov", 5))]) is None
    assert proportion([part(1.0, sums_of("take_rate", 5))]) is None
    assert mean([]) is None
    assert proportion([]) is None
    assert stratified(DEFINITIONS["aov"], []) is None


def test_a_mean_without_any_spread_or_with_one_unit_has_no_posterior():
    flat = mean([part(1.0, sums_of("margin_per_unit", 9), Pool(0.0, 0.0))])
    single = mean([part(1.0, sums_of("margin_per_unit", 1, margin=[7]), Pool(7.0, 3.0))])
    assert flat is not None
    assert single is not None
    assert (flat.figure, flat.posterior, single.figure, single.posterior) == (0.0, None, 7.0, None)


def test_a_share_of_counts_without_spread_has_the_beta_of_its_counts():
    """No refund among 60 orders: Beta(1, 61), its 95 % point 1 - 0.05^(1/61)."""
    sums = sums_of("refund_rate", 60, orders=[1] * 60)
    estimate = ratio([part(1.0, sums)], is_share=True)
    assert estimate is not None
    assert estimate.posterior.ppf(0.95) == pytest.approx(1 - 0.05 ** (1 / 61), rel=1e-9)


def test_stratified_by_hand():
    """Strata of weight 1/4 and 3/4, x = (0, 1, 1, 0) and (1, 1, 1, 1, 0, 0).

    Figures 1/2 and 2/3; SS 1 and 4/3, pooled variance (7/3) / (10 - 2); error^2 = s2 (1/16/4 + 9/16/6).
    """
    first = sums_of("conversion_rate", 4, converted=[0, 1, 1, 0])
    second = sums_of("conversion_rate", 6, converted=[1, 1, 1, 1, 0, 0])
    estimate = stratified(
        DEFINITIONS["conversion_rate"], [part(0.25, first), part(0.75, second, place=(0, 1))]
    )
    variance = (7 / 3) / 8 * (1 / 64 + 9 / 96)
    assert estimate is not None
    assert estimate.figure == pytest.approx(0.125 + 0.5)
    assert estimate.posterior.df == math.inf
    assert estimate.posterior.scale == pytest.approx(math.sqrt(variance), rel=1e-12)
    low = stats.norm(0.625, math.sqrt(variance)).ppf(0.025)
    assert estimate.posterior.ppf(0.025) == pytest.approx(low, rel=1e-10)


@pytest.mark.parametrize(("orders", "is_told"), [(8, False), (9, True)])
def test_a_stratified_ratio_over_a_denominator_near_zero_has_its_figure_alone(orders: int, is_told: bool):
    """k orders among n = 1,000: mean k / n, standard error sqrt(k (n - k) / (n^2 (n - 1))).

    It lies more than 3 of them from 0 where k (n - 1) > 9 (n - k): 8 x 999 < 9 x 992, 9 x 999 > 9 x 991.
    """
    placed = np.arange(1000) < orders
    sums = sums_of("aov", 1000, orders=placed, revenue=placed * np.arange(1, 1001))
    found = stratified(DEFINITIONS["aov"], [part(1.0, sums)])
    assert found is not None
    assert found.figure == pytest.approx((orders + 1) / 2)
    assert (found.posterior is not None) == is_told


def test_stratified_without_freedom_or_spread():
    one = sums_of("margin_per_unit", 1, margin=[5])
    short = stratified(DEFINITIONS["margin_per_unit"], [part(1.0, one)])
    none = stratified(DEFINITIONS["conversion_rate"], [part(1.0, sums_of("conversion_rate", 40))])
    assert short is not None
    assert none is not None
    assert short.posterior is None
    assert none.posterior.mean == pytest.approx(1 / 42)  # nobody converted: Beta(1, 41)


def test_half_a_prior_is_no_posterior():
    with pytest.raises(ValueError, match="not a whole prior"):
        before_data(Prior(mean=3.0, kappa=2.0))
