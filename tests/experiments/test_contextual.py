"""Published draws and what a decision makes of them: exact, replayable, and chosen as often as logged."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from experiments.allocation import winners
from experiments.allocation.caps import WHOLE
from experiments.allocation.contextual import ContextualDraws, packed_bits, rounded_draws
from experiments.allocation.features import FEATURE_POINT
from experiments.allocation.hashing import race, unit_hash
from experiments.allocation.published import Cause, PolicyVersion, SetShares, moved, same_shares
from experiments.allocation.thompson import shares
from experiments.errors import BrokenInvariant
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from tests.statistical import STANDARD_ERRORS, share_errors_off

KEYS = ("none", "a", "b", "c")
ONE = FEATURE_POINT


def published(draws: NDArray[np.float64], **more: object) -> ContextualDraws:
    exponent, data = rounded_draws(draws)
    given = ContextualDraws(
        model="linear",
        keys=KEYS[: draws.shape[1]],
        columns=("1", *(f"x{n}" for n in range(1, draws.shape[2]))),
        control="none",
        control_share=0.1,
        floor=0.02,
        exponent=exponent,
        data=data,
    )
    return replace(given, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, params=["arrays", "loop", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Draws are counted by operations on arrays, and by the loop that Numba compiles: all is the same."""
    monkeypatch.setattr(winners.Compiled, "count_wins", None)
    if request.param == "loop":
        monkeypatch.setattr(winners.Compiled, "count_wins", winners.count_wins)
    elif request.param == "compiled":
        assert winners.compile_winners()
        assert winners.compiled() is not None
    return request.param


def normal_draws(n: int = 2000, seed: int = 1, arms: int = 4) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    means = np.array([[5.0, 0.0, 0.0], [5.1, 0.5, 0.0], [5.0, -0.5, 0.3], [4.0, 0.0, 0.0]])[:arms]
    return means + 0.3 * rng.normal(size=(n, arms, 3))


def test_rounding_keeps_every_digit_that_tells_arms_apart() -> None:
    draws = normal_draws() + 1e6  # a level a million times the spread is not published
    found = published(draws)
    centred = draws - draws.mean(axis=(0, 1))
    assert np.abs(found.coefficients() - centred).max() <= 2.0 ** (found.exponent - 1)
    assert 2.0**found.exponent < 1e-6 * np.abs(centred).max()
    assert found.count == 2000


def test_arithmetic_is_exact_so_that_every_machine_agrees() -> None:
    """Against integers of any size, in 200 contexts at the edge of what columns may be."""
    found, rng = published(normal_draws(300)), np.random.default_rng(2)
    whole = [
        [[int(value) for value in arm] for arm in draw]
        for draw in (found.coefficients() * 2.0**-found.exponent).tolist()
    ]
    for _ in range(200):
        row = [ONE, *rng.integers(-8 * ONE, 8 * ONE, 2).tolist()]
        won = dict.fromkeys(KEYS, 0)
        for draw in whole:
            scores = [sum(a * b for a, b in zip(row, arm, strict=True)) for arm in draw]
            won[KEYS[scores.index(max(scores))]] += 1
        assert found.wins(KEYS, row) == won


def test_what_single_precision_cannot_tell_is_decided_exactly(way: str) -> None:
    """Two arms of large scores, apart by less than its rounding; planted: believing it, is found out."""
    rng = np.random.default_rng(3)
    both = np.repeat(rng.integers(2**21, 2**22, (500, 1, 3)), 2, axis=1).astype(np.float64)
    both[:, 1, 1] += rng.choice([-1.0, 1.0], 500) * rng.integers(1, 2**17, 500)
    data = both.transpose(2, 1, 0).astype("<f4").tobytes()
    found = ContextualDraws("linear", ("none", "a"), ("1", "x", "y"), "none", 0.1, 0.02, 0, data)
    row = (ONE, 3, 8 * ONE - 1)
    ahead = int((both[:, 1, 1] > both[:, 0, 1]).sum())
    assert found.wins(found.keys, row) == {"none": 500 - ahead, "a": ahead}
    if way != "arrays":
        count_wins, counts = winners.compiled(), np.zeros(2, np.int64)
        assert count_wins is not None
        x, arms = np.array(row, np.float32), np.arange(2)
        draws = both.transpose(2, 1, 0).astype(np.float32, order="C")
        assert count_wins(x, draws, np.zeros(3, np.float32), arms, counts) < 500  # some seem to be decided
        assert counts.tolist() != [500 - ahead, ahead]


