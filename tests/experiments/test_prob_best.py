"""P(best) against references that share nothing with it: 50-digit sums, sinc integration, closed forms."""

from __future__ import annotations

from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special

from experiments.posteriors import compare, quadrature
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best, prob_greater
from experiments.posteriors.normal import StudentT
from experiments.posteriors.quadrature import SHORT_NODES, running_integral, short_rule
from tests.experiments.test_compare import ARMS, exact_prob_greater
from tests.statistical import FloatArray


def sinc_prob_best(arms: Sequence[Beta]) -> FloatArray:
    """P(best) by sinc quadrature over the log-odds, densities at 30 digits (Stenger 1993, 4.5).

    Over a grid of step h, integral f = h sum f_i and the running integral is h sum f_i (1/2 + Si(pi (j - i))
    / pi): the error falls as exp(-(pi width / h)^2 / 2), here below 1e-100 for one arm and 1e-14 for the
    product of a hundred.
    """
    with mpmath.workdps(30):
        spread = [mpmath.sqrt(mpmath.psi(1, arm.alpha) + mpmath.psi(1, arm.beta)) for arm in arms]
        centres = [mpmath.digamma(arm.alpha) - mpmath.digamma(arm.beta) for arm in arms]
        tails = [10 * s + 40 / min(arm.alpha, arm.beta) for s, arm in zip(spread, arms, strict=True)]
        low = float(min(c - t for c, t in zip(centres, tails, strict=True)))
        high = float(max(c + t for c, t in zip(centres, tails, strict=True)))
        step = float(min(spread)) / 8
        grid = [low + step * i for i in range(int((high - low) / step) + 2)]
        logs = [(-mpmath.log1p(mpmath.exp(-t)), -mpmath.log1p(mpmath.exp(t))) for t in grid]
        densities = np.empty((len(arms), len(grid)))
        for k, arm in enumerate(arms):
            constant = mpmath.log(mpmath.beta(arm.alpha, arm.beta))
            densities[k] = [float(mpmath.exp(arm.alpha * p + arm.beta * q - constant)) for p, q in logs]
    lag = np.arange(len(grid))
    steps = 0.5 + special.sici(np.pi * (lag[:, None] - lag[None, :]))[0] / np.pi
    cdfs = step * densities @ steps.T
    others = [np.prod(np.delete(cdfs, k, axis=0), axis=0) for k in range(len(arms))]
    return step * (densities * np.array(others)).sum(axis=1)


def similar_arms(n_arms: int, n: int, *, seed: int) -> list[Beta]:
    """Arms of about n units whose rates lie within a few of their standard errors."""
    rng = np.random.default_rng(seed)
    sizes = n * rng.uniform(0.7, 1.3, n_arms)
    rates = np.abs(0.05 + np.sqrt(0.05 / n) * rng.standard_normal(n_arms))
    return [Beta(1 + round(m * r), 1 + round(m * (1 - r))) for m, r in zip(sizes, rates, strict=True)]


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
@example(89, 89, 187, 187)  # 1.1e-12 off while a panel might err by 1e-12
@settings(max_examples=40, deadline=None)
def test_two_arms_of_up_to_a_thousand_units_to_1e_12(n_a: int, s_a: int, n_b: int, s_b: int) -> None:
    a = Beta(1, 1).updated(min(s_a, n_a), n_a - min(s_a, n_a))
    b = Beta(1, 1).updated(min(s_b, n_b), n_b - min(s_b, n_b))
    truth = exact_prob_greater(a, b)
    assert abs(prob_greater(a, b) - truth) < 1e-12
    assert abs(prob_greater(b, a) - (1 - truth)) < 1e-12


@pytest.mark.parametrize(
    ("n_arms", "n"), [(2, 100_000_000), (3, 1_000), (10, 30), (10, 100_000_000), (100, 100_000)]
)
def test_any_number_of_arms_against_sinc_integration(n_arms: int, n: int) -> None:
    arms = similar_arms(n_arms, n, seed=n_arms)
    truth = sinc_prob_best(arms)
    assert truth.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(prob_best(arms), truth, rtol=0, atol=1e-10)


def test_one_rule_over_the_unit_interval_is_seen_to_be_wrong() -> None:
    """The planted bug: 128 nodes over [0, 1], whatever the posteriors' width."""
    x, w = np.polynomial.legendre.leggauss(128)
    x, w = 0.5 * (x + 1), 0.5 * w
    arms = similar_arms(3, 100_000, seed=3)
    densities, cdfs = (np.array([getattr(arm, name)(x) for arm in arms]) for name in ("pdf", "cdf"))
    wrong = (densities * quadrature.others_product(cdfs) * w).sum(axis=1)
    assert np.abs(wrong - sinc_prob_best(arms)).max() > 1e-3


