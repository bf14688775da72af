import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from experiments.allocation import hashing
from experiments.allocation.hashing import race, uniform, unit_hash
from tests.experiments.slow_hashing import GOLDEN, blake2b, golden_vectors

VECTORS: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
UNITS = [unit_hash(b"store secret", f"visitor-{number}") for number in range(200_000)]
SHARES = {"none": 429_496_730, "socks": 85_899_346, "bundle": 2**31, "upsell": 1_632_087_572}


def test_the_slow_hash_is_blake2b_of_the_rfc():
    # RFC 7693, appendix A.
    abc = (
        "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
        "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
    )
    assert blake2b(b"abc").hex() == abc


def test_golden_vectors_are_what_the_slow_implementation_says():
    assert len(VECTORS) >= 50
    assert golden_vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_race_gives_the_golden_answer(vector: dict[str, Any]):
    unit = bytes.fromhex(vector["unit"])
    result = race(vector["salt"], unit, vector["shares"])
    assert result.winner == vector["winner"]
    assert result.scores.keys() == vector["scores"].keys()
    for key, score in result.scores.items():
        assert math.isclose(score, float(vector["scores"][key]), rel_tol=1e-14)
    assert uniform(vector["salt"], unit).hex() == vector["uniform"]
    assert unit_hash(vector["salt"].encode(), f"id-{unit.hex()}-ü").hex() == vector["unit_hash"]


def test_floating_point_alone_would_get_golden_near_ties_wrong():
    wrong = 0
    for vector in VECTORS:
        scores = race(vector["salt"], bytes.fromhex(vector["unit"]), vector["shares"]).scores
        wrong += min(scores, key=lambda key: (scores[key], key)) != vector["winner"]
    assert wrong >= 3


def other_interpreters() -> list[str]:
    homes = sorted(Path.home().glob(".pyenv/versions/3.1[23]*/bin/python"))
    return [sys.executable, *map(str, homes)]


