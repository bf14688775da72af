from math import inf, sqrt
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import integrate, special

from experiments.analysis.comparison import oriented
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import (
    Difference,
    RatioMinusOne,
    difference,
    prob_best,
    prob_greater,
    ratio_minus_one,
)
from experiments.posteriors.log_normal import ShiftedLogNormal
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import FloatArray, Posterior
from tests.statistical import STANDARD_ERRORS, share_errors_off, standard_errors_off

PAIRS: list[tuple[Posterior, Posterior]] = [
    (Beta(31, 971), Beta(41, 961)),
    (Beta(3, 9), Beta(4_000, 96_000)),
    (Beta(4_000, 96_000), Beta(3, 9)),
    (Beta(1, 301), Beta(1, 201)),
    (Beta(1, 1001), Beta(6, 501)),
    (StudentT(110, 4, 30), StudentT(100, 3, 400)),
    (StudentT(110, 0.01, 30), StudentT(100, 12)),
    (StudentT(-5, 4, 5), StudentT(100, 3, 400)),
    (StudentT(110, 0.0), StudentT(100, 3, 400)),
    (StudentT(110, 4.0), StudentT(100, 0.0)),
]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_contrasts_are_within_monte_carlo_error_of_draws(a: Posterior, b: Posterior) -> None:
    rng = np.random.default_rng(11)
    of_a, of_b = a.draw(100_000, rng=rng), b.draw(100_000, rng=rng)
    contrasts = [(difference(a, b), of_a - of_b)]
    ratio = ratio_minus_one(a, b)
    if ratio is not None:
        contrasts.append((ratio, of_a / of_b - 1))
    assert (ratio is None) == (float(b.cdf(0.0)) > 1e-6)
    for contrast, draws in contrasts:
        for q in (0.025, 0.5, 0.9):
            below = int((draws <= float(contrast.ppf(q))).sum())
            assert share_errors_off(below, len(draws), q) < STANDARD_ERRORS
            moved = int((draws <= float(contrast.ppf(min(q * 1.2, 0.98)))).sum())
            assert (
                share_errors_off(moved, len(draws), q) > STANDARD_ERRORS
            )  # power: a quantile misplaced by a fifth
        if not (isinstance(b, Beta) and b.alpha <= 3 and contrast is ratio):  # 1 / b then has no variance
            assert standard_errors_off(draws, contrast.mean()) < STANDARD_ERRORS


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_density_cdf_and_quantiles_agree(a: Posterior, b: Posterior) -> None:
    ratio = ratio_minus_one(a, b)
    for contrast in (difference(a, b), *([ratio] if ratio is not None else [])):
        low, high = contrast.interval(0.95)
        np.testing.assert_allclose(contrast.cdf([low, high]), [0.025, 0.975], atol=1e-9)
        area, _ = integrate.quad(
            lambda x, c=contrast: float(c.density(x)), low, high, epsabs=1e-8, limit=200, points=[0.0]
        )
        assert area == pytest.approx(0.95, abs=1e-6)
        grid = contrast.cdf(np.linspace(low, high, 101))
        assert grid.shape == (101,)
        assert np.all(np.diff(grid) > 0)


def test_difference_of_normals_in_closed_form() -> None:
    contrast = difference(StudentT(3, 3), StudentT(1, 4))
    x = np.array([-20.0, 0.0, 2.0, 9.0])
    np.testing.assert_allclose(contrast.cdf(x), special.ndtr((x - 2) / 5), rtol=1e-11)
    np.testing.assert_allclose(contrast.ppf([0.001, 0.8]), 2 + 5 * special.ndtri([0.001, 0.8]), rtol=1e-10)
    far = [1e-9, 1 - 1e-9]
    np.testing.assert_allclose(contrast.ppf(far), 2 + 5 * special.ndtri(far), rtol=1e-7)
    assert contrast.mean() == 2


def test_ratio_of_normals_by_its_linear_form() -> None:
    """a / b <= r with b > 0 is a - r b <= 0, which is Normal; P(b <= 0) is far below rounding here."""
    for sd_a, sd_b in ((3.0, 2.0), (0.01, 2.0), (3.0, 0.01)):
        contrast = ratio_minus_one(StudentT(-20, sd_a), StudentT(100, sd_b))
        assert contrast is not None
        lift = np.array([-1.25, -1.2, -1.19, -1.0, -0.9])
        exact = special.ndtr(((lift + 1) * 100 + 20) / np.sqrt(sd_a**2 + ((lift + 1) * sd_b) ** 2))
        np.testing.assert_allclose(contrast.cdf(lift), exact, atol=1e-11)


def test_the_chance_of_a_gain_is_the_same_three_ways() -> None:
    a, b = Beta(31, 971), Beta(41, 961)
    ratio = ratio_minus_one(a, b)
    assert ratio is not None
    assert 1 - float(difference(a, b).cdf(0.0)) == pytest.approx(prob_greater(a, b), abs=1e-11)
    assert 1 - float(ratio.cdf(0.0)) == pytest.approx(prob_greater(a, b), abs=1e-11)


def test_mean_ratio_of_proportions_is_exact() -> None:
    """E[1 / b] = (alpha + beta - 1) / (alpha - 1)."""
    ratio = ratio_minus_one(Beta(3, 7), Beta(20, 80))
    assert ratio is not None
    assert ratio.mean() == pytest.approx(0.3 * 99 / 19 - 1, rel=1e-8)


