import json
from itertools import permutations
from math import gamma, inf, pi, sqrt
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import expected_loss, prob_best, prob_greater, value_remaining
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import Posterior
from tests.statistical import STANDARD_ERRORS, share_errors_off, standard_errors_off

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "published_examples.json"


def exact_prob_greater(a: Beta, b: Beta) -> float:
    """P(a > b) for a whole alpha of a, at 50 digits (Miller 2015):

    sum over i < alpha_a of B(alpha_b + i, beta_a + beta_b)
    / ((beta_a + i) B(1 + i, beta_a) B(alpha_b, beta_b)).
    Terms by their ratio, so that the sum of 10^4 terms stays exact.
    """
    with mpmath.workdps(50):
        alpha_b, beta_a, beta_b = (mpmath.mpf(value) for value in (b.alpha, a.beta, b.beta))
        term = mpmath.beta(alpha_b, beta_a + beta_b) / mpmath.beta(alpha_b, beta_b)
        total = mpmath.mpf(0)
        for i in range(int(a.alpha)):
            total += term
            term *= (alpha_b + i) * (beta_a + i) / ((alpha_b + beta_a + beta_b + i) * (i + 1))
        return float(total)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published examples are not beside the repository")
def test_published_examples() -> None:
    examples = json.loads(PUBLISHED.read_text())["prob_b_beats_a"]
    compared = 0
    for example in examples:
        if "arms_beta" in example:
            first, second = (Beta(*shapes) for shapes in example["arms_beta"])
            truth = example.get("prob_second_beats_first", example.get("recomputed"))
            tolerance = 1e-10 if "prob_second_beats_first" in example else 1e-6  # printed to six digits
        else:
            first, second = (
                Beta(*example["prior"]).updated(successes, trials - successes)
                for successes, trials in example["successes_trials"]
            )
            truth, tolerance = example["prob_second_beats_first"], 1e-10
            expected = [example["expected_loss_choose_first"], example["expected_loss_choose_second"]]
            np.testing.assert_allclose(expected_loss([first, second]), expected, rtol=1e-9)
        assert prob_greater(second, first) == pytest.approx(truth, abs=tolerance)
        compared += 1
    assert compared == 4


@pytest.mark.parametrize(
    ("a", "b", "tolerance"),
    [
        (Beta(1, 1), Beta(1, 1), 1e-12),
        (Beta(1, 999), Beta(2, 999), 1e-12),
        (Beta(31, 971), Beta(41, 961), 1e-12),
        (Beta(500, 500), Beta(1, 3), 1e-12),
        (Beta(2, 1), Beta(900, 100), 1e-12),
        (Beta(1, 0.2), Beta(0.3, 0.4), 1e-12),
        (Beta(3, 1e5), Beta(5, 99_000), 1e-9),
        (Beta(5_000, 95_000), Beta(5_100, 94_900), 1e-9),
        (Beta(20_000, 80_000), Beta(3, 10), 1e-9),
    ],
)
def test_two_proportions_against_the_exact_sum(a: Beta, b: Beta, tolerance: float) -> None:
    truth = exact_prob_greater(a, b)
    assert prob_greater(a, b) == pytest.approx(truth, abs=tolerance)
    assert prob_greater(b, a) == pytest.approx(1 - truth, abs=tolerance)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 1.3])
def test_identical_arms_are_equally_good(alpha: float) -> None:
    for k in (1, 2, 7, 128):
        np.testing.assert_allclose(prob_best([Beta(alpha, 0.5)] * k), 1 / k, rtol=1e-10)
        np.testing.assert_allclose(prob_best([StudentT(3, 2, alpha)] * k), 1 / k, rtol=1e-10)


@pytest.mark.parametrize("df", [(2.5, 8.0), (30.0, 3.0), (1.0, inf)])
def test_student_t_against_integration_by_scipy(df: tuple[float, float]) -> None:
    law_a = stats.t(df[0], 1.0, 1.0)
    law_b = stats.norm(0.5, 2.0) if df[1] == inf else stats.t(df[1], 0.5, 2.0)
    truth, _ = integrate.quad(lambda x: law_a.pdf(x) * law_b.cdf(x), -inf, inf, epsabs=1e-10)
    assert prob_greater(StudentT(1.0, 1.0, df[0]), StudentT(0.5, 2.0, df[1])) == pytest.approx(
        truth, abs=1e-9
    )


def test_student_t_against_two_dimensional_integration() -> None:
    def density(x: float, location: float, scale: float, df: float) -> float:
        constant = gamma((df + 1) / 2) / (gamma(df / 2) * sqrt(df * pi) * scale)
        return constant * (1 + ((x - location) / scale) ** 2 / df) ** (-(df + 1) / 2)

    truth, _ = integrate.dblquad(
        lambda y, x: density(x, 1.0, 1.0, 5.0) * density(y, 0.5, 2.0, 8.0),
        -40,
        40,
        -60,
        lambda x: x,
        epsabs=1e-6,
        epsrel=1e-6,
    )
    assert prob_greater(StudentT(1.0, 1.0, 5.0), StudentT(0.5, 2.0, 8.0)) == pytest.approx(truth, abs=1e-5)


