"""Sizes and chances of one look and of many, against published tables and laws computed otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import multivariate_normal

from experiments.analysis.sequential import Counts, lift_of_rates
from experiments.analysis.sequential_lifts import asymptotic_lift
from experiments.model import VerdictSettings
from experiments.planning.anytime import evidence_against_equal, units_asymptotic, units_of_rates
from experiments.planning.baselines import Quantity
from experiments.planning.contrasts import Split, drift, even_split, power_of, quantile, units_for
from experiments.planning.deciding import (
    correlation_of,
    prob_any,
    prob_no_difference,
    sure_limit,
    units_for_no_difference,
)
from experiments.planning.looking import Looks, by_factor, evenly, quantile_of
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_greater, ratio_minus_one
from tests.statistical import share_errors_off

HALF = Split(0.5, 0.5)
Z = 1.959964


def rate(p: float) -> Quantity:
    return Quantity(p, math.sqrt(p * (1 - p)))


@pytest.mark.parametrize(
    ("treatment", "control", "shift", "z", "each"),
    [
        (rate(0.85), rate(0.65), 0.0, Z, 70),  # Chow, Shao & Wang 2008, p. 89
        (rate(0.85), rate(0.65), 0.0, 1.644854, 55),  # the same at 5 %, one-sided
        (Quantity(10, 10), Quantity(5, 10), 0.0, Z, 63),  # two means, equality (3.2)
        (Quantity(5, 10), Quantity(5, 10), -5.0, 1.644854, 50),  # two means, non-inferiority by 5 (3.2)
    ],
)
def test_sizes_are_the_published_ones(
    treatment: Quantity, control: Quantity, shift: float, z: float, each: int
) -> None:
    units = units_for(drift(treatment, control, HALF, shift=shift), z, 0.8)
    assert units is not None
    assert math.ceil(units / 2) == each


def test_unequal_split_costs_what_the_formula_says() -> None:
    """Chow, Shao & Wang 4.2: n_c = (p_t q_t / k + p_c q_c) (z + z_b)^2 / difference^2, n_t = k n_c."""
    split = Split(0.25, 0.75)
    units = units_for(drift(rate(0.85), rate(0.65), split), Z, 0.8)
    smaller = (0.85 * 0.15 / 3 + 0.65 * 0.35) * ((Z + quantile(0.8)) / 0.2) ** 2
    assert units == pytest.approx(4 * smaller, rel=1e-9)


def test_power_of_the_exact_posterior_rule() -> None:
    """By enumeration of both binomials: P(P(theta_t > theta_c | counts) >= 0.975) with Beta(1, 1) priors."""
    n, p_t, p_c = 400, 0.17, 0.10
    least = {s: _least_sure(s, n) for s in range(10, 75)}
    exact = sum(stats.binom.pmf(s, n, p_c) * stats.binom.sf(k - 1, n, p_t) for s, k in least.items())
    predicted = power_of(drift(rate(p_t), rate(p_c), HALF), 2 * n, Z)
    assert predicted == pytest.approx(float(exact), abs=0.01)
    planted = power_of(drift(rate(p_t), rate(p_c), HALF), n, Z)  # units of one arm taken for those of all
    assert abs(planted - float(exact)) > 0.1


def _least_sure(control: int, n: int) -> int:
    low, high = control, n
    while low < high:
        middle = (low + high) // 2
        sure = prob_greater(Beta(1 + middle, 1 + n - middle), Beta(1 + control, 1 + n - control)) >= 0.975
        low, high = (low, middle) if sure else (middle + 1, high)
    return low


def test_what_never_comes_is_none() -> None:
    assert units_for(0.0, Z, 0.8) is None
    assert units_for(-0.1, Z, 0.8) is None
    assert units_for(0.1, -1.0, 0.8) == 0.0
    assert power_of(1.0, 0.0, Z) == 0.0
    sure = Quantity(1.0, 0.0)
    assert drift(sure, Quantity(0.5, 0.0), HALF) == math.inf
    assert drift(Quantity(0.5, 0.0), sure, HALF) == -math.inf
    assert drift(sure, sure, HALF) == 0.0


def test_split_of_the_control_and_equal_treatments() -> None:
    assert even_split(2) == Split(0.5, 0.5)
    assert even_split(5, 0.2) == Split(0.2, 0.2)


@pytest.mark.parametrize(
    ("looks", "published"), [(1, 0.05), (2, 0.083), (5, 0.142), (10, 0.193), (20, 0.248), (50, 0.320)]
)
def test_repeated_looks_at_five_percent(looks: int, published: float) -> None:
    """Armitage, McPherson & Rowe 1969, table 2."""
    up, low = Looks(evenly(1.0, looks), Z, -Z).crossing(0.0)
    assert float(up.sum() + low.sum()) == pytest.approx(published, abs=6e-4)
    assert up == pytest.approx(low)


@pytest.mark.parametrize(("looks", "constant"), [(2, 2.178), (5, 2.413), (10, 2.555), (20, 2.672)])
def test_pocock_limits_hold_five_percent(looks: int, constant: float) -> None:
    """Jennison & Turnbull 2000, table 2.1."""
    up, low = Looks(evenly(7.0, looks), constant, -constant).crossing(0.0)
    assert float(up.sum() + low.sum()) == pytest.approx(0.05, abs=2e-4)


@pytest.mark.parametrize("d", [-0.02, 0.0, 0.03, 0.2])
def test_crossing_with_drift_is_that_of_the_normal_law_of_all_looks(d: float) -> None:
    at = np.array(by_factor(100.0, 1_000.0, 6))
    covariance = np.sqrt(np.minimum.outer(at, at) / np.maximum.outer(at, at))
    law = multivariate_normal(d * np.sqrt(at), covariance, seed=1, maxpts=300_000, abseps=1e-7, releps=1e-7)
    none = law.cdf(np.full(6, 2.3))
    up, low = Looks(tuple(at), 2.3).crossing(d)
    assert float(up.sum()) == pytest.approx(1.0 - float(none), abs=3e-5)
    assert not low.any()
    independent = 1.0 - float(np.prod(stats.norm.cdf(2.3 - d * np.sqrt(at))))  # planted: looks that forget
    if d < 0.1:
        assert abs(independent - (1.0 - float(none))) > 1e-3


def test_paths_with_drift_cross_when_they_are_said_to() -> None:
    rng = np.random.default_rng(11)
    at, d, runs = np.array(evenly(900.0, 30)), 0.06, 20_000
    steps = rng.standard_normal((runs, 30)) * math.sqrt(30.0) + d * 30.0
    paths = np.cumsum(steps, axis=1) / np.sqrt(at)
    crossed = paths > 2.0
    first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), 30)
    up, _ = Looks(tuple(at), 2.0).crossing(d)
    for look in (0, 4, 14, 29):
        count = int((first <= look).sum())
        assert share_errors_off(count, runs, float(up[: look + 1].sum())) < 5
    middle = quantile_of(up, tuple(at), 0.5)
    assert middle is not None
    assert abs((first <= list(at).index(middle)).mean() - 0.5) < 0.05
    assert quantile_of(up, tuple(at), 0.999) is None


@pytest.mark.parametrize(("treatments", "limit"), [(1, 1.645), (2, 1.92), (3, 2.06), (4, 2.16), (5, 2.23)])
def test_several_treatments_share_a_control(treatments: int, limit: float) -> None:
    """Dunnett 1955, table 1a, infinite degrees of freedom: 5 % one-sided for the family."""
    assert prob_any([0.0] * treatments, limit, 0.5) == pytest.approx(0.05, abs=7e-4)


def test_chance_of_any_with_drifts_is_that_of_the_joint_normal_law() -> None:
    arms = rate(0.2), rate(0.1)
    correlation = correlation_of(*arms, Split(0.4, 0.2))
    assert correlation == pytest.approx((0.09 / 0.4) / (0.09 / 0.4 + 0.16 / 0.2))
    covariance = np.full((3, 3), correlation) + (1 - correlation) * np.eye(3)
    none = multivariate_normal([0.5, 1.5, -1.0], covariance, seed=1).cdf(np.full(3, 2.1))
    assert prob_any([0.5, 1.5, -1.0], 2.1, correlation) == pytest.approx(1 - float(none), abs=1e-5)
    assert correlation_of(Quantity(1, 0), Quantity(1, 0), HALF) == 0.0


def test_limit_of_a_verdict_allows_for_the_treatments() -> None:
    assert sure_limit(VerdictSettings(), 1) == pytest.approx(stats.norm.ppf(0.975))
    assert sure_limit(VerdictSettings(tail=0.05), 2) == pytest.approx(stats.norm.ppf(0.975))


def test_no_difference_is_found_as_often_as_planned() -> None:
    """Against the production rule: P(|theta_t / theta_c - 1| < rope) of two Beta posteriors."""
    settings, p = VerdictSettings(rope=0.05), 0.4
    units = units_for_no_difference(rate(p), rate(p), HALF, settings, 0.8)
    assert units is not None
    n, runs = round(units / 2), 400
    rng = np.random.default_rng(3)
    found = 0
    for s_t, s_c in rng.binomial(n, p, (runs, 2)).tolist():
        change = ratio_minus_one(Beta(1 + s_t, 1 + n - s_t), Beta(1 + s_c, 1 + n - s_c))
        assert change is not None
        low, high = change.cdf([-0.05, 0.05])
        found += bool(high - low >= 0.95)
    assert share_errors_off(found, runs, 0.8) < 4
    one_sided = 2 * stats.norm.cdf(_rope_errors(n, p) - 1.0) - 1  # planted: the error taken for the margin
    assert share_errors_off(found, runs, float(one_sided)) > 5


def _rope_errors(n: int, p: float) -> float:
    return 0.05 * p / math.sqrt(2 * p * (1 - p) / n)


def test_no_difference_by_hand() -> None:
    """Far beyond the other edge the rule is x <= rope - 1.645 errors: 2 Phi(6 - 1.645) - 1 at six errors."""
    assert prob_no_difference(6.0, 0.95) == pytest.approx(2 * stats.norm.cdf(6 - 1.644854) - 1, abs=1e-9)
    assert prob_no_difference(1.9, 0.95) == 0.0
    nothing = Quantity(0.0, 1.0)
    assert units_for_no_difference(nothing, nothing, HALF, VerdictSettings(), 0.8) is None
    assert units_for_no_difference(rate(0.1), rate(0.1), HALF, VerdictSettings(rope=0.0), 0.8) is None


def test_exact_sequence_leaves_zero_out_as_often_as_planned() -> None:
    p_t, p_c, runs = 0.13, 0.10, 500
    units = units_of_rates(rate(p_t), rate(p_c), HALF, 0.8)
    assert units is not None
    n = round(units / 2)
    rng = np.random.default_rng(5)
    found = 0
    for s_t, s_c in zip(
        rng.binomial(n, p_t, runs).tolist(), rng.binomial(n, p_c, runs).tolist(), strict=True
    ):
        arms = Counts(n, s_t), Counts(n, s_c)
        is_out = s_t > s_c and evidence_against_equal(*arms) >= math.log(20)
        found += is_out
        if runs - found < 5:  # the production interval itself, on a few
            assert is_out == (lift_of_rates(*arms)[0] > 0)
    assert share_errors_off(found, runs, 0.8) < 4
    one_look = units_for(drift(rate(p_t), rate(p_c), HALF), Z, 0.8)
    assert one_look is not None
    assert units / one_look > 2.0  # so that the size of one look would have been found out


def test_evidence_agrees_with_the_interval_of_the_report() -> None:
    for s_t in (2_000, 2_150, 2_240, 2_260, 2_300, 2_400):
        arms = Counts(20_000, s_t), Counts(20_000, 2_000)
        low, _ = lift_of_rates(*arms)
        assert (evidence_against_equal(*arms) >= math.log(20)) == (low > 0)


def test_asymptotic_sequence_takes_its_half_width() -> None:
    d = 0.02
    units = units_asymptotic(d, HALF, 0.9)
    assert units is not None
    error = 1.0 / math.sqrt(units)  # of a lift of d: the unlucky one in ten just touches 0
    told = asymptotic_lift(d - quantile(0.9) * error, error, units)
    assert told.ci_low == pytest.approx(0.0, abs=1e-7)
    assert units_asymptotic(0.0, HALF, 0.8) is None
    assert units_asymptotic(1.0, Split(0.2, 0.8), 0.8) == pytest.approx(5_000)  # 1,000 units of each arm
    assert units_asymptotic(1e-7, HALF, 0.8) is None
    assert units_of_rates(rate(0.1), rate(0.1), HALF, 0.8) is None
    down = units_of_rates(rate(0.08), rate(0.10), HALF, 0.8)
    assert down == pytest.approx(units_of_rates(rate(0.92), rate(0.90), HALF, 0.8), rel=1e-3)


def test_looks_that_lie_very_far_apart_are_as_good_as_independent() -> None:
    """A million million times the units: what was seen before says nothing of it."""
    p = float(stats.norm.sf(1.5))
    up, _ = Looks((1.0, 1e14, 1e28), 1.5).crossing(0.0)
    assert up == pytest.approx([p, p * (1 - p), p * (1 - p) ** 2], abs=1e-6)
