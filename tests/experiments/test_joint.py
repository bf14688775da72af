"""Joint draws against closed forms: bivariate normals, quadrature, and plenty of pseudo-random draws."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import special
from scipy.stats import multivariate_normal

from experiments.allocation import joint as module
from experiments.allocation.joint import DRAWS, Joint, JointArm, Limit, draw_wins, seed_of
from experiments.errors import BrokenInvariant
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import Posterior

ERROR = 2.5e-3
"""The docstring's: 2 standard errors of as many random draws would be 8e-3."""
UP_BAD = Limit("cancels", 0.5, is_up_bad=True, absolute=True)


def correlated(rho: float) -> tuple[tuple[float, ...], ...]:
    return ((1.0, rho), (rho, 1.0))


def pair(
    control: tuple[Posterior, Posterior | None, float],
    treated: tuple[Posterior, Posterior | None, float],
    limit: Limit,
    seed: int = 5,
) -> Joint:
    arms = tuple(JointArm(goal, (guard,), correlated(rho)) for goal, guard, rho in (control, treated))
    return Joint(("none", "socks"), "none", (limit,), arms, seed)


def normal_truth(rho_c: float, rho_v: float, *, margin: float, is_up_bad: bool) -> float:
    """P(x_v > x_c and y_v within the margin) of means 0, 0.3 and 0, 0.2, all of variance 1."""
    side = 1.0 if is_up_bad else -1.0
    between = -side * (rho_v + rho_c)  # cov(x_c - x_v, side (y_v - y_c))
    covariance: Any = [[2.0, between], [between, 2.0]]
    law = multivariate_normal([-0.3, side * 0.2 - margin], covariance)
    return float(law.cdf([0.0, 0.0]))


@pytest.mark.parametrize(("rho_c", "rho_v"), [(0.0, 0.0), (0.8, 0.8), (-0.6, -0.9), (0.0, 0.99)])
@pytest.mark.parametrize("is_up_bad", [True, False])
def test_two_normal_arms_are_a_bivariate_normal_probability(rho_c: float, rho_v: float, is_up_bad: bool):
    limit = Limit("m", 0.5, is_up_bad=is_up_bad, absolute=True)
    joint = pair(
        (StudentT(0.0, 1.0), StudentT(0.0, 1.0), rho_c),
        (StudentT(0.3, 1.0), StudentT(0.2, 1.0), rho_v),
        limit,
    )
    wins = draw_wins(joint)
    truth = normal_truth(rho_c, rho_v, margin=0.5, is_up_bad=is_up_bad)
    assert abs(wins.won[1] - truth) < ERROR
    side = 1 if is_up_bad else -1
    assert abs(wins.struck[1] - special.ndtr((side * 0.2 - 0.5) / 2**0.5)) < ERROR
    assert wins.struck[0] == 0
    if rho_c + rho_v:  # planted: without the correlation, and with the wrong sign of it, it fails
        for wrong in (0.0, -1.0):
            bug = normal_truth(wrong * rho_c, wrong * rho_v, margin=0.5, is_up_bad=is_up_bad)
            assert abs(wins.won[1] - bug) > 10 * ERROR


@pytest.mark.parametrize("is_up_bad", [True, False])
def test_a_relative_margin_on_skew_margins_against_plain_draws(is_up_bad: bool):
    """Betas of few events, a Gaussian copula by SciPy's own quantiles."""
    limit = Limit("m", 0.2, is_up_bad=is_up_bad, absolute=False)
    control: tuple[Any, Any, float] = (Beta(3, 40), Beta(6, 30), 0.5)
    treated: tuple[Any, Any, float] = (StudentT(0.08, 0.02, 4.0), Beta(8, 34), -0.7)
    wins = draw_wins(pair(control, treated, limit))
    rng, n = np.random.default_rng(8), 200_000
    drawn: list[Any] = []
    for goal, guard, rho in (control, treated):
        z = rng.standard_normal((2, n))
        y = rho * z[0] + (1 - rho * rho) ** 0.5 * z[1]
        drawn.append((goal.ppf(special.ndtr(z[0])), guard.ppf(special.ndtr(y))))
    (goal_c, guard_c), (goal_v, guard_v) = drawn
    breach = guard_v > 1.2 * guard_c if is_up_bad else guard_v < 0.8 * guard_c
    truth = float(np.mean((goal_v > goal_c) & ~breach))
    assert abs(wins.won[1] - truth) < ERROR + 5 * (truth * (1 - truth) / n) ** 0.5
    struck = float(breach.mean())
    assert abs(wins.struck[1] - struck) < ERROR + 5 * (struck * (1 - struck) / n) ** 0.5