def test_without_numba_or_a_place_to_keep_what_it_compiled_decisions_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numba

    monkeypatch.setattr(winners.Compiled, "count_wins", None)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not winners.compile_winners()
    assert winners.compiled() is None
    njit, asked = numba.njit, []

    def nowhere(signature: str, *, cache: bool = False, **options: object) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(signature, **options)

    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.setattr(numba, "njit", nowhere)
    assert winners.compile_winners()
    assert asked == [True, False]
    assert published(np.zeros((100, 2, 1))).wins(("none", "a"), (ONE,)) == {"none": 100, "a": 0}


def test_the_argmax_is_taken_over_the_candidates_and_not_renormalised() -> None:
    """Against P(best) by quadrature over each set; renormalising the full set's is far off."""
    found, row = published(normal_draws(10_000)), (ONE, ONE // 2, -ONE)
    x = np.array([1.0, 0.5, -1.0])
    means = np.array([[5.0, 0.0, 0.0], [5.1, 0.5, 0.0], [5.0, -0.5, 0.3], [4.0, 0.0, 0.0]]) @ x
    sd = 0.3 * float(np.linalg.norm(x))
    arms = {key: StudentT(float(mean), sd) for key, mean in zip(KEYS, means, strict=True)}
    off = []
    for some in (KEYS, ("none", "b"), ("none", "b", "c"), ("c", "none")):
        exact = prob_best([arms[key] for key in some])
        won = found.wins(some, row)
        assert sum(won.values()) == found.count
        errors = [share_errors_off(won[k], found.count, float(p)) for k, p in zip(some, exact, strict=True)]
        assert max(errors) < STANDARD_ERRORS
        full = found.wins(KEYS, row)
        total = sum(full[key] for key in some)
        off.append(share_errors_off(round(full[some[0]] / total * found.count), found.count, float(exact[0])))
    assert max(off) > 2 * STANDARD_ERRORS  # planted: renormalised


def test_ties_go_to_the_first_and_a_newcomer_wins_nothing() -> None:
    found = published(np.zeros((100, 3, 1)))
    assert found.wins(("none", "a", "b"), (ONE,)) == {"none": 100, "a": 0, "b": 0}
    assert found.wins(("none", "new", "b"), (ONE,)) == {"none": 100, "new": 0, "b": 0}
    given = found.shares_for(("none", "new", "b"), (ONE,))
    assert given["new"] == 0
    assert given["b"] == int(0.02 * WHOLE)
    with pytest.raises(ValueError, match="always a candidate"):
        found.shares_for(("a", "b"), (ONE,))


def test_shares_are_those_of_thompson_to_the_last_unit() -> None:
    found = published(normal_draws())
    for row in ((ONE, 0, 0), (ONE, 3 * ONE, -ONE), (ONE, -8 * ONE, 8 * ONE)):
        for some in (KEYS, ("none", "b"), ("none", "c", "a")):
            won = {key: count / found.count for key, count in found.wins(some, row).items()}
            for capped in ({}, {"a": 0.01, "b": 0.3}):
                expected = shares(won, control="none", control_share=0.1, floor=0.02, capped=capped)
                given = found.shares_for(some, row, capped)
                assert sum(given.values()) == WHOLE
                assert list(given) == list(some)
                for key in some:
                    assert abs(given[key] - expected[key] * WHOLE) <= len(some)
                    assert key == "none" or given[key] <= capped.get(key, 1.0) * WHOLE


def test_a_newcomer_is_bounded_by_its_own_cap() -> None:
    draws = normal_draws()
    draws[:, 1] += 9.0
    assert published(draws, caps={"a": 0.1}).shares_for(KEYS, (ONE, 0, 0))["a"] == int(0.1 * WHOLE)


def test_a_variant_struck_out_of_every_draw_gets_its_floor() -> None:
    """Surely best and surely harmful: not a renormalised share of the rest."""
    draws = normal_draws()
    draws[:, 1] += 9.0
    out = np.zeros((4, 2000), dtype=np.bool_)
    assert packed_bits(out) == b""
    out[1] = True
    out[2, ::2] = True
    found = published(draws, struck=packed_bits(out))
    for row in ((ONE, 0, 0), (ONE, 8 * ONE, 8 * ONE), (ONE, -8 * ONE, -8 * ONE)):
        assert found.shares_for(KEYS, row)["a"] == int(0.02 * WHOLE)
        assert found.wins(KEYS, row)["b"] <= 1000
    assert found.wins(("none", "a"), (ONE, 0, 0)) == {"none": 2000, "a": 0}


def version(drawn: ContextualDraws) -> PolicyVersion:
    sets = {KEYS: SetShares(drawn.shares_for(KEYS, (ONE, 0, 0)))}
    return PolicyVersion(7, 3, 1, Cause.SHARES_MOVED, "none", sets, capped={"b": 0.2}, contextual=drawn)


def test_a_version_keeps_its_draws_and_a_replay_finds_the_same_shares() -> None:
    out = np.zeros((4, 2000), dtype=np.bool_)
    out[3, :7] = True
    before = version(published(normal_draws(), struck=packed_bits(out), basis="b", caps={"c": 0.1}))
    again = PolicyVersion.from_json(json.loads(json.dumps(before.to_json(), allow_nan=False)))
    assert again == before
    for row in ((ONE, 0, 0), (ONE, 12_345, -54_321)):
        assert again.shares_for(("none", "b", "c"), row=row) == before.shares_for(("none", "b", "c"), row=row)
        assert again.shares_for(KEYS, row=row)["b"] <= 0.2 * WHOLE
    assert before.shares_for(KEYS) == before.sets[KEYS].shares  # no context: what it comes to on average


def test_new_draws_have_moved_and_equal_ones_have_not() -> None:
    first, second = version(published(normal_draws())), version(published(normal_draws(seed=2)))
    assert moved(first, second)
    assert not same_shares(first, second)
    assert same_shares(first, replace(first, number=8))
    assert not moved(first, replace(first, number=8))
    kept = second.unmoved(first)
    assert same_shares(first, kept)
    assert kept.contextual is first.contextual


@pytest.mark.parametrize("some", [KEYS, ("none", "b"), ("none", "a", "c")])
def test_units_are_assigned_as_often_as_the_logged_propensity_says(some: tuple[str, ...]) -> None:
    """Chi-square of 30,000 hashed units in three contexts, also when only some variants may be shown."""
    found = version(published(normal_draws()))
    rows = ((ONE, 0, 0), (ONE, 2 * ONE, -ONE), (ONE, -ONE, 3 * ONE))
    n = 10_000
    for index, row in enumerate(rows):
        given = found.shares_for(some, row=row)
        counts = dict.fromkeys(some, 0)
        for unit in range(n):
            counts[race("salt", unit_hash(b"k", f"{index}-{unit}"), given).winner] += 1
        expected = [given[key] / WHOLE * n for key in some]
        assert stats.chisquare([counts[key] for key in some], expected).pvalue > 1e-4


def test_draws_that_are_not_whole_are_a_defect() -> None:
    with pytest.raises(BrokenInvariant):
        published(normal_draws(), data=b"\0" * 8)
    with pytest.raises(BrokenInvariant):
        published(normal_draws(), control="other")
