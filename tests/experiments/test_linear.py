"""Bayesian linear regression: against augmented least squares, SciPy, and the defects of rivals."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg, stats

from experiments.posteriors.compare import prob_best
from experiments.posteriors.linear import LinearRegression, RegressionSums, coupled_linear
from experiments.posteriors.normal import NormalInverseGamma
from tests.statistical import (
    SBC_LIMIT,
    SBC_POSTERIOR_DRAWS,
    STANDARD_ERRORS,
    sbc_chi_square,
    share_errors_off,
)

Floats = NDArray[np.float64]
PRIOR = LinearRegression(np.array([1.0, -0.5, 0.25]), np.diag([2.0, 1.0, 0.5]), nu=4.0, scale=2.0)


def sums_of(x: Floats, y: Floats) -> RegressionSums:
    return RegressionSums(float(len(y)), x.T @ x, x.T @ y, float(y @ y))


def data(n: int, theta: Floats, seed: int, sd: float = 1.0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, len(theta) - 1))])
    return x, x @ theta + sd * rng.normal(size=n)


def draws_of(arms: list[LinearRegression], n: int, seed: int) -> Floats:
    """Draws of independent arms as the policy makes them, (n, K, p)."""
    width, rng = len(arms[0].mean), np.random.default_rng(seed)
    none = RegressionSums.none(width)
    coupled = coupled_linear(arms, [[none]] * len(arms), [arm.scale for arm in arms])
    nu = np.array([arm.nu for arm in arms])
    return (
        coupled.mean + coupled.draw(n, rng=rng) * np.sqrt(nu / rng.chisquare(nu, (n, len(arms))))[:, :, None]
    )


def test_one_unit_changes_the_precision_by_its_outer_product() -> None:
    """x x', not |x|^2 nor 1: the published defect of a rival's Normal update."""
    x = np.array([1.0, 2.0, -3.0])
    after = PRIOR.updated(sums_of(x[None], np.array([5.0])))
    assert (after.precision - PRIOR.precision == np.outer(x, x)).all()
    assert PRIOR.updated(RegressionSums.none(3)) is PRIOR


def test_the_posterior_is_least_squares_with_the_prior_as_rows() -> None:
    """P = R'R: rows R with targets R m added to the data; nu s^2 grows by the residuals of both."""
    x, y = data(40, np.array([2.0, 1.0, 0.0]), 1)
    root = linalg.cholesky(PRIOR.precision)
    rows, targets = np.vstack([root, x]), np.concatenate([root @ PRIOR.mean, y])
    expected, residual, _, _ = np.linalg.lstsq(rows, targets, rcond=None)
    found = PRIOR.updated(sums_of(x, y))
    assert found.mean == pytest.approx(expected, rel=1e-10)
    assert found.nu * found.scale == pytest.approx(PRIOR.nu * PRIOR.scale + residual[0], rel=1e-10)
    one_by_one = PRIOR
    for row, total in zip(x, y, strict=True):
        one_by_one = one_by_one.updated(sums_of(row[None], np.array([total])))
    assert one_by_one.mean == pytest.approx(found.mean, rel=1e-9)
    assert one_by_one.scale == pytest.approx(found.scale, rel=1e-9)


def test_without_columns_it_is_the_posterior_of_a_mean() -> None:
    y = np.array([1.0, 4.0, 2.5, 7.0])
    prior = NormalInverseGamma(mean=3.0, kappa=2.0, nu=1.5, scale=0.7)
    expected = prior.updated(4, y.mean(), ((y - y.mean()) ** 2).sum()).marginal_mean()
    alone = LinearRegression(np.array([3.0]), np.array([[2.0]]), 1.5, 0.7)
    found = alone.updated(sums_of(np.ones((4, 1)), y))
    marginal = found.at(np.ones(1))
    assert (marginal.location, marginal.scale, marginal.df) == pytest.approx(
        (expected.location, expected.scale, expected.df), rel=1e-12
    )


def test_draws_have_the_exact_marginal() -> None:
    x, y = data(12, np.array([2.0, 1.0, 0.0]), 3)
    found, at = PRIOR.updated(sums_of(x, y)), np.array([1.0, 0.5, -2.0])
    draws = draws_of([found], 20_000, 4)[:, 0] @ at
    assert stats.kstest(draws, found.at(at).cdf).pvalue > 1e-3
    assert (
        stats.kstest(2 * draws - found.at(at).location, found.at(at).cdf).pvalue < 1e-10
    )  # planted: twice as wide


def calibrated(*, planted: bool) -> float:
    at = np.array([1.0, 0.7, -0.3])

    def simulate(rng: np.random.Generator) -> tuple[float, Floats]:
        variance = PRIOR.nu * PRIOR.scale / rng.chisquare(PRIOR.nu)
        theta = PRIOR.mean + np.sqrt(variance / np.diag(PRIOR.precision)) * rng.normal(size=3)
        x = np.column_stack([np.ones(8), rng.normal(size=(8, 2))])
        y = x @ theta + np.sqrt(variance) * rng.normal(size=8)
        found = PRIOR.updated(sums_of(x, y))
        if planted:  # the precision taken for the covariance
            found = LinearRegression(found.mean, linalg.inv(found.precision), found.nu, found.scale)
        return float(at @ theta), draws_of([found], SBC_POSTERIOR_DRAWS, int(rng.integers(2**31)))[:, 0] @ at

    return sbc_chi_square(simulate, seed=5)


