import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.posteriors.beta import Beta, log_odds_cdf, log_odds_density, log_odds_moments, log_odds_reach
from tests.statistical import SBC_LIMIT, SBC_POSTERIOR_DRAWS, sbc_chi_square

SHAPES = [(0.05, 0.3), (0.5, 0.5), (1, 1), (2, 20), (100, 900), (1e5, 1e6), (3, 1e7)]


@pytest.mark.parametrize(("alpha", "beta"), SHAPES)
def test_every_function_agrees_with_scipy(alpha: float, beta: float) -> None:
    ours, theirs = Beta(alpha, beta), stats.beta(alpha, beta)
    q = np.array([0.001, 0.1, 0.5, 0.9, 0.999])
    x = theirs.ppf(q)
    x = x[(x > 1e-290) & (x < 1)]
    assert ours.mean == pytest.approx(theirs.mean(), rel=1e-12)
    assert ours.variance == pytest.approx(theirs.var(), rel=1e-12)
    np.testing.assert_allclose(ours.pdf(x), theirs.pdf(x), rtol=1e-8)
    np.testing.assert_allclose(ours.cdf(x), theirs.cdf(x), rtol=1e-10)
    np.testing.assert_allclose(ours.sf(x), theirs.sf(x), rtol=1e-10)
    np.testing.assert_allclose(ours.ppf(q), theirs.ppf(q), rtol=1e-10)


def test_nothing_lies_outside_the_unit_interval() -> None:
    posterior = Beta(2, 3)
    assert posterior.pdf([-0.1, 1.1]).tolist() == [0, 0]
    assert posterior.cdf([-0.1, 1.1]).tolist() == [0, 1]
    assert posterior.sf([-0.1, 1.1]).tolist() == [1, 0]


@pytest.mark.parametrize(("alpha", "beta"), SHAPES)
@pytest.mark.parametrize("deviations", [-8.0, -3.0, -0.1, 1.0, 6.0])
def test_log_odds_density_has_twelve_digits(alpha: float, beta: float, deviations: float) -> None:
    """Against 50 digits; the plain formula loses six digits at a million units."""
    a, b = np.array(alpha), np.array(beta)
    mean, sd = log_odds_moments(a, b)
    t = float(mean + deviations * sd)
    with mpmath.workdps(50):
        theta = 1 / (1 + mpmath.exp(-mpmath.mpf(t)))
        truth = mpmath.exp(alpha * mpmath.log(theta) + beta * mpmath.log1p(-theta)) / mpmath.beta(alpha, beta)
    assert float(log_odds_density(a, b, np.array(t))) == pytest.approx(float(truth), rel=3e-12)


@pytest.mark.parametrize(("alpha", "beta"), SHAPES)
def test_reach_leaves_out_a_negligible_tail(alpha: float, beta: float) -> None:
    a, b = np.array(alpha), np.array(beta)
    low, high = log_odds_reach(a, b)
    assert float(log_odds_cdf(a, b, low)) < 1e-16
    assert float(log_odds_cdf(b, a, -high)) < 1e-16
    assert Beta(alpha, beta).reach[0] < Beta(alpha, beta).mean < Beta(alpha, beta).reach[1]


def test_reach_survives_the_extremes_of_floating_point() -> None:
    assert Beta(0.01, 3).reach[0] >= 0


@given(st.floats(0.01, 0.99), st.floats(0.001, 0.99))
def test_matching_gives_back_mean_and_variance(mean: float, part: float) -> None:
    matched = Beta.matching(mean, part * mean * (1 - mean))
    assert matched.mean == pytest.approx(mean, rel=1e-9)
    assert matched.variance == pytest.approx(part * mean * (1 - mean), rel=1e-9)


def test_updates_add_in_any_order() -> None:
    assert Beta(1, 1).updated(3, 7).updated(2, 0) == Beta(1, 1).updated(2, 0).updated(3, 7) == Beta(6, 8)


def test_impossible_parameters_are_refused() -> None:
    for attempt in (
        lambda: Beta(0, 1),
        lambda: Beta(1, float("inf")),
        lambda: Beta(1, 1).updated(-1, 0),
        lambda: Beta.matching(0.5, 0.25),
        lambda: Beta.matching(0.5, 0.0),
    ):
        with pytest.raises(ValueError):
            attempt()


@pytest.mark.parametrize(("extra_successes", "swapped"), [(0, False), (1, False), (0, True)])
def test_calibration_under_an_asymmetric_prior(extra_successes: int, swapped: bool) -> None:
    """Correct code passes; one success too many, or swapped prior parameters, must not."""

    def simulate(rng: np.random.Generator) -> tuple[float, np.ndarray]:
        truth = float(Beta(2, 20).draw(1, rng=rng)[0])
        successes = int(rng.binomial(50, truth))
        prior = Beta(20, 2) if swapped else Beta(2, 20)
        posterior = prior.updated(successes + extra_successes, 50 - successes)
        return truth, posterior.draw(SBC_POSTERIOR_DRAWS, rng=rng)

    planted = extra_successes > 0 or swapped
    assert (sbc_chi_square(simulate, seed=0) > SBC_LIMIT) == planted
