"""A second, slow implementation of the race, sharing no line with the fast one: the golden vectors' source.

BLAKE2b is written out from RFC 7693, logarithms are 60-digit decimals, fractions are exact. Run as
`python -m tests.experiments.slow_hashing` it writes the golden vectors anew.
"""

import json
from decimal import Decimal, localcontext
from fractions import Fraction
from math import isqrt
from pathlib import Path
from random import Random
from typing import Any

GOLDEN = Path(__file__).parent / "golden" / "race.json"
KEYS = ("none", "socks", "bundle-3", "a", "b", "v.1", "v_2", "zz")
SALTS = ("checkout-addon", "s", "žluťoučký", "a longer salt, with spaces")

_MASK = 2**64 - 1
_SIGMA = """
0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3
11 8 12 0 5 2 15 13 10 14 3 6 7 1 9 4
7 9 3 1 13 12 11 14 2 6 5 10 4 0 15 8
9 0 5 7 2 4 10 15 14 1 11 12 6 8 3 13
2 12 6 10 0 11 8 3 4 13 7 5 15 14 1 9
12 5 1 15 14 13 4 10 0 7 6 3 9 2 8 11
13 11 7 14 12 1 3 9 5 0 15 4 8 6 2 10
6 15 14 9 11 3 0 8 12 2 13 7 1 4 10 5
10 2 8 4 7 6 1 5 15 11 9 14 3 12 13 0
"""
_ROUNDS = [[int(word) for word in line.split()] for line in _SIGMA.strip().splitlines()]
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
_IV = [isqrt(prime << 128) & _MASK for prime in _PRIMES]  # fractional parts of the primes' square roots


def blake2b(message: bytes, size: int = 64, key: bytes = b"") -> bytes:
    """RFC 7693, section 3.3."""
    state = list(_IV)
    state[0] ^= 0x01010000 ^ (len(key) << 8) ^ size
    data = (key.ljust(128, b"\0") if key else b"") + message
    blocks = [data[start : start + 128] for start in range(0, len(data), 128)] or [b""]
    done = 0
    for block in blocks[:-1]:
        done += 128
        _compress(state, block, done, last=False)
    _compress(state, blocks[-1].ljust(128, b"\0"), done + len(blocks[-1]), last=True)
    return b"".join(word.to_bytes(8, "little") for word in state)[:size]


def _compress(state: list[int], block: bytes, counter: int, *, last: bool) -> None:
    words = [int.from_bytes(block[8 * i : 8 * i + 8], "little") for i in range(16)]
    v = state + _IV
    v[12] ^= counter & _MASK
    v[13] ^= counter >> 64
    if last:
        v[14] ^= _MASK
    columns = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
    diagonals = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
    for round_number in range(12):
        order = _ROUNDS[round_number % 10]
        for place, (a, b, c, d) in enumerate(columns + diagonals):
            for word, first, second in ((order[2 * place], 32, 24), (order[2 * place + 1], 16, 63)):
                v[a] = (v[a] + v[b] + words[word]) & _MASK
                v[d] = _rotate(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) & _MASK
                v[b] = _rotate(v[b] ^ v[c], second)
    for i in range(8):
        state[i] ^= v[i] ^ v[i + 8]


def _rotate(word: int, bits: int) -> int:
    return ((word >> bits) | (word << (64 - bits))) & _MASK


def fraction_of(salt: str, unit: bytes, *key: str) -> Fraction:
    """u, exactly."""
    parts = [salt.encode("utf-8"), unit, *(one.encode("utf-8") for one in key)]
    message = b""
    for part in parts:
        message += bytes([len(part) >> shift & 255 for shift in (24, 16, 8, 0)]) + part
    draw = int.from_bytes(blake2b(message)[:8], "big") >> 12
    return Fraction(2 * draw + 1, 2**53)


def score_of(u: Fraction, share: int) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return -(Decimal(u.numerator) / Decimal(u.denominator)).ln() / Decimal(share)


def slow_race(salt: str, unit: bytes, shares: dict[str, int]) -> tuple[str, dict[str, Decimal]]:
    scores = {key: score_of(fraction_of(salt, unit, key), share) for key, share in shares.items() if share}
    return sorted(scores.items(), key=lambda item: (item[1], item[0]))[0][0], scores


def near_ties(salt: str, unit: bytes, a: str, b: str) -> list[dict[str, int]]:
    """Shares up to 2^32 under which the two scores agree to about 19 digits, from both sides.

    They are the convergents of the continued fraction of ln u_a / ln u_b.
    """
    with localcontext() as context:
        context.prec = 60
        rest = score_of(fraction_of(salt, unit, a), 1) / score_of(fraction_of(salt, unit, b), 1)
        older, newer = (0, 1), (1, 0)
        found: list[tuple[int, int]] = []
        while True:
            whole = int(rest)
            older, newer = newer, (whole * newer[0] + older[0], whole * newer[1] + older[1])
            if max(newer) > 2**32:
                return [{a: p, b: q} for p, q in found[-3:]]
            found.append(newer)
            rest = 1 / (rest - whole)


def golden_vectors() -> list[dict[str, Any]]:
    random = Random(20240501)
    vectors: list[dict[str, Any]] = []
    for number in range(48):
        salt, unit = SALTS[number % len(SALTS)], random.randbytes((16, 16, 1, 200)[number // 4 % 4])
        keys = random.sample(KEYS, random.randint(2, len(KEYS)))
        shares = {key: random.choice((0, 1, 85_899_346, random.randrange(2**32))) for key in keys}
        shares[keys[0]] = shares[keys[0]] or 2**31
        vectors.append(_vector(salt, unit, shares))
    for number in range(12):
        salt, unit = SALTS[number % len(SALTS)], random.randbytes(16)
        vectors += [_vector(salt, unit, shares) for shares in near_ties(salt, unit, "socks", "none")]
    return vectors


def _vector(salt: str, unit: bytes, shares: dict[str, int]) -> dict[str, Any]:
    winner, scores = slow_race(salt, unit, shares)
    return {
        "salt": salt,
        "unit": unit.hex(),
        "shares": shares,
        "winner": winner,
        "scores": {key: f"{score:.25e}" for key, score in scores.items()},
        "uniform": float(fraction_of(salt, unit)).hex(),
        "unit_hash": blake2b(f"id-{unit.hex()}-ü".encode(), 16, salt.encode("utf-8")).hex(),
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_vectors(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
