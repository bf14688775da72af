"""Nets against SciPy's points and against what makes a net one: every box holds its share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from experiments.allocation.nets import DRAWS, DRAWS_LOG2, Net, scrambled_net

PINNED = [1604, 4531, 10741, 4025]
"""Versions in store are drawn again by it."""
PLAIN = np.zeros(5, dtype=np.intp)


def boxes(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether each of the 2^a x 2^(14-a) boxes, for every a, holds exactly one point."""
    return all(
        len(set(((x >> (DRAWS_LOG2 - a)) * DRAWS + (y >> a)).tolist())) == DRAWS
        for a in range(DRAWS_LOG2 + 1)
    )


def test_unscrambled_they_are_scipys_points_in_another_order():
    from experiments.allocation.nets import _directions  # pyright: ignore[reportPrivateUsage]  # no other way in

    ours = Net(_directions(5), PLAIN).strata(0, 5)
    theirs = (qmc.Sobol(5, scramble=False).random_base2(DRAWS_LOG2) * DRAWS).astype(int)
    assert {tuple(point) for point in ours.T.tolist()} == {tuple(point) for point in theirs.tolist()}


@pytest.mark.parametrize("seed", [0, 7, 2**48 - 1])
def test_scrambled_every_box_of_the_first_two_dimensions_holds_one_point(seed: int):
    strata = scrambled_net(6, seed).strata(0, 6)
    assert boxes(strata[0], strata[1])
    for dimension in strata:
        assert len(set(dimension.tolist())) == DRAWS
    # Planted: independent permutations are no net.
    rng = np.random.default_rng(seed)
    assert not boxes(rng.permutation(DRAWS), rng.permutation(DRAWS))


def test_a_seed_is_a_net_for_ever_and_dimensions_can_be_had_one_by_one():
    net = scrambled_net(4, 2026)
    whole = net.strata(0, 4)
    assert np.array_equal(whole[2:], net.strata(2, 2))
    assert not np.array_equal(whole, scrambled_net(4, 2027).strata(0, 4))
    assert whole[:, 5].tolist() == PINNED


def test_it_integrates_far_better_than_chance():
    """E[prod of 5 uniforms] = 1 / 32, over 32 seeds: a twentieth of the error of as many random points."""
    errors: list[float] = []
    for seed in range(32):
        u = (scrambled_net(5, seed).strata(0, 5) + 0.5) / DRAWS
        errors.append(float(u.prod(axis=0).mean()) - 1 / 32)
    chance = np.sqrt(((1 / 3) ** 5 - (1 / 4) ** 5) / DRAWS)
    assert np.sqrt(np.mean(np.square(errors))) < chance / 20