def test_the_posterior_is_calibrated_and_the_test_would_see_a_covariance_for_a_precision() -> None:
    assert calibrated(planted=False) < SBC_LIMIT
    assert calibrated(planted=True) > 10 * SBC_LIMIT


def test_the_spread_shrinks_as_one_over_the_root_of_n() -> None:
    """In a rival it grows: 1.75, 6.42, 17.4 after 3, 30 and 300 rows."""
    at = np.array([1.0, 0.3, -0.8])
    spreads = []
    for n in (100, 400, 1600, 6400):
        x, y = data(n, np.array([2.0, 1.0, 0.0]), n)
        draws = draws_of([PRIOR.updated(sums_of(x, y))], 4000, n)[:, 0] @ at
        spreads.append(draws.std() * np.sqrt(n))
    assert max(spreads) / min(spreads) < 1.15


@pytest.mark.parametrize("arms", [2, 5, 10])
def test_identical_arms_win_equally_often(arms: int) -> None:
    """1,000 of 1,000 choices go to arm 0 in a rival, whose arms share one stream of noise."""
    x, y = data(50, np.array([2.0, 1.0, 0.0]), 6)
    found = PRIOR.updated(sums_of(x, y))
    n = 20_000
    scores = draws_of([found] * arms, n, 7) @ np.ones(3)
    won = np.bincount(scores.argmax(axis=1), minlength=arms)
    assert max(share_errors_off(int(count), n, 1 / arms) for count in won) < STANDARD_ERRORS


def test_unequal_arms_win_as_often_as_they_are_best() -> None:
    """Against quadrature over the exact marginals, in several contexts."""
    arms = [PRIOR.updated(sums_of(*data(20 + 10 * k, np.array([2.0, 0.2 * k, 0.0]), k))) for k in range(4)]
    n = 40_000
    draws = draws_of(arms, n, 8)
    for at in (np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, -1.0]), np.array([1.0, -2.0, 0.5])):
        exact = prob_best([arm.at(at) for arm in arms])
        won = np.bincount((draws @ at).argmax(axis=1), minlength=4)
        errors = [share_errors_off(int(count), n, float(p)) for count, p in zip(won, exact, strict=True)]
        assert max(errors) < STANDARD_ERRORS


def test_arms_in_different_sets_are_one_weighted_regression() -> None:
    """Against least squares over the whole design: arms' columns, a column for each set but the first."""
    rng = np.random.default_rng(9)
    noises, sums, rows, targets = (1.0, 4.0), [], [], []
    prior = LinearRegression(np.array([0.5, 0.1]), np.diag([1.0, 2.0]), 1.0, 1.0)
    for k in range(2):
        of_arm = []
        for s in range(3):
            n = 20 + 7 * k + 3 * s
            x = np.column_stack([np.ones(n), rng.normal(size=n)])
            y = x @ np.array([1.0, k]) + 3.0 * s + noises[k] ** 0.5 * rng.normal(size=n)
            of_arm.append(sums_of(x, y))
            full = np.zeros((n, 6))
            full[:, 2 * k : 2 * k + 2] = x
            if s:
                full[:, 3 + s] = 1.0
            rows.append(full / noises[k] ** 0.5)
            targets.append(y / noises[k] ** 0.5)
        sums.append(of_arm)
        beliefs = np.zeros((2, 6))
        beliefs[:, 2 * k : 2 * k + 2] = np.diag([1.0, 2.0**0.5])
        rows.append(beliefs / noises[k] ** 0.5)
        targets.append(np.array([0.5, 0.1 * 2.0**0.5]) / noises[k] ** 0.5)
    effects = np.zeros((2, 6))
    effects[:, 4:] = np.eye(2) / 2.5**0.5
    design = np.vstack([*rows, effects])
    expected = np.linalg.lstsq(design, np.concatenate([*targets, np.zeros(2)]), rcond=None)[0]
    found = coupled_linear([prior, prior], sums, noises)
    assert found.mean.ravel() == pytest.approx(expected[:4], rel=1e-9)
    assert found.precision == pytest.approx(design.T @ design, rel=1e-9, abs=1e-9)
    assert found.covariance() == pytest.approx(np.linalg.inv(design.T @ design)[:4, :4], rel=1e-8)
    drawn = found.draw(200_000, rng=rng).reshape(-1, 4)
    assert np.cov(drawn.T) == pytest.approx(found.covariance(), abs=5 * 0.12 / 200_000**0.5 * 4)


def test_an_arm_seen_only_where_everybody_buys_is_compared_with_those_it_met() -> None:
    """Set 1 sells 10 more of everything; b was a candidate only there, and is 1 worse than the control."""
    rng = np.random.default_rng(10)
    means = {("none", 0): 5.0, ("none", 1): 15.0, ("a", 0): 5.5, ("b", 1): 14.0}
    sums = [
        [
            sums_of(np.ones((400, 1)), rng.normal(means[key, s], 1.0, 400))
            if (key, s) in means
            else RegressionSums.none(1)
            for s in range(2)
        ]
        for key in ("none", "a", "b")
    ]
    prior = LinearRegression(np.array([8.0]), np.eye(1), 1.0, 1.0)
    mean = coupled_linear([prior] * 3, sums, [1.0] * 3).mean.ravel()
    assert mean - mean[0] == pytest.approx([0.0, 0.5, -1.0], abs=0.25)