@pytest.mark.parametrize("count", [2, 10, 60])
def test_without_a_readable_guardrail_it_is_prob_best(count: int):
    rng = np.random.default_rng(count)
    goals = [Beta(float(a), 1000.0) for a in rng.integers(80, 120, count)]
    arms = tuple(JointArm(goal, (None,), correlated(0.0)) for goal in goals)
    found = draw_wins(Joint(tuple(map(str, range(count))), "0", (UP_BAD,), arms, 3))
    assert np.abs(found.won - prob_best(goals)).max() < ERROR
    assert found.won.sum() == 1
    assert not found.struck.any()


def test_two_guardrails_strike_out_together():
    """Independent ones: P(feasible) is the product; the treatment is surely best."""
    sure, fair = StudentT(9.0, 1.0), StudentT(0.0, 1.0)
    limits = (UP_BAD, Limit("b", 0.2, is_up_bad=False, absolute=True))
    alone = tuple(tuple(float(i == j) for j in range(3)) for i in range(3))
    arms = (JointArm(StudentT(-9.0, 1.0), (fair, fair), alone), JointArm(sure, (fair, fair), alone))
    found = draw_wins(Joint(("none", "socks"), "none", limits, arms, 3))
    feasible = special.ndtr(0.5 / 2**0.5) * special.ndtr(0.2 / 2**0.5)
    assert abs(found.won[1] - feasible) < ERROR
    assert abs(found.struck[1] - (1 - feasible)) < ERROR
    silent = Joint(
        ("none", "socks"), "none", limits, (JointArm(arms[0].goal, (None, None), alone), arms[1]), 3
    )
    assert draw_wins(silent).won[1] == 1  # nothing to compare with strikes nothing


def test_the_surely_best_and_surely_toxic_never_wins_and_the_harmless_second_does():
    tight = StudentT(0.0, 0.01)
    arms = (
        JointArm(StudentT(0.0, 0.1), (tight,), correlated(0.0)),
        JointArm(StudentT(9.0, 0.1), (StudentT(2.0, 0.01),), correlated(0.0)),
        JointArm(StudentT(1.0, 0.1), (tight,), correlated(0.0)),
    )
    joint = Joint(("none", "toxic", "fine"), "none", (UP_BAD,), arms, 1)
    assert draw_wins(joint).won.tolist() == [0, 0, 1]
    assert draw_wins(joint, without="fine").won.tolist() == [1, 0, 0]
    bad = (arms[0], arms[1], JointArm(arms[2].goal, (StudentT(5.0, 0.01),), correlated(0.0)))
    assert draw_wins(Joint(joint.keys, "none", (UP_BAD,), bad, 1)).won.tolist() == [1, 0, 0]


def test_a_joint_posterior_is_kept_as_json_and_drawn_again_to_the_last_bit():
    joint = pair(
        (Beta(3, 40), StudentT(0.0, 1.0), 0.5), (StudentT(0.1, 0.1, 4.0), None, 0.0), UP_BAD, seed_of("x", 3)
    )
    again = Joint.from_json(json.loads(json.dumps(joint.to_json())))
    assert again == joint
    assert draw_wins(again).won.tolist() == draw_wins(joint).won.tolist()
    other = Joint(joint.keys, joint.control, joint.limits, joint.arms, joint.seed + 1)
    assert draw_wins(other).won.tolist() != draw_wins(joint).won.tolist()
    assert seed_of("x", 3) == 55664555881699  # pinned: versions in store are drawn again by it
    assert len({seed_of(key, number) for key in ("a", "a1", "1a") for number in (1, 11)}) == 6


def test_a_posterior_without_a_plain_form_is_refused():
    class Odd:
        pass

    with pytest.raises(BrokenInvariant):
        module._plain(Odd())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("goal", "within"),
    [
        (Beta(1, 1), 3e-4),
        (Beta(2, 5000), 3e-4),
        (Beta(3e6, 5e6), 3e-4),
        (StudentT(-1.0, 1e-3), 3e-4),
        (StudentT(2.0, 0.5, 3.0), 2e-3),  # five units: its own tails are no better known
    ],
)
def test_interpolated_quantiles_are_the_exact_ones(goal: Posterior, within: float):
    levels = (np.arange(DRAWS) + 0.5) / DRAWS
    found = module.goal_tables([goal])[0]
    assert np.all(np.diff(found) >= 0)
    exact = np.asarray(goal.ppf(levels))
    middle = slice(DRAWS // 1000, -DRAWS // 1000)
    assert np.abs(found - exact)[middle].max() < within * goal.width
    assert np.abs(found - exact).max() < 20 * within * goal.width
