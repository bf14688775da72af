"""Sampled choices are equal in law to the shares; planted defects of rivals are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from experiments.allocation.sampled import (
    BetaTable,
    IntArray,
    PosteriorTable,
    StudentTable,
    choices,
    fixed_choices,
)
from experiments.allocation.thompson import fixed_shares, shares, top_two
from experiments.model import PolicyKind
from experiments.posteriors.compare import prob_best
from tests.statistical import FloatArray

N = 20_000
BETAS = BetaTable(
    np.array([[30.0, 33.0, 28.0, 12.0], [3.0, 3.0, 3.0, 3.0]]),
    np.array([[400.0, 400.0, 390.0, 210.0], [9.0, 9.0, 9.0, 9.0]]),
)
STUDENTS = StudentTable(
    np.array([[0.0, 1.0, 0.4], [5.0, 5.0, 5.0]]),
    np.array([[1.0, 0.5, 2.0], [1.0, 1.0, 1.0]]),
    np.array([[4.0, 30.0, 1.2], [7.0, 7.0, 7.0]]),
)
TABLES = {"beta": BETAS, "student": STUDENTS}
ADAPTIVE = (PolicyKind.THOMPSON, PolicyKind.TOP_TWO)


def exact(
    kind: PolicyKind, table: PosteriorTable, row: int, control_share: float, floor: float
) -> list[float]:
    """The shares that a version would publish, arm 1 being the control."""
    keys = [f"arm{arm}" for arm in range(table.shape[1])]
    best = dict(zip(keys, prob_best(table.of(row)).tolist(), strict=True))
    weights = top_two(best) if kind is PolicyKind.TOP_TWO else best
    return list(shares(weights, control="arm1", control_share=control_share, floor=floor).values())


def p_value(chosen: IntArray, expected: list[float]) -> float:
    """Chi-square of the arms chosen against their shares."""
    counts = np.bincount(chosen, minlength=len(expected))
    return float(stats.chisquare(counts, np.array(expected) * len(chosen)).pvalue)


@pytest.mark.parametrize(("control_share", "floor"), [(0.0, 0.0), (0.2, 0.03), (0.1, 0.0)])
@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("name", TABLES)
def test_choices_follow_the_exact_shares(
    name: str, kind: PolicyKind, control_share: float, floor: float
) -> None:
    """Also of identical arms, in the second replication."""
    table, rng = TABLES[name], np.random.default_rng(11)
    chosen = choices(kind, table, N, control=1, control_share=control_share, floor=floor, rng=rng)
    assert chosen.shape == (2, N)
    for row in range(2):
        assert p_value(chosen[row], exact(kind, table, row, control_share, floor)) > 1e-3


def one_noise_for_all_arms(table: StudentTable, rng: np.random.Generator) -> IntArray:
    """MABWiser's LinTS: the arms' draws share their noise."""
    noise = rng.standard_t(table.df[0].mean(), N)
    return (table.location[0] + table.scale[0] * noise[:, None]).argmax(axis=1)


def spread_that_does_not_shrink(table: StudentTable, rng: np.random.Generator) -> IntArray:
    """contextualbandits' LinTS: precision taken for covariance, so that a sure arm is drawn widely."""
    return (table.location[0] + rng.standard_t(table.df[0], (N, 3)) / table.scale[0]).argmax(axis=1)


def second_draw_kept_whatever_it_is(table: StudentTable, rng: np.random.Generator) -> IntArray:
    """A top-two that does not insist on another arm is plain Thompson sampling."""
    return choices(PolicyKind.THOMPSON, table, N, rng=rng)[0]


@pytest.mark.parametrize(
    ("kind", "defect"),
    [
        (PolicyKind.THOMPSON, one_noise_for_all_arms),
        (PolicyKind.THOMPSON, spread_that_does_not_shrink),
        (PolicyKind.TOP_TWO, second_draw_kept_whatever_it_is),
    ],
)
def test_a_planted_defect_is_rejected(
    kind: PolicyKind, defect: Callable[[StudentTable, np.random.Generator], IntArray]
) -> None:
    chosen = defect(STUDENTS, np.random.default_rng(3))
    assert p_value(chosen, exact(kind, STUDENTS, 0, 0.0, 0.0)) < 1e-12


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_decisions_of_one_replication_are_independent(kind: PolicyKind) -> None:
    """Chi-square of the table of pairs (decision, next) against the product of the shares."""
    chosen = choices(kind, BETAS, N, rng=np.random.default_rng(5))[0].reshape(-1, 2)
    part = exact(kind, BETAS, 0, 0.0, 0.0)
    pairs = np.outer(part, part).ravel()
    assert p_value(chosen[:, 0] * 4 + chosen[:, 1], pairs.tolist()) > 1e-3


def test_the_challengers_of_a_sure_leader_come_from_their_exact_law() -> None:
    """P(best) of the others is about 1e-9: no draw would find them."""
    table = StudentTable(np.array([[0.0, 0.5, 9.0]]), np.ones((1, 3)), np.full((1, 3), 1e6))
    chosen = choices(PolicyKind.TOP_TWO, table, 500, rng=np.random.default_rng(7))[0]
    chance = prob_best(table.of(0))
    assert chance[2] > 1 - 1e-8
    assert p_value(chosen, exact(PolicyKind.TOP_TWO, table, 0, 0.0, 0.0)) > 1e-3
    assert (chosen == 1).sum() > 2 * (chosen == 0).sum() > 0


def test_points_that_tie_share_and_hopeless_challengers_too() -> None:
    table = StudentTable(np.array([[1.0, 1.0, 0.0]]), np.zeros((1, 3)), np.full((1, 3), 5.0))
    chosen = choices(PolicyKind.THOMPSON, table, 400, rng=np.random.default_rng(1))[0]
    assert p_value(chosen, [0.5, 0.5, 1e-300]) > 1e-3
    sure = StudentTable(np.array([[2.0, 1.0, 0.0]]), np.zeros((1, 3)), np.full((1, 3), 5.0))
    chosen = choices(PolicyKind.TOP_TWO, sure, 400, rng=np.random.default_rng(2))[0]
    assert p_value(chosen, exact(PolicyKind.TOP_TWO, sure, 0, 0.0, 0.0)) > 1e-3


def test_one_arm_is_always_chosen() -> None:
    alone: FloatArray = np.array([[2.0], [3.0]])
    for kind in ADAPTIVE:
        found = choices(kind, BetaTable(alone, alone), 2, control_share=0.1, rng=np.random.default_rng(1))
        assert found.tolist() == [[0, 0], [0, 0]]


def test_fixed_choices_follow_their_shares() -> None:
    wanted = fixed_shares(["none", "a", "b"], control="none", shares={"none": 0.5, "a": 0.3, "b": 0.2})
    chosen = fixed_choices(list(wanted.values()), 4, N // 4, rng=np.random.default_rng(2))
    assert chosen.shape == (4, N // 4)
    assert p_value(chosen.ravel(), [0.5, 0.3, 0.2]) > 1e-3


def test_what_cannot_be_sampled_is_refused() -> None:
    rng = np.random.default_rng(1)
    for kind in (PolicyKind.FIXED, PolicyKind.SEGMENT):
        with pytest.raises(ValueError, match=kind):
            choices(kind, BETAS, rng=rng)
    with pytest.raises(ValueError, match="infeasible"):
        choices(PolicyKind.THOMPSON, BETAS, control_share=0.5, floor=0.3, rng=rng)
