"""What is logged as propensity is how often a variant is chosen: a million hashed units for every policy.

Hashes are made once and raced in NumPy for all policies and candidate sets; the race that serves is held
against that on thousands of units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from experiments.allocation.caps import WHOLE, to_integer
from experiments.allocation.guarding import Guarded
from experiments.allocation.hashing import race
from experiments.allocation.published import Cause, PolicyVersion
from experiments.model import PolicyKind, PolicySettings
from tests.experiments.test_proposal import ALL, THOMPSON, cells, proposed
from tests.statistical import STANDARD_ERRORS, FloatArray, share_errors_off

N = 1_000_000
SALT = "propensity"
KEYS = (*ALL, "bundle")
SUBSETS = [("none", *some) for n in (1, 2) for some in combinations(ALL[1:], n)]
POLICIES = {
    "fixed": PolicySettings(kind=PolicyKind.FIXED, shares={"none": 0.5, "socks": 0.2, "cap": 0.3}),
    "thompson": THOMPSON,
    "top_two": replace(THOMPSON, kind=PolicyKind.TOP_TWO),
}
CAPS = {"no caps": {}, "capped": {"cap": 0.15, "socks": 0.3}}


def unit(number: int) -> bytes:
    return number.to_bytes(16, "big")


@lru_cache(maxsize=1)
def clocks() -> FloatArray:
    """-ln u of every unit for every key, shape (keys, N), from the hash as the race's docstring has it."""

    def framed(part: bytes) -> bytes:
        return len(part).to_bytes(4, "big") + part

    leading: list[list[bytes]] = [[] for _ in KEYS]
    parts = [framed(key.encode()) for key in KEYS]
    salt = framed(SALT.encode())
    for number in range(N):
        start = blake2b(salt + framed(unit(number)))
        for place, part in enumerate(parts):
            hashed = start.copy()
            hashed.update(part)
            leading[place].append(hashed.digest()[:8])
    draws = np.array([np.frombuffer(b"".join(some), ">u8") >> 12 for some in leading])
    return -np.log((draws + 0.5) / 2.0**52)


def winners(shares: Mapping[str, int]) -> FloatArray:
    """The place in `shares` of every unit's variant."""
    rates = np.array(list(shares.values()), dtype=np.float64)[:, None]
    with np.errstate(divide="ignore"):
        return (clocks()[[KEYS.index(key) for key in shares]] / rates).argmin(axis=0)


def p_value(won: FloatArray, shares: Mapping[str, int]) -> float:
    """Chi-square of the winners against the propensities; what has none must not win."""
    counts = np.bincount(won, minlength=len(shares))
    part = np.array(list(shares.values())) / WHOLE
    assert not counts[part == 0].any()
    return float(stats.chisquare(counts[part > 0], part[part > 0] * len(won)).pvalue)


def version_of(policy: str, capped: Mapping[str, float]) -> PolicyVersion:
    """A version for the set of all variants alone: any other set is served by renormalised shares."""
    found = proposed(
        cells(2_000, socks=0.105, cap=0.115), policy=POLICIES[policy], guarded=Guarded(capped=capped)
    )
    assert not found.burn_in
    return PolicyVersion(1, 1, 0, Cause.STARTED, "none", found.sets, capped)


@pytest.mark.parametrize("capping", CAPS)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_million_units_follow_the_logged_propensities(policy: str, capping: str) -> None:
    version = version_of(policy, CAPS[capping])
    for candidates in SUBSETS:
        shares = version.shares_for(candidates)
        won = winners(shares)
        assert p_value(won, shares) > 1e-3, (candidates, shares)
        for number in range(0, N, N // 500):
            assert race(SALT, unit(number), shares).winner == list(shares)[won[number]]
        for key, cap in CAPS[capping].items():
            assert shares.get(key, 0) <= cap * WHOLE
            among = list(shares).index(key) if key in shares else -1
            assert (won == among).sum() <= N * cap + STANDARD_ERRORS * np.sqrt(N * cap)


def test_the_propensity_of_another_candidate_set_is_rejected() -> None:
    """The planted bugs: the share among all variants logged for a subset, and caps forgotten there."""
    free, capped = version_of("thompson", {}), version_of("thompson", CAPS["capped"])
    shares = free.shares_for(("none", "cap"))
    everything = free.shares_for(ALL)
    left = {key: everything[key] for key in shares} | {"socks": everything["socks"]}
    found = winners(shares)
    assert (
        p_value(found, to_integer({key: left[key] / WHOLE + left["socks"] / WHOLE / 2 for key in shares}))
        < 1e-12
    )
    assert p_value(found, capped.shares_for(("none", "cap"))) < 1e-12


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many of a million unassigned units another variant would get."""
    return int((winners(before) != winners(after)).sum())


def law(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """P(a race moves): 1 - sum over k of 1 / sum over j of max(p_j / p_k, q_j / q_k).

    Source: Moulton and Jiang, Maximally Consistent Sampling and the Jaccard Index of Probability
    Distributions (2018), theorem 2.
    """
    p, q = (np.array(list(shares.values())) / WHOLE for shares in (before, after))
    both = [k for k in range(len(p)) if p[k] > 0 and q[k] > 0]
    return 1.0 - sum(1.0 / np.maximum(p / p[k], q / q[k]).sum() for k in both)


@pytest.mark.parametrize("n_arms", [2, 3, 4])
def test_shares_that_move_by_d_move_d_of_the_units_or_little_more(n_arms: int) -> None:
    """Exactly d for two variants, at most 2 d / (1 + d) for more, and always as the law of the race says."""
    rng = np.random.default_rng(n_arms)
    for _ in range(8):
        before, after = (
            to_integer(dict(zip(KEYS, rng.dirichlet(np.full(n_arms, a)), strict=False))) for a in (1.0, 3.0)
        )
        d = sum(abs(before[key] - after[key]) for key in before) / WHOLE / 2
        expected = law(before, after)
        count = moved(before, after)
        assert share_errors_off(count, N, expected) < STANDARD_ERRORS
        assert expected <= 2 * d / (1 + d) + 1e-12
        if n_arms == 2:
            assert expected == pytest.approx(d, rel=1e-9)


def test_no_unit_moves_to_what_shrank() -> None:
    before = to_integer({"none": 0.2, "socks": 0.5, "cap": 0.3})
    after = to_integer({"none": 0.2, "socks": 0.4, "cap": 0.4})
    was, now = winners(before), winners(after)
    assert not ((was != 1) & (now == 1)).any()
    assert not ((was == 2) & (now != 2)).any()
    assert ((was == 1) & (now == 2)).any()