def test_no_ratio_to_what_may_be_zero_or_negative() -> None:
    assert ratio_minus_one(StudentT(1, 1), StudentT(1, 1)) is None
    assert ratio_minus_one(StudentT(1, 1), StudentT(0, 0)) is None
    assert ratio_minus_one(StudentT(1, 1), StudentT(-5, 0.01)) is None
    assert ratio_minus_one(StudentT(1, 1), StudentT(10, 1, inf)) is not None


def test_quantiles_of_points_and_impossible_levels() -> None:
    assert difference(StudentT(3, 0), StudentT(1, 0)).interval() == (2.0, 2.0)
    with pytest.raises(ValueError):
        difference(StudentT(3, 1), StudentT(1, 1)).ppf(1.0)


def test_an_interval_holds_what_it_says() -> None:
    low, high = difference(StudentT(3, 3), StudentT(1, 4)).interval(0.5)
    assert high - low == pytest.approx(2 * 0.6744897501960817 * sqrt(25), rel=1e-10)


@pytest.mark.parametrize("posterior", [Beta(3, 9), StudentT(0.4, 0.2, 5), StudentT(0.4, 0.0)])
def test_the_mirror_of_what_should_fall_keeps_every_chance(posterior: Posterior) -> None:
    """P(1 - theta >= 1 - x) = P(theta <= x); with sign 1 nothing is turned."""
    mirrored = oriented(posterior, -1)
    for x in (0.1, 0.35, 0.45, 0.9):
        assert float(mirrored.sf(1 - x)) == pytest.approx(float(posterior.cdf(x)), rel=1e-12)
    assert oriented(posterior, 1) is posterior


def test_a_posterior_without_a_mirror_is_refused_and_not_taken_as_it_is() -> None:
    """Shift and skew of a log-normal point one way; only money per unit has one, of which more is better."""
    above = ShiftedLogNormal(0.0, 1.0, 0.5)
    assert oriented(above, 1) is above
    with pytest.raises(TypeError, match="no mirror of ShiftedLogNormal"):
        oriented(above, -1)


NEAR_NORMAL = [
    (difference(Beta(6_001, 4_001), Beta(6_101, 3_901)), 2),
    (difference(StudentT(3.0, 0.2, 9_000.0), StudentT(1.0, 0.1, 9_000.0)), 1),
    (RatioMinusOne(StudentT(3.0, 0.02, 9_000.0), StudentT(1.0, 0.01, 9_000.0)), 1),
    (RatioMinusOne(StudentT(3.0, 0.2, 90.0), StudentT(1.0, 0.1, 50.0)), 3),
    (RatioMinusOne(Beta(120, 4_001), Beta(101, 3_901)), 3),
]


@pytest.mark.parametrize(("contrast", "most"), NEAR_NORMAL)
def test_quantiles_of_near_normal_posteriors_take_few_integrals(
    contrast: Difference | RatioMinusOne, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brent's method took 32 for an interval; the report's cost is mostly this."""
    kind: Any = type(contrast)
    cdf, taken = kind.cdf, [0]

    def counted(self: Any, x: ArrayLike) -> FloatArray:
        taken[0] += 1
        return cdf(self, x)

    monkeypatch.setattr(kind, "cdf", counted)
    ends = contrast.interval(0.95)
    assert taken[0] <= most
    np.testing.assert_allclose(cdf(contrast, ends), [0.025, 0.975], atol=1e-12)


@pytest.mark.parametrize(("scale_a", "scale_b"), [(3.8e-6, 2.4e-14), (2.4e-14, 3.8e-6), (1e-20, 0.0)])
def test_a_posterior_narrower_than_the_rounding_of_its_location_is_a_point(
    scale_a: float, scale_b: float
) -> None:
    """Orders that are all alike: what rounding leaves is no spread, and a search for its quantiles ends."""
    a, b = StudentT(5000.0, scale_a), StudentT(5000.0, scale_b)
    wide = max(a.scale, b.scale)
    assert wide == (0.0 if max(scale_a, scale_b) == 1e-20 else 3.8e-6)
    low, high = difference(a, b).interval()
    assert (low, high) == pytest.approx((-1.959964 * wide, 1.959964 * wide), abs=1e-11)
    lift = ratio_minus_one(a, b)
    assert lift is not None
    assert lift.interval() == pytest.approx((low / 5000, high / 5000), rel=1e-5, abs=1e-15)


def test_points_apart_by_more_than_their_widths_compare_as_points() -> None:
    near_zero, far = StudentT(0.0, 1e-120), StudentT(5000.0, 0.0)
    assert difference(near_zero, far).interval() == (-5000.0, -5000.0)
    assert prob_greater(far, near_zero) == 1.0
    arms = [StudentT(1e6, 3.0), StudentT(1.0, 1e-13), StudentT(2.0, 0.2)]
    assert prob_best(arms).tolist() == [1.0, 0.0, 0.0]


def test_a_search_that_finds_no_quantile_ends() -> None:
    class NeverReached(StudentT):
        def cdf(self, x: ArrayLike) -> FloatArray:
            return np.minimum(super().cdf(x), 0.5)

        def sf(self, x: ArrayLike) -> FloatArray:
            return np.maximum(super().sf(x), 0.5)

    with pytest.raises(ArithmeticError, match=r"no 0\.975 quantile"):
        difference(NeverReached(0.0, 4.0), StudentT(0.0, 1.0)).interval()
