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
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from experiments.off_policy.gathering import SUM_TOLERANCE, Asked, BadShares, FloatArray, IntArray, gathered

LEAST = 1e-100


def is_probability(propensities: FloatArray) -> NDArray[np.bool_]:
    """Which can be the probability of something that was done; of 1e-100 and less no weight can be made.

    >>> is_probability(np.array([0.0, 1e-200, 1e-6, 1.0, 1.1, np.nan])).tolist()
    [False, False, True, True, False, False]
    """
    return (propensities > LEAST) & (propensities <= 1.0)


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
        if self.places is not None and n and int(self.places.min()) < 0:
            raise ValueError("places are numbered from 0")
        if not np.isfinite(self.rewards).all():
            raise ValueError(f"row {int(np.argmin(np.isfinite(self.rewards)))}: the reward is not finite")

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which propensities can be one: above 0 (1e-100, so that weights are finite), at most 1."""
        return is_probability(self.propensities)


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


def terms(log: Log, shares: FloatArray, predictions: FloatArray | None = None) -> Terms:
    """The terms of a log under a candidate's shares and, if any, a model's predictions, each (n, K).

    Or (n, K, P), of which the log's places choose; or one row for all: a policy or a model that looks at no
    context. BadShares names the first row whose shares are negative, not finite, or do not sum to 1 within
    1e-3.

    >>> log = Log(np.array([0, 1]), np.array([0.5, 0.5]), np.array([1.0, 0.0]), 2)
    >>> found = terms(log, np.array([[0.25, 0.75]]), np.array([[0.5, 0.0]]))
    >>> found.weights.tolist(), found.fitted.tolist(), found.expected.tolist()
    ([0.5, 1.5], [0.5, 0.0], [0.125, 0.125])
    """
    n, k = len(log), log.n_actions
    places = np.zeros(n, dtype=np.int64) if log.places is None else log.places
    n_places = 1 + int(places.max(initial=0))
    shape = n, k, n_places
    model = np.empty((n, k, 0)) if predictions is None else _cube(predictions, *shape, "predictions")
    allowed = np.empty((n, 0), dtype=np.bool_) if log.allowed is None else log.allowed
    asked = Asked(_cube(shares, *shape, "shares"), model, log.actions, places, allowed)
    taken, fitted, expected, wanted, strayed = gathered(asked, n_places)
    with np.errstate(all="ignore"):  # where there is no propensity
        weights = np.where(log.valid, taken / log.propensities, np.nan)
    seen = np.bincount(places * k + log.actions, minlength=wanted.size).reshape(wanted.shape)
    return Terms(
        actions=log.actions,
        propensities=log.propensities,
        rewards=log.rewards,
        weights=weights,
        fitted=None if predictions is None else fitted,
        expected=None if predictions is None else expected,
        units=log.units,
        wanted=wanted,
        taken=seen.astype(np.float64),
        strayed=strayed,
    )


def terms_of_taken(log: Log, shares: FloatArray) -> Terms:
    """The terms where the candidate's share of what was logged is all that is known of it, (n,).

    Nothing is expected of it then, so estimators with a model have none; whether it goes where the log never
    went can be told by the mean weight alone.

    >>> log = Log(np.array([0, 1]), np.array([0.5, 0.5]), np.array([1.0, 0.0]), 2)
    >>> terms_of_taken(log, np.array([0.25, 0.75])).weights.tolist()
    [0.5, 1.5]
    """
    wrong = np.flatnonzero(~((shares >= 0.0) & (shares <= 1.0 + SUM_TOLERANCE)))
    if len(wrong):
        raise BadShares(int(wrong[0]), f"a share of {shares[wrong[0]]:g}; shares are from 0 to 1")
    bare = terms(log, np.full((1, log.n_actions), 1.0 / log.n_actions))
    with np.errstate(all="ignore"):  # where there is no propensity
        weights = np.where(log.valid, shares / log.propensities, np.nan)
    return replace(bare, weights=weights, wanted=bare.taken, strayed=0.0)


def _cube(figures: FloatArray, n: int, k: int, n_places: int, name: str) -> FloatArray:
    """Figures as (n, K, places), with one place where they do not depend on it; nothing is copied."""
    cube = figures[:, :, np.newaxis] if figures.ndim == 2 else figures
    rows, actions, of = cube.shape
    if rows not in (1, n) or actions != k or (figures.ndim == 3 and of < n_places):
        needed = f"{n} rows (or one for all), {k} actions and, if by place, {n_places} places"
        raise ValueError(f"{name} have the shape {figures.shape}; needed are {needed}")
    return np.broadcast_to(cube, (n, k, of))


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


def _padded(by_place: FloatArray, n_places: int) -> FloatArray:
    return np.pad(by_place, ((0, n_places - len(by_place)), (0, 0)))
