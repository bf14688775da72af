from math import inf, isnan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.posteriors.normal import NormalInverseGamma, StudentT
from tests.statistical import (
    SBC_LIMIT,
    SBC_POSTERIOR_DRAWS,
    STANDARD_ERRORS,
    sbc_chi_square,
    standard_errors_off,
)


@pytest.mark.parametrize("df", [0.7, 1.0, 1.5, 2.5, 30.0, 399.0, 401.0, 1e5, inf])
def test_every_function_agrees_with_scipy(df: float) -> None:
    ours = StudentT(3.0, 2.0, df)
    theirs = stats.norm(3.0, 2.0) if df == inf else stats.t(df, 3.0, 2.0)
    x, q = np.array([-20.0, 0.0, 3.0, 4.5, 30.0]), np.array([0.001, 0.3, 0.5, 0.975])
    np.testing.assert_allclose(ours.pdf(x), theirs.pdf(x), rtol=1e-9)
    np.testing.assert_allclose(ours.cdf(x), theirs.cdf(x), rtol=1e-10)
    np.testing.assert_allclose(ours.sf(x), theirs.sf(x), rtol=1e-10)
    np.testing.assert_allclose(ours.ppf(q), theirs.ppf(q), rtol=1e-10)
    if df > 2:
        assert ours.variance == pytest.approx(float(theirs.var()), rel=1e-12)


@pytest.mark.parametrize("df", [0.7, 1.0, 1.5, 2.5, 30.0, 1e5, inf])
def test_reach_leaves_out_a_negligible_tail(df: float) -> None:
    low, high = StudentT(3.0, 2.0, df).reach
    assert float(StudentT(3.0, 2.0, df).cdf(low)) < 1e-16
    assert float(StudentT(3.0, 2.0, df).sf(high)) < 1e-16


def test_moments_that_do_not_exist_say_so() -> None:
    assert isnan(StudentT(0, 1, 1.0).mean)
    assert isnan(StudentT(0, 1, 1.0).variance)
    assert StudentT(0, 1, 2.0).variance == inf


def test_density_far_out_is_finite_and_follows_the_power_law() -> None:
    far = StudentT(0.0, 1.0, 1.0).pdf(np.array([1e200]))
    assert far == pytest.approx(0.0)
    assert float(StudentT(0.0, 1.0, 1.0).pdf(1e100)) == pytest.approx(1e-200 / np.pi, rel=1e-10)


def test_no_scale_is_a_point() -> None:
    point = StudentT(5.0, 0.0, 3.0)
    assert (point.mean, point.variance, point.reach) == (5.0, 0.0, (5.0, 5.0))
    assert point.cdf([4.9, 5.0]).tolist() == [0, 1]
    assert point.sf([4.9, 5.0]).tolist() == [1, 0]
    assert point.pdf([4.9, 5.0]).tolist() == [0, inf]
    assert point.ppf([0.1, 0.9]).tolist() == [5, 5]


def test_update_by_hand() -> None:
    """Prior (0, 1, 1, 1); data 2, 4: n 2, mean 3, d 2.

    kappa' = 3, nu' = 3, mean' = 6/3 = 2, nu' scale' = 1 + 2 + (1 x 2 / 3) 9 = 9, scale' = 3; so the marginal
    is a Student-t at 2 with squared scale 1 and 3 degrees of freedom.
    """
    posterior = NormalInverseGamma(0, 1, 1, 1).updated(2, 3.0, 2.0)
    assert posterior == NormalInverseGamma(2, 3, 3, 3)
    assert posterior.marginal_mean() == StudentT(2, 1, 3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.integers(1, 29))
def test_one_batch_equals_two(values: list[float], cut: int) -> None:
    def updated(prior: NormalInverseGamma, part: list[float]) -> NormalInverseGamma:
        array = np.array(part)
        return (
            prior.updated(len(part), float(array.mean()), float(((array - array.mean()) ** 2).sum()))
            if part
            else prior
        )

    prior = NormalInverseGamma(1.0, 2.0, 3.0, 4.0)
    whole, parts = updated(prior, values), updated(updated(prior, values[:cut]), values[cut:])
    assert parts.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-9)
    assert (parts.kappa, parts.nu) == (whole.kappa, whole.nu)


def test_no_units_leave_the_prior_and_impossible_numbers_are_refused() -> None:
    prior = NormalInverseGamma(1.0, 2.0, 3.0, 4.0)
    assert prior.updated(0, float("nan"), 0.0) == prior
    for attempt in (
        lambda: prior.updated(-1, 0, 0),
        lambda: NormalInverseGamma(0, 0, 1, 1),
        lambda: StudentT(float("nan"), 1, 1),
        lambda: StudentT(0, -1, 1),
    ):
        with pytest.raises(ValueError):
            attempt()


@pytest.mark.parametrize("df", [5.0, inf])
def test_draws_have_the_stated_law(df: float) -> None:
    posterior = StudentT(3.0, 2.0, df)
    draws = posterior.draw(20_000, rng=np.random.default_rng(3))
    assert standard_errors_off(draws, 3.0) < STANDARD_ERRORS
    assert stats.kstest(draws, posterior.cdf).pvalue > 1e-3
    assert stats.kstest(draws * 1.05, posterior.cdf).pvalue < 1e-3  # power: 5 % too large


@pytest.mark.parametrize("bug", ["none", "mean", "scale"])
def test_calibration_under_an_asymmetric_prior(bug: str) -> None:
    """Correct code passes; a shifted mean or a standard deviation taken for a variance must not."""
    prior = NormalInverseGamma(2.0, 3.0, 5.0, 9.0)

    def simulate(rng: np.random.Generator) -> tuple[float, np.ndarray]:
        means, variances = prior.draw(1, rng=rng)
        data = rng.normal(means[0], sqrt(variances[0]), 12)
        posterior = prior.updated(
            12, float(data.mean()), float(((data - data.mean()) ** 2).sum())
        ).marginal_mean()
        if bug == "mean":
            posterior = StudentT(posterior.location + posterior.scale / 2, posterior.scale, posterior.df)
        if bug == "scale":
            posterior = StudentT(posterior.location, posterior.scale**2, posterior.df)
        return float(means[0]), posterior.draw(SBC_POSTERIOR_DRAWS, rng=rng)

    assert (sbc_chi_square(simulate, seed=0) > SBC_LIMIT) == (bug != "none")
