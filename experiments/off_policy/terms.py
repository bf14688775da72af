"""A log and a candidate policy, reduced to the few numbers a row that every estimator is made of.

====================  ==========================================================  ================
symbol                meaning                                                     shape
====================  ==========================================================  ================
a_i, r_i, p_i         action logged, its reward, its propensity at that time      (n,)
pi_ik                 share the candidate policy gives action k in row i          (n, K), rows sum to 1
q_ik                  reward a model expects of action k in row i                 (n, K)
w_i                   pi_i,a_i / p_i: the weight                                  (n,)
f_i                   q_i,a_i: what the model expects of what was logged          (n,)
v_i                   sum_k pi_ik q_ik: what it expects of the candidate          (n,)
====================  ==========================================================  ================

Only w, f, v and r are kept, so that a log of any size is read in slices (`terms` of each, then `joined`) and
costs 48 bytes a row, whatever the number of actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SUM_TOLERANCE = 1e-3
"""How far the shares of a row may be from 1: columns are often written with four decimals."""


class BadShares(ValueError):
    """Shares that are no distribution over actions; `row` counts from 0."""

    def __init__(self, row: int, problem: str) -> None:
        self.row, self.problem = row, problem
        super().__init__(f"row {row}: {problem}")


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Logged decisions, arrays of one length; rewards in any unit.

    `units` number who each row is about, from 0 and without gaps (None: every row by itself); `places`
    number where an action stood (None: one place). `allowed` (n, K) says which actions could have been taken.
    """

    actions: IntArray
    propensities: FloatArray
    rewards: FloatArray
    n_actions: int
    units: IntArray | None = None
    places: IntArray | None = None
    allowed: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        n = len(self.actions)
        for array in (self.propensities, self.rewards, self.units, self.places, self.allowed):
            if array is not None and len(array) != n:
                raise ValueError(f"a log of {n} actions has {len(array)} values in another column")
        if n and (int(self.actions.min()) < 0 or int(self.actions.max()) >= self.n_actions):
            raise ValueError(f"actions are numbered from 0 to {self.n_actions - 1}")
        if not np.isfinite(self.rewards).all():
            raise ValueError(f"row {int(np.argmin(np.isfinite(self.rewards)))}: the reward is not finite")

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which propensities can be one: above 0, at most 1."""
        return (self.propensities > 0.0) & (self.propensities <= 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What estimators take of each row; `fitted` and `expected` are None without a model.

    A weight is nan where the propensity can be none. `wanted` and `taken`, (places, K), are the candidate's
    mass and the log's rows by place and action; `strayed` is the mass on actions that were not allowed.
    """

    actions: IntArray
    propensities: FloatArray
    rewards: FloatArray
    weights: FloatArray
    fitted: FloatArray | None
    expected: FloatArray | None
    units: IntArray | None
    wanted: FloatArray
    taken: FloatArray
    strayed: float = 0.0

    def __len__(self) -> int:
        return len(self.rewards)


def at_places(by_place: FloatArray, places: IntArray) -> FloatArray:
    """Of figures (n, K, P) those at each row's own place, (n, K).

    >>> at_places(np.arange(4.0).reshape(1, 2, 2), np.array([1])).tolist()
    [[1.0, 3.0]]
    """
    return by_place[np.arange(len(places)), :, places]


def terms(log: Log, shares: FloatArray, predictions: FloatArray | None = None) -> Terms:
    """The terms of a log under a candidate's shares (n, K) and, if any, a model's predictions (n, K).

    Both may have one row for all: a policy or a model that looks at no context. BadShares names the first
    row whose shares are negative, not finite, or do not sum to 1 within 1e-3.

    >>> log = Log(np.array([0, 1]), np.array([0.5, 0.5]), np.array([1.0, 0.0]), 2)
    >>> found = terms(log, np.array([[0.25, 0.75]]), np.array([[0.5, 0.0]]))
    >>> found.weights.tolist(), found.fitted.tolist(), found.expected.tolist()
    ([0.5, 1.5], [0.5, 0.0], [0.125, 0.125])
    """
    _check(shares)
    n = len(log)
    places = np.zeros(n, dtype=np.int64) if log.places is None else log.places
    n_places = 1 + int(places.max(initial=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.where(log.valid, _taken(shares, log.actions) / log.propensities, np.nan)
    fitted = expected = None
    if predictions is not None:
        fitted = _taken(predictions, log.actions)
        expected = np.broadcast_to(np.einsum("ik,ik->i", *np.broadcast_arrays(shares, predictions)), n).copy()
    wanted = np.zeros((n_places, log.n_actions))
    for place in range(n_places):
        here = places == place
        wanted[place] = shares[0] * here.sum() if len(shares) == 1 else here @ shares
    flat = np.bincount(places * log.n_actions + log.actions, minlength=wanted.size)
    strayed = 0.0 if log.allowed is None else float(np.where(log.allowed, 0.0, shares).sum())
    return Terms(
        log.actions, log.propensities, log.rewards, weights, fitted, expected, log.units, wanted,
        flat.reshape(wanted.shape).astype(np.float64), strayed,
    )  # fmt: skip


def joined(parts: Sequence[Terms]) -> Terms:
    """The terms of slices of one log, as if taken at once.

    >>> one = Log(np.array([0]), np.array([0.5]), np.array([1.0]), 2)
    >>> joined([terms(one, np.array([[1.0, 0.0]]))] * 2).weights.tolist()
    [2.0, 2.0]
    """
    first = parts[0]
    n_places = max(len(part.wanted) for part in parts)
    columns = ("actions", "propensities", "rewards", "weights", "fitted", "expected", "units")
    whole = {
        name: None if getattr(first, name) is None else np.concatenate([getattr(p, name) for p in parts])
        for name in columns
    }
    sums = {
        name: sum(_padded(getattr(part, name), n_places) for part in parts) for name in ("wanted", "taken")
    }
    return Terms(**whole, **sums, strayed=sum(part.strayed for part in parts))  # pyright: ignore[reportArgumentType] - names as above


def _taken(of_actions: FloatArray, actions: IntArray) -> FloatArray:
    if len(of_actions) == 1:
        return of_actions[0, actions]
    return of_actions[np.arange(len(actions)), actions]


def _padded(by_place: FloatArray, n_places: int) -> FloatArray:
    return np.pad(by_place, ((0, n_places - len(by_place)), (0, 0)))


def _check(shares: FloatArray) -> None:
    least = shares.min(axis=1)
    wrong = np.flatnonzero(~(least >= 0.0))
    if len(wrong):
        raise BadShares(int(wrong[0]), f"a share of {least[wrong[0]]:g}; shares are 0 or more")
    sums = shares.sum(axis=1)
    wrong = np.flatnonzero(~(np.abs(sums - 1.0) <= SUM_TOLERANCE))
    if len(wrong):
        raise BadShares(int(wrong[0]), f"the shares sum to {sums[wrong[0]]:g}, not to 1")
