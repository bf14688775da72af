"""Published draws of a contextual policy, and the shares a decision computes from them.

A version publishes draws theta_rk of every arm's coefficients; in context x arm k wins draw r when
x theta_rk is the greatest among the *candidates*, and w_k is the fraction of draws it wins: P(best | x) over
this candidate set, never renormalised. From w_k the shares as ever: s_k = f + (1 - c - (K-1) f) w_k, the
control its minimum c and what caps leave.

All in exact arithmetic, so that every machine and every replay finds the same integers: draws are kept as
integer multiples (up to 2^23) of one power of two, contexts as integers up to 2^19 with at most 17 of them
not 0, and the sum of their products stays below 2^53, within which doubles are integers. (Single precision,
at half the cost, decides the draws in which nobody is as near to the winner as it may err.) Draws are
published less their mean over arms and draws, which no comparison sees, so that what is rounded is the
difference between arms (by less than 1e-6 of the largest).

Error of a share: sqrt(w (1 - w) / draws), 0.016 at most with 1,000 draws; the same draws serve everyone until
the next version, so the propensity itself is exact.
Source: Russo et al., A Tutorial on Thompson Sampling (2018), 5 and 7; Agrawal and Goyal (2013).
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.caps import WHOLE
from experiments.allocation.winners import compiled
from experiments.errors import BrokenInvariant
from experiments.posteriors.protocol import FloatArray

COEFFICIENT_BITS = 23
_OUT = -float(1 << 60)  # as an intercept: below whatever any context can add up to

Row = Sequence[int]
"""The columns of a context, as `features.Columns.row` gives them."""


@dataclass(frozen=True, slots=True)
class Level:
    """What draws leave out because no comparison sees it, so that people can read them in the metric's unit.

    `common` was taken off every arm's coefficients (log-odds for a logistic model); `sign` is -1 where less
    is better, of which draws are the negative; `average` is the mean of each column over all units.
    """

    sign: int
    common: tuple[float, ...]
    average: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ContextualDraws:
    """Draws of all arms' coefficients as published; `data` is float32, (columns, arms, draws), little endian.

    `model` says how they were found, `columns` what each coefficient is of; `exponent` is the power of two
    that one unit stands for. `struck` (bits, arms by draws) says in which draws a variant does harm. `basis`
    names the posterior: an equal one needs no new draws. `caps` bound variants that have just come. `level`
    is for people (`contextual_reading`); versions of old have none.
    """

    model: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    control: str
    control_share: float
    floor: float
    exponent: int
    data: bytes = field(repr=False)
    struck: bytes = field(default=b"", repr=False)
    basis: str = ""
    caps: Mapping[str, float] = field(default_factory=dict[str, float])
    level: Level | None = None
    _matrix: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    _shape: tuple[int, int] = field(init=False, repr=False, compare=False)  # arms and draws
    _draws: NDArray[np.float32] = field(
        init=False, repr=False, compare=False
    )  # the matrix as (columns, *shape)
    _arms: NDArray[np.int64] = field(init=False, repr=False, compare=False)  # the place of each
    _doubt: NDArray[np.float32] = field(init=False, repr=False, compare=False)  # of 1 in each column

    def __post_init__(self) -> None:
        found = np.frombuffer(self.data, dtype="<f4").astype(np.float32)
        if len(found) % (len(self.keys) * len(self.columns)) or self.control not in self.keys:
            raise BrokenInvariant(f"{len(found)} draws of {self.keys} x {self.columns}")
        matrix = found.reshape(len(self.columns), -1)
        largest = np.abs(matrix).max(axis=1)
        if self.struck:
            matrix[0, _unpacked(self.struck, matrix.shape[1])] = _OUT
        object.__setattr__(self, "_matrix", matrix)
        shape = (len(self.keys), matrix.shape[1] // len(self.keys))
        object.__setattr__(self, "_shape", shape)
        object.__setattr__(self, "_draws", matrix.reshape(-1, *shape))
        object.__setattr__(self, "_arms", np.arange(len(self.keys)))
        # A sum of n rounded products errs by n 2^-24 of their sizes at most; for two arms, twice to spare.
        object.__setattr__(self, "_doubt", 4 * (len(self.columns) + 2) * np.float32(2.0**-24) * largest)

    @property
    def count(self) -> int:
        """How many draws there are."""
        return self._shape[1]

    def coefficients(self) -> FloatArray:
        """The draws in the metric's unit (log-odds for a logistic model), (draws, arms, columns)."""
        found = np.frombuffer(self.data, dtype="<f4").astype(np.float64) * 2.0**self.exponent
        return found.reshape(len(self.columns), len(self.keys), -1).transpose(2, 1, 0)

    def wins(self, candidates: Sequence[str], row: Row) -> dict[str, int]:
        """In how many draws each candidate is best in this context; a tie goes to the first of the version.

        A candidate that has come since is in no draw.
        """
        keys, counts = self._won(tuple(candidates), row)
        return dict.fromkeys(candidates, 0) | dict(zip(keys, counts, strict=True))

    def _won(self, candidates: tuple[str, ...], row: Row) -> tuple[Sequence[str], list[int]]:
        """The candidates that are in the draws, in their order there, and how many each wins."""
        keys, arms = self.keys, self._arms
        if candidates != keys:
            places = [place for place, key in enumerate(keys) if key in candidates]
            keys, arms = tuple(keys[place] for place in places), np.array(places)
        x = np.array(row, dtype=np.float32)
        count_wins = compiled()
        if count_wins is not None:
            counts = np.zeros(len(arms), dtype=np.int64)
            if not count_wins(x, self._draws, self._doubt, arms, counts):
                return keys, counts.tolist()
        return keys, self._counted(x, arms, row)

    def _counted(self, x: NDArray[np.float32], arms: NDArray[np.int64], row: Row) -> list[int]:
        """How many draws each arm wins, by operations on whole arrays."""
        scores = x.dot(self._matrix)
        scores.shape = self._shape
        if len(arms) < len(self.keys):
            scores = scores[arms]
        # Single precision finds the winner of nearly every draw: who is further ahead than it can err.
        least = np.maximum.reduce(scores)
        least -= np.abs(x).dot(self._doubt)
        near = scores >= least
        counts = np.add.reduce(near, axis=1, dtype=np.uint16).tolist()  # of 10,000 draws at most
        if sum(counts) != self._shape[1]:
            self._settle(near, arms, row)
            counts = np.add.reduce(near, axis=1, dtype=np.uint16).tolist()
        return counts

    def _settle(self, near: NDArray[np.bool_], arms: NDArray[np.int64], row: Row) -> None:
        """Decide draws in doubt, in place, in double precision: it is exact, and a tie goes to the first."""
        doubtful = np.flatnonzero(near.sum(axis=0, dtype=np.uint8) != 1)
        columns = np.add.outer(arms * self._shape[1], doubtful).ravel()
        draws = self._matrix[:, columns].astype(np.float64)
        scores = np.array(row, dtype=np.float64).dot(draws).reshape(len(arms), -1)
        near[:, doubtful] = False
        near[scores.argmax(axis=0), doubtful] = True

    def shares_for(
        self, candidates: Sequence[str], row: Row, capped: Mapping[str, float] | None = None
    ) -> dict[str, int]:
        """Integer shares over 2^32 in this context, in the order of the candidates.

        Treatments are rounded down (by less than 2^-32), the control has the rest.
        """
        if self.control not in candidates:
            raise ValueError(f"the control {self.control!r} is always a candidate")
        asked = tuple(candidates)
        keys, counts = self._won(asked, row)
        floor = self.floor * WHOLE
        scale = (1.0 - self.control_share - (len(keys) - 1) * self.floor) * WHOLE / self._shape[1]
        shares = dict(zip(keys, [int(floor + scale * count) for count in counts], strict=True))
        if keys != asked:  # in another order, or with one that has come since
            shares = dict.fromkeys(asked, 0) | shares
        for caps in (self.caps, capped):
            if caps:
                bound = {key: int(cap * WHOLE) for key, cap in caps.items() if key in shares}
                shares |= {key: min(shares[key], most) for key, most in bound.items()}
        shares[self.control] += WHOLE - sum(shares.values())
        return shares

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives equal draws back."""
        return {
            "model": self.model,
            "keys": list(self.keys),
            "columns": list(self.columns),
            "control": self.control,
            "control_share": self.control_share,
            "floor": self.floor,
            "exponent": self.exponent,
            "data": b64encode(self.data).decode(),
            "struck": b64encode(self.struck).decode(),
            "basis": self.basis,
            "caps": dict(self.caps),
            "level": None if self.level is None else _plain(self.level),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "ContextualDraws":
        """The draws that `to_json` wrote."""
        level = plain.get("level")
        return cls(
            model=plain["model"],
            keys=tuple(plain["keys"]),
            columns=tuple(plain["columns"]),
            control=plain["control"],
            control_share=plain["control_share"],
            floor=plain["floor"],
            exponent=plain["exponent"],
            data=b64decode(plain["data"]),
            struck=b64decode(plain["struck"]),
            basis=plain["basis"],
            caps=dict(plain["caps"]),
            level=None if level is None else _level(level),
        )


def _plain(level: Level) -> dict[str, Any]:
    return {"sign": level.sign, "common": list(level.common), "average": list(level.average)}


def _level(plain: Mapping[str, Any]) -> Level:
    return Level(plain["sign"], tuple(plain["common"]), tuple(plain["average"]))


def rounded_draws(draws: FloatArray) -> tuple[int, bytes]:
    """Draws (n_draws, n_arms, n_columns) as published: the exponent of the unit, and the integers' bytes.

    >>> exponent, data = rounded_draws(np.array([[[1.0], [0.0]], [[2.0], [1.0]]]))  # mean over all: 1
    >>> (np.frombuffer(data, "<f4") * 2.0**exponent).tolist()  # one column: arm 0 twice, then arm 1
    [0.0, 1.0, -1.0, 0.0]
    """
    centred = draws - draws.mean(axis=(0, 1))
    _, above = frexp(float(np.abs(centred).max()))  # the largest is below 2^above
    exponent = above - COEFFICIENT_BITS
    whole = np.rint(centred * 2.0**-exponent)
    return exponent, whole.transpose(2, 1, 0).astype("<f4").tobytes()


def packed_bits(struck: NDArray[np.bool_]) -> bytes:
    """Which variant is struck out of which draw (arms, draws), as bits; nothing where none is."""
    return np.packbits(struck).tobytes() if struck.any() else b""


def _unpacked(bits: bytes, size: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=size).astype(np.bool_)
