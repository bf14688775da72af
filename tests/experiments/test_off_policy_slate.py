"""Slates of two offers against exact expectations: every slate once for each time it is expected."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from experiments.off_policy.estimators import Estimate, Reason
from experiments.off_policy.slate import SlateEstimator, Slates, log_weights, slate_value

LOG_FIRST, LOG_SECOND = np.array([4, 2, 2]), np.array([2, 4, 2])  # times 1/8
FIRST, SECOND = np.array([0.1, 0.3, 0.6]), np.array([0.5, 0.2, 0.3])
ALONE = np.array([1.0, 2.0, 4.0]), np.array([3.0, 1.0, 2.0])


def independent_rewards(one: int, two: int) -> tuple[float, float]:
    return ALONE[0][one], ALONE[1][two]


def cascade_rewards(one: int, two: int) -> tuple[float, float]:
    """What the second earns depends on what stood before it."""
    return ALONE[0][one], ALONE[1][two] * (1 + one)


def mutual_rewards(one: int, two: int) -> tuple[float, float]:
    """The first also suffers from a strong second."""
    return ALONE[0][one] / (1 + two), ALONE[1][two] * (1 + one)


def additive_mix(one: int, two: int) -> tuple[float, float]:
    """A sum of what each adds, booked the wrong way round: only the total tells."""
    return ALONE[1][two], ALONE[0][one]


def expectation(rewards: object) -> float:
    """The candidate's value: the sum over all slates."""
    return sum(
        FIRST[one] * SECOND[two] * sum(rewards(one, two))  # type: ignore[operator]
        for one, two in product(range(3), range(3))
    )


def enumerated(rewards: object) -> Slates:
    """64 rows, each slate as often as the log is expected to show it: a mean over them is an expectation."""
    rows = [(i, j) for i, j in product(range(3), range(3)) for _ in range(LOG_FIRST[i] * LOG_SECOND[j])]
    first, second = np.array(rows).T
    earned = np.array([rewards(one, two) for one, two in rows])  # type: ignore[operator]
    w1 = log_weights(FIRST[first], LOG_FIRST[first] / 8)
    w2 = log_weights(SECOND[second], LOG_SECOND[second] / 8)
    return Slates(w1, w2, w2, earned.sum(axis=1), (earned[:, 0], earned[:, 1]), is_factored=True)


RIGHT = {
    independent_rewards: set(SlateEstimator),
    cascade_rewards: {SlateEstimator.JOINT, SlateEstimator.INTERACTION},
    mutual_rewards: {SlateEstimator.JOINT},
    additive_mix: {SlateEstimator.JOINT, SlateEstimator.PSEUDOINVERSE},
}


@pytest.mark.parametrize("rewards", RIGHT, ids=lambda rewards: rewards.__name__)
@pytest.mark.parametrize("name", SlateEstimator)
def test_each_is_unbiased_where_its_assumption_holds_and_not_where_it_does_not(
    name: SlateEstimator, rewards: object
) -> None:
    found = slate_value(name, enumerated(rewards)).value
    if name in RIGHT[rewards]:  # type: ignore[index]
        assert found == pytest.approx(expectation(rewards), rel=1e-12)
    else:
        assert abs((found or 0.0) - expectation(rewards)) > 0.01 * expectation(rewards)


def test_offers_that_never_stand_twice() -> None:
    """The second is drawn without the first: joint and interaction by p(a2 | a1), independent by p(a2)."""
    rows = [(i, j) for i, j in product(range(3), range(3)) if i != j]
    first, second = np.array(rows).T  # evenly drawn: 1/3, then 1/2, so 1/3 alone
    share_second = SECOND[second] / (1 - SECOND[first])
    alone = sum(FIRST[k] * np.where(np.arange(3) == k, 0, SECOND / (1 - SECOND[k])) for k in range(3))
    earned = np.array([independent_rewards(one, two) for one, two in rows])
    shown = Slates(
        first=FIRST[first] * 3,
        second=share_second * 2,
        second_alone=np.asarray(alone)[second] * 3,
        total=earned.sum(axis=1),
        rewards=(earned[:, 0], earned[:, 1]),
        is_factored=False,
    )
    truth = float((FIRST * ALONE[0]).sum() + (alone * ALONE[1]).sum())
    for name in (SlateEstimator.JOINT, SlateEstimator.INTERACTION, SlateEstimator.INDEPENDENT):
        assert slate_value(name, shown).value == pytest.approx(truth, rel=1e-12)
    assert slate_value(SlateEstimator.PSEUDOINVERSE, shown).reason is Reason.NOT_FACTORED


def test_what_is_not_known_is_a_reason() -> None:
    one = np.ones(20)
    bare = Slates(one, one, None, one, None, is_factored=True)
    assert slate_value(SlateEstimator.INTERACTION, bare).reason is Reason.NO_REWARD_BY_PLACE
    by_place = Slates(one, one, None, one, (one, one), is_factored=True)
    assert slate_value(SlateEstimator.INDEPENDENT, by_place).reason is Reason.NO_PROPENSITY_ALONE
    none = Slates(one[:0], one[:0], None, one[:0], None, is_factored=True)
    assert slate_value(SlateEstimator.JOINT, none) == Estimate("joint", None, reason=Reason.NO_ROWS)


def test_intervals_cover() -> None:
    """Drawn slates of the cascade: 95 % of the intervals of `interaction` cover, within 4 binomial errors."""
    rng = np.random.default_rng(5)
    hits, truth = 0, expectation(cascade_rewards)
    for _ in range(300):
        first, second = rng.choice(3, 800, p=LOG_FIRST / 8), rng.choice(3, 800, p=LOG_SECOND / 8)
        earned = np.array([cascade_rewards(i, j) for i, j in zip(first, second, strict=True)])
        earned += rng.normal(size=earned.shape)
        w1 = log_weights(FIRST[first], LOG_FIRST[first] / 8)
        w2 = log_weights(SECOND[second], LOG_SECOND[second] / 8)
        shown = Slates(w1, w2, w2, earned.sum(axis=1), (earned[:, 0], earned[:, 1]), is_factored=True)
        found = slate_value(SlateEstimator.INTERACTION, shown)
        hits += (found.ci_low or 0.0) <= truth <= (found.ci_high or 0.0)
    assert abs(hits / 300 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 300)
