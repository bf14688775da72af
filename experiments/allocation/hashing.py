"""The race of hashes: a published policy's shares become one variant per unit, the same everywhere.

Every variant draws u in (0, 1) from a hash of (salt, unit, variant key) and runs for -ln(u) / share; the
least time wins. Exponential clocks of rates s_k: variant k wins with probability s_k / sum(s), so the
propensity is the share itself, and removing a variant renormalises the others (Efraimidis & Spirakis
2006, weighted sampling). Only the standard library, so that any interpreter can replay a decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from hashlib import blake2b
from math import log
from struct import Struct

_TIE = 1e-12  # far above what two libm disagree by (an ulp is 2e-16), far below what chance produces
_first_64_bits = Struct(">Q").unpack_from
_DIGITS = 50
_EXACT_DIGITS = 60  # an odd multiple of 2^-53 has at most 53 significant digits


@dataclass(frozen=True, slots=True)
class RaceResult:
    """The winning variant key, and the score of every variant that ran (least wins)."""

    winner: str
    scores: Mapping[str, float]


def unit_hash(secret: bytes, unit_id: str) -> bytes:
    """The 16 bytes a unit is known by: BLAKE2b-128 of its id in UTF-8, keyed with the store's secret.

    The secret has 1 to 64 bytes. Without it nobody can test whether an id is in the store.

    >>> unit_hash(b"secret", "visitor-1").hex()
    '38f34431f7612193c7e5925a80404dbf'
    """
    if not 1 <= len(secret) <= blake2b.MAX_KEY_SIZE:
        raise ValueError(f"the secret must have 1 to {blake2b.MAX_KEY_SIZE} bytes, found {len(secret)}")
    return blake2b(unit_id.encode(), digest_size=16, key=secret).digest()


def seeded_secret(seed: int) -> bytes:
    """The 32 bytes that are the secret of a simulated store made from a seed; a real store's are random.

    With it whoever knows the seed foretells every race, so that a simulation can be repeated to the byte.

    >>> len(seeded_secret(7)), seeded_secret(7) == seeded_secret(8)
    (32, False)
    """
    return blake2b(f"simulated store {seed}".encode(), digest_size=32).digest()


def race(salt: str, unit: bytes, shares: Mapping[str, int]) -> RaceResult:
    """The variant of a unit under integer shares (over any common total; at most 2^53 each).

    score_k = -ln(u_k) / share_k, u_k = ((h_k >> 12) + 1/2) / 2^52 with h_k the first 8 bytes, big endian,
    of BLAKE2b-512 over salt, unit and variant key, each preceded by its length in 4 bytes. A variant
    without a share does not run. Scores closer than 1e-12 (relative) are decided by 50-digit decimal
    logarithms, so that the winner never depends on the platform's libm; a final tie goes to the key
    that sorts first.

    >>> race("checkout-addon", b"unit", {"none": 0, "socks": 1}).winner
    'socks'
    """
    start = _framed(salt) + _frame(unit)
    scores: dict[str, float] = {}
    for key, share in shares.items():
        if share > 0:  # `_draw` and `_unit_interval` written out: this is a third of a decision by context
            digest = blake2b(start + _framed(key)).digest()
            scores[key] = -log(((_first_64_bits(digest)[0] >> 12) + 0.5) * 2.0**-52) / share
        elif share < 0:
            raise ValueError(f"shares must not be negative, found {dict(shares)}")
    if not scores:
        raise ValueError("no variant has a share, so nobody can win")
    tied = min(scores.values()) * (1 + _TIE)
    closest = [key for key, score in scores.items() if score <= tied]
    if len(closest) == 1:
        return RaceResult(closest[0], scores)
    exact = {key: _exact_score(_draw(start, key), shares[key]) for key in closest}
    return RaceResult(min(closest, key=lambda key: (exact[key], key)), scores)


def uniform(salt: str, unit: bytes) -> float:
    """A number in (0, 1) fixed by salt and unit: the unit is held out when it lies below the holdout.

    Framed as the race's draws without the variant key, so it is independent of every race.

    >>> 0 < uniform("holdout", b"unit") < 1
    True
    """
    return _unit_interval(_leading(blake2b(_framed(salt) + _frame(unit)).digest()))


def _frame(part: bytes) -> bytes:
    # The length in front: ("ab", "c") and ("a", "bc") must not hash alike.
    return len(part).to_bytes(4, "big") + part


@lru_cache(maxsize=4096)
def _framed(text: str) -> bytes:
    return _frame(text.encode())


def _draw(start: bytes, key: str) -> int:
    return _leading(blake2b(start + _framed(key)).digest())


def _leading(digest: bytes) -> int:
    return _first_64_bits(digest)[0] >> 12


def _unit_interval(draw: int) -> float:
    return (draw + 0.5) * 2.0**-52  # exact: 53 bits and a power of two


def _exact_score(draw: int, share: int) -> Decimal:
    with localcontext() as context:
        context.prec = _EXACT_DIGITS
        u = (2 * Decimal(draw) + 1) / 2**53
        context.prec = _DIGITS
        return -u.ln() / share