def test_two_normals_in_closed_form() -> None:
    """P(a > b) = Phi(d / s), E[max(0, b - a)] = s phi(d / s) - d Phi(-d / s); the same for any widths."""
    for width in (1e-6, 1e-2, 1.0, 100.0):
        a, b = StudentT(1.0, 1.0), StudentT(0.2, width)
        s, d = sqrt(1 + width**2), 0.8
        assert prob_greater(a, b) == pytest.approx(float(special.ndtr(d / s)), abs=1e-12)
        loss = s * np.exp(-0.5 * (d / s) ** 2) / sqrt(2 * np.pi) - d * special.ndtr(-d / s)
        np.testing.assert_allclose(expected_loss([a, b]), [loss, loss + d], rtol=1e-10)
        assert value_remaining([a, b]) == pytest.approx(max(0.0, -d + 1.6448536269514722 * s), rel=1e-8)


ARMS = {
    "bandit": [Beta(3 + k, 60 + 600 * k) for k in range(6)],
    "small shapes": [Beta(0.1, 0.4), Beta(2, 3), Beta(0.7, 0.2)],
    "widths apart": [StudentT(1, 0.01, 5e4), StudentT(1.1, 1.0, 4), StudentT(0.9, 30.0, 2.5)],
    "a point": [StudentT(0.3, 0.0), StudentT(0.0, 1.0, 10), StudentT(0.2, 0.5)],
    "two kinds": [Beta(3, 7), StudentT(0.3, 0.2, 20)],
}


@pytest.mark.parametrize("name", ARMS)
def test_within_monte_carlo_error_of_draws(name: str) -> None:
    arms: list[Posterior] = list(ARMS[name])
    rng = np.random.default_rng(7)
    draws = np.array([arm.draw(200_000, rng=rng) for arm in arms])
    chances, losses = prob_best(arms), expected_loss(arms)
    assert chances.sum() == pytest.approx(1.0, abs=1e-14)
    wins = np.bincount(draws.argmax(axis=0), minlength=len(arms))
    for k, chance in enumerate(chances):
        assert share_errors_off(int(wins[k]), draws.shape[1], float(chance)) < STANDARD_ERRORS
        assert standard_errors_off(draws.max(axis=0) - draws[k], float(losses[k])) < STANDARD_ERRORS
    leader = int(chances.argmax())
    gain = np.delete(draws, leader, axis=0).max(axis=0) - draws[leader]
    remaining = value_remaining(arms, 0.9)
    within = int((gain <= remaining).sum())
    if remaining > 0:
        assert share_errors_off(within, draws.shape[1], 0.9) < STANDARD_ERRORS
    else:
        assert within > 0.9 * draws.shape[1]


@given(st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_relabelling_arms_relabels_results(order: list[int]) -> None:
    arms = [Beta(3, 40), Beta(0.5, 9), Beta(300, 4000), Beta(2, 20)]
    np.testing.assert_allclose(prob_best([arms[k] for k in order]), prob_best(arms)[order], atol=1e-12)
    np.testing.assert_allclose(expected_loss([arms[k] for k in order]), expected_loss(arms)[order], rtol=1e-9)


@given(st.integers(0, 300), st.integers(1, 300), st.integers(0, 300), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_another_success_never_lowers_prob_best(s: int, f: int, other_s: int, other_f: int) -> None:
    rivals = [Beta(1, 1).updated(other_s, other_f), Beta(5, 50)]
    before = prob_best([Beta(1, 1).updated(s, f), *rivals])
    after = prob_best([Beta(1, 1).updated(s + 1, f - 1), *rivals])
    assert after[0] >= before[0] - 1e-12
    assert after[1] <= before[1] + 1e-12


def test_points_share_a_tie_and_beat_what_is_surely_lower() -> None:
    tie = [StudentT(1, 0), StudentT(1, 0), StudentT(0, 0)]
    assert prob_best(tie).tolist() == [0.5, 0.5, 0.0]
    assert prob_best([StudentT(1, 0), StudentT(-100, 1)]).tolist() == [1.0, 0.0]
    assert expected_loss(tie).tolist() == [0.0, 0.0, 1.0]
    assert value_remaining(tie) == 0.0
    assert prob_best([StudentT(2.0, 0.0), Beta(3, 4)]).tolist() == [1.0, 0.0]
    assert prob_best([StudentT(-1.0, 0.0), Beta(3, 4)]).tolist() == [0.0, 1.0]


def test_a_point_beside_a_normal_in_closed_form() -> None:
    """E[max(0, c - theta)], theta standard Normal: phi(c) + c Phi(c); whichever of them leads."""
    for point in (-0.3, 0.0, 0.3, 2.0):
        arms = [StudentT(0.0, 1.0), StudentT(point, 0.0)]
        loss = float(np.exp(-0.5 * point**2) / sqrt(2 * pi) + point * special.ndtr(point))
        np.testing.assert_allclose(expected_loss(arms), [loss, loss - point], rtol=1e-9)
        assert prob_best(arms)[1] == pytest.approx(float(special.ndtr(point)), abs=1e-12)


def test_what_cannot_be_said() -> None:
    assert expected_loss([StudentT(0, 1, 1.0), StudentT(0, 1)]).tolist() == [inf, inf]
    assert expected_loss([Beta(2, 3)]).tolist() == [0.0]
    assert value_remaining([Beta(2, 3)]) == 0.0
    with pytest.raises(ValueError):
        prob_best([])


def test_the_same_on_every_call_and_for_every_order_of_two() -> None:
    arms = [Beta(30, 400), Beta(33, 400), Beta(28, 390)]
    for order in permutations(range(3)):
        listed = [arms[k] for k in order]
        assert prob_best(listed).tolist() == prob_best(listed).tolist()