@pytest.mark.parametrize("interpreter", other_interpreters())
def test_every_interpreter_and_process_gives_the_same_answers(interpreter: str):
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import hashing\n"
        "answers = []\n"
        "for v in json.load(open(sys.argv[2], encoding='utf-8')):\n"
        "    unit = bytes.fromhex(v['unit'])\n"
        "    winner = hashing.race(v['salt'], unit, v['shares']).winner\n"
        "    answers.append([winner, hashing.uniform(v['salt'], unit).hex()])\n"
        "print(json.dumps(answers))"
    )
    folder = str(Path(hashing.__file__).parent)
    environment = {"PYTHONHASHSEED": "7", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [interpreter, "-c", program, folder, str(GOLDEN)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout) == [[vector["winner"], vector["uniform"]] for vector in VECTORS]


Race = Callable[[bytes, Mapping[str, int]], str]


def served(unit: bytes, shares: Mapping[str, int]) -> str:
    return race("checkout-addon", unit, shares).winner


def forgets_the_share(unit: bytes, shares: Mapping[str, int]) -> str:
    """The planted bug: the score is not divided by the share."""
    return race("checkout-addon", unit, {key: 1 for key, share in shares.items() if share}).winner


def p_value(run: Race, shares: Mapping[str, int], units: list[bytes]) -> float:
    won = Counter(run(unit, shares) for unit in units)
    assert won.keys() <= {key for key, share in shares.items() if share}
    total = sum(shares.values())
    expected = {key: len(units) * share / total for key, share in shares.items() if share}
    statistic = sum((won[key] - expected[key]) ** 2 / expected[key] for key in expected)
    return float(chi2.sf(statistic, len(expected) - 1))


def test_winners_follow_the_shares():
    assert sum(SHARES.values()) == 2**32
    assert p_value(served, SHARES, UNITS) > 1e-3


def test_a_subset_of_the_variants_follows_the_renormalised_shares():
    subset = {key: SHARES[key] for key in ("none", "socks", "upsell")} | {"bundle": 0}
    assert p_value(served, subset, UNITS[:100_000]) > 1e-3


def test_the_planted_bug_is_rejected():
    assert p_value(forgets_the_share, SHARES, UNITS[:20_000]) < 1e-12


def test_two_salts_are_independent():
    """Chi-square of the 2 x 2 table of two experiments at one half each."""
    halves = {"a": 1, "b": 1}
    table = Counter((race("one", u, halves).winner, race("two", u, halves).winner) for u in UNITS[:40_000])
    statistic = sum((count - 10_000) ** 2 / 10_000 for count in table.values())
    assert len(table) == 4
    assert chi2.sf(statistic, 3) > 1e-3


def test_moving_shares_moves_as_many_units_and_in_one_direction():
    """Two variants: a total variation of d moves a fraction d of the units, all towards the grown one."""
    units, d = UNITS[:50_000], Fraction(1, 20)
    before = {"none": 7 * 2**32 // 20, "socks": 13 * 2**32 // 20}
    after = {"none": 6 * 2**32 // 20, "socks": 14 * 2**32 // 20}
    moves = Counter((served(unit, before), served(unit, after)) for unit in units)
    assert moves[("socks", "none")] == 0
    deviation = moves[("none", "socks")] / len(units) - float(d)
    assert abs(deviation) < 5 * math.sqrt(float(d * (1 - d)) / len(units))


@given(st.integers(0, 10**9), st.permutations(list(SHARES)))
def test_a_loser_can_leave_and_order_does_not_matter(number: int, order: list[str]):
    unit = number.to_bytes(16, "big")
    winner = served(unit, SHARES)
    assert served(unit, {key: SHARES[key] for key in order}) == winner
    loser = next(key for key in order if key != winner)
    assert served(unit, SHARES | {loser: 0}) == winner


@given(st.integers(0, 10**9), st.sampled_from(sorted(SHARES)), st.integers(1, 2**31))
def test_the_winner_still_wins_with_a_greater_share(number: int, key: str, more: int):
    unit = number.to_bytes(16, "big")
    winner = served(unit, SHARES)
    grown = served(unit, SHARES | {key: SHARES[key] + more})
    assert grown in {winner, key}


def test_uniform_is_uniform():
    """Kolmogorov's distance on 50,000 units, against its 99.9 % point 1.95 / sqrt(n)."""
    values = sorted(uniform("holdout", unit) for unit in UNITS[:50_000])
    n = len(values)
    distance = max(max((i + 1) / n - value, value - i / n) for i, value in enumerate(values))
    assert distance < 1.95 / math.sqrt(n)
    assert values[0] > 0
    assert values[-1] < 1


def test_framing_keeps_salt_and_unit_apart():
    assert uniform("ab", b"c") != uniform("a", b"bc")
    keys = {"x": 1, "y": 1}
    assert race("ab", b"c", keys).scores != race("a", b"bc", keys).scores


def test_a_tie_goes_to_the_key_that_sorts_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hashing, "_first_64_bits", lambda digest: (12345 << 12,))
    assert race("s", b"u", {"b": 5, "a": 5, "c": 4}).winner == "a"


def test_extreme_draws_stay_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch):
    for draw in (0, 2**52 - 1):
        monkeypatch.setattr(hashing, "_first_64_bits", lambda digest, draw=draw: (draw << 12,))
        assert 0 < uniform("s", b"u") < 1
        assert 0 < race("s", b"u", {"a": 1}).scores["a"] < math.inf


@pytest.mark.parametrize("shares", [{}, {"a": 0, "b": 0}, {"a": 3, "b": -1}])
def test_shares_nobody_can_win_are_refused(shares: dict[str, int]):
    with pytest.raises(ValueError):
        race("s", b"u", shares)


@pytest.mark.parametrize("secret", [b"", b"x" * 65])
def test_a_secret_of_the_wrong_length_is_refused(secret: bytes):
    with pytest.raises(ValueError):
        unit_hash(secret, "visitor")


def test_unit_hash_depends_on_secret_and_every_code_point():
    ids = ["visitor", "Visitor", "visitör", "visito\u0308r", " visitor"]
    assert len({unit_hash(secret, one) for secret in (b"a", b"b") for one in ids}) == 10


def test_seeded_random_shares_agree_with_exact_competition():
    """With K variants of share 1 the least -ln u is the greatest u: no logarithm needed."""
    random = Random(7)
    for _ in range(2_000):
        unit = random.randbytes(16)
        draws = {
            key: hashing._leading(hashlib.blake2b(b"".join(map(hashing._frame, (b"s", unit, key)))).digest())
            for key in (b"a", b"b", b"c")
        }
        assert race("s", unit, {"a": 1, "b": 1, "c": 1}).winner == max(draws, key=draws.__getitem__).decode()