@pytest.mark.parametrize("n", [1_000, 10_000_000, 100_000_000])
@pytest.mark.parametrize("n_arms", [2, 10, 100])
def test_twice_the_nodes_say_the_same(n_arms: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(n_arms)
    gathered = {
        "beta": similar_arms(n_arms, n, seed=n),
        "spread out": [Beta(1 + n * r, 1 + n * (1 - r)) for r in np.linspace(0.05, 0.12, n_arms)],
        "students": [StudentT(m, 1.0, 9.0) for m in rng.normal(0, 1, n_arms)],
        "widths apart": [StudentT(m, 10.0**-k, n) for k, m in enumerate(rng.normal(0, 0.1, 5))],
    }
    once = {name: prob_best(arms) for name, arms in gathered.items()}
    monkeypatch.setattr(quadrature, "_SHORT", 1.25)
    for name, arms in gathered.items():
        np.testing.assert_allclose(prob_best(arms), once[name], rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("name", ["proportions", "means"])
def test_rounding_is_not_halved_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 10^8 units the integrand itself is uncertain by more than a panel may err: that took 13 rounds."""
    rounds: list[int] = []
    parts = compare._panel_parts

    def counted(arms: quadrature.Arms, left: FloatArray, *more: FloatArray) -> FloatArray:
        rounds.append(len(left))
        return parts(arms, left, *more)

    monkeypatch.setattr(compare, "_panel_parts", counted)
    means = [StudentT(1e6 + mean, 1.0, 1e7) for mean in np.linspace(0, 2, 100).tolist()]
    prob_best(similar_arms(100, 100_000_000, seed=3) if name == "proportions" else means)
    assert len(rounds) <= 4
    assert sum(rounds) <= 40


def test_a_mean_a_million_widths_from_zero_loses_no_digits() -> None:
    arms = [StudentT(3e7, 0.5), StudentT(3e7 + 0.25, 1.0)]
    truth = float(special.ndtr(0.25 / np.hypot(0.5, 1.0)))
    assert prob_best(arms)[1] == pytest.approx(truth, abs=1e-14)


@pytest.mark.parametrize("deviations", [3.0, 5.0, 7.0, 7.9])
@pytest.mark.parametrize("width", [0.01, 1.0, 10.0])
def test_a_small_chance_keeps_its_digits(deviations: float, width: float) -> None:
    """Phi(-d) of two Normals d standard errors apart, to 1e-3 of itself down to 1e-15."""
    arms = [StudentT(0.0, width), StudentT(deviations * np.hypot(1.0, width), 1.0)]
    truth = float(special.ndtr(-deviations))
    assert prob_best(arms)[0] / truth == pytest.approx(1.0, abs=1e-3)
    assert prob_best(arms)[0] / truth == pytest.approx(1.0, abs=1e-6) or deviations > 7


def test_a_small_chance_of_a_proportion_keeps_its_digits() -> None:
    """About 4e-16: 2,000 units each at 5 and at 12 %."""
    low, high = Beta(100, 1900), Beta(240, 1760)
    chance = prob_best([low, high])[0]
    assert chance / exact_prob_greater(low, high) == pytest.approx(1.0, abs=1e-6)
    assert chance < 1e-15


def test_no_chance_is_negative() -> None:
    """Rounding must not make a share below 0: arms a hundred widths below the leader."""
    for scale in (1e-6, 1.0, 1e6):
        arms = [StudentT(m * scale, w * scale) for m, w in ((0, 1), (1, 0.01), (9, 1), (18, 1), (100, 1))]
        assert prob_best(arms).min() >= 0.0
    assert prob_best([Beta(1 + s, 10_001 - s) for s in range(0, 10_000, 250)]).min() >= 0.0


@pytest.mark.parametrize("name", [*ARMS, "a hundred"])
def test_relabelling_arms_of_any_kind_relabels_their_chances(name: str) -> None:
    arms = ARMS[name] if name in ARMS else similar_arms(100, 5_000, seed=1)
    order = np.random.default_rng(8).permutation(len(arms))
    again = prob_best([arms[k] for k in order])
    np.testing.assert_allclose(again, prob_best(arms)[order], rtol=0, atol=1e-12)


@given(st.floats(-3, 3), st.floats(0.01, 2), st.floats(0.1, 3), st.sampled_from([1.5, 4.0, 200.0, np.inf]))
@settings(max_examples=60, deadline=None)
def test_a_greater_mean_never_lowers_prob_best(mean: float, more: float, scale: float, df: float) -> None:
    rivals = [StudentT(0.0, 1.0, 20.0), StudentT(0.5, 0.3, df)]
    before = prob_best([StudentT(mean, scale, df), *rivals])
    after = prob_best([StudentT(mean + more, scale, df), *rivals])
    assert after[0] >= before[0] - 1e-12
    assert (after[1:] <= before[1:] + 1e-12).all()


@given(
    st.lists(st.floats(-1, 1), min_size=SHORT_NODES, max_size=SHORT_NODES),
    st.floats(-5, 5),
    st.floats(0.1, 3),
)
def test_the_running_integral_of_a_polynomial_is_exact(
    coefficients: list[float], left: float, length: float
) -> None:
    """Of degree 15 on a panel anywhere, against NumPy's antiderivative."""
    edges = np.array([left, left + length])
    t, _ = short_rule(edges[:1], edges[1:])
    polynomial = np.polynomial.Polynomial(coefficients, domain=edges)
    antiderivative = polynomial.integ(lbnd=left)
    found = running_integral(polynomial(t), edges[:1], edges[1:])
    np.testing.assert_allclose(found, antiderivative(t), rtol=0, atol=1e-11)
