"""What terms need of shares and predictions, (n, K) or (n, K, P), in one pass over either.

Both ways say the same to rounding: operations on arrays, block by block, and a loop that Numba compiles where
it is installed (`compile_gathering`), which reads each figure once and takes about half the time. Compiling
takes seconds, so it pays where many candidates or large logs are evaluated in one process.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Gathering = Callable[..., tuple[int, float]]
"""How `gather` is called, compiled or not."""

BLOCK = 256
"""Rows taken at once: of 80 actions 160 kB an array, which stays in a processor's own cache."""
SUM_TOLERANCE = 1e-3
"""How far the shares of a row may be from 1: columns are often written with four decimals."""


class BadShares(ValueError):
    """Shares that are no distribution over actions; `row` counts from 0."""

    def __init__(self, row: int, problem: str) -> None:
        self.row, self.problem = row, problem
        super().__init__(f"row {row}: {problem}")


class Asked(NamedTuple):
    """Shares and predictions as (n, K, P), P = 1 where they do not depend on the place; actions and places.

    `predictions` has P = 0 where there is no model, `allowed` (n, K) has K = 0 where all actions are.
    """

    shares: FloatArray
    predictions: FloatArray
    actions: IntArray
    places: IntArray
    allowed: BoolArray


class Gathered(NamedTuple):
    """Share and prediction of what was done and the prediction of the candidate, each (n,); mass by place.

    `wanted` is (places, K); `strayed` is the mass on actions that were not allowed.
    """

    taken: FloatArray
    fitted: FloatArray
    expected: FloatArray
    wanted: FloatArray
    strayed: float


def gathered(asked: Asked, n_places: int) -> Gathered:
    """All of it; BadShares names the first row whose shares are no distribution.

    >>> asked = Asked(np.array([[[0.25], [0.75]]]), np.array([[[0.5], [0.0]]]), np.array([1]), np.array([0]),
    ...               np.zeros((1, 0), dtype=np.bool_))
    >>> found = gathered(asked, 1)
    >>> found.taken.tolist(), found.fitted.tolist(), found.expected.tolist(), found.wanted.tolist()
    ([0.75], [0.0], [0.125], [[0.25, 0.75]])
    """
    n, k = asked.shares.shape[:2]
    found = np.empty(n), np.empty(n), np.empty(n), np.zeros((n_places, k))
    bad, strayed = (Compiled.gather or gather_blocks)(*asked, *found)
    if bad >= 0:
        raise BadShares(bad, _problem(_own(asked.shares[bad : bad + 1], asked.places[bad : bad + 1])[0]))
    return Gathered(*found, strayed)


def gather_blocks(
    shares: FloatArray,
    predictions: FloatArray,
    actions: IntArray,
    places: IntArray,
    allowed: BoolArray,
    taken: FloatArray,
    fitted: FloatArray,
    expected: FloatArray,
    wanted: FloatArray,
) -> tuple[int, float]:
    """Fill the last four by operations on blocks of rows; the first bad row or -1, and the mass strayed."""
    n, k = shares.shape[:2]
    strayed, every, one = 0.0, np.arange(min(n, BLOCK)), np.ones(k)
    here = np.arange(len(wanted))[:, np.newaxis]
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        within, done, of_place = every[: rows.stop - start], actions[rows], places[rows]
        own = _own(shares[rows], of_place)
        off = np.abs(own @ one - 1.0)
        if not (own.min() >= 0.0 and off.max() <= SUM_TOLERANCE):  # nan is none either
            good = (own.min(axis=1) >= 0.0) & (off <= SUM_TOLERANCE)
            return start + int(np.argmin(good)), strayed
        taken[rows] = own[within, done]
        wanted += (of_place == here).astype(np.float64) @ own
        if predictions.shape[2]:
            model = _own(predictions[rows], of_place)
            fitted[rows] = model[within, done]
            expected[rows] = np.vecdot(own, model)
        if allowed.shape[1]:
            strayed += float(own[~allowed[rows]].sum())
    return -1, strayed


def gather(
    shares: FloatArray,
    predictions: FloatArray,
    actions: IntArray,
    places: IntArray,
    allowed: BoolArray,
    taken: FloatArray,
    fitted: FloatArray,
    expected: FloatArray,
    wanted: FloatArray,
) -> tuple[int, float]:
    """The same by a loop over rows and actions, for Numba to compile."""
    n, k, share_places = shares.shape
    model_places = predictions.shape[2]
    strayed = 0.0
    for i in range(n):
        action, place = actions[i], places[i]
        own = shares[i, :, place if share_places > 1 else 0]
        total, bad = 0.0, 0
        for j in range(k):
            total += own[j]
            bad += not own[j] >= 0.0
            wanted[place, j] += own[j]
        if bad > 0 or not abs(total - 1.0) <= SUM_TOLERANCE:
            return i, strayed
        taken[i] = own[action]
        if model_places > 0:
            model = predictions[i, :, place if model_places > 1 else 0]
            value = 0.0
            for j in range(k):
                value += own[j] * model[j]
            fitted[i], expected[i] = model[action], value
        if allowed.shape[1] > 0:
            for j in range(k):
                strayed += 0.0 if allowed[i, j] else own[j]
    return -1, strayed


def _own(figures: FloatArray, places: IntArray) -> FloatArray:
    """Figures of some rows, each at its own place, (n_rows, K)."""
    if figures.shape[2] == 1:
        return figures[:, :, 0]
    return figures.transpose(0, 2, 1)[np.arange(len(places)), places]


def _problem(row: FloatArray) -> str:
    if not row.min() >= 0.0:
        return f"a share of {row.min():g}; shares are 0 or more"
    return f"the shares sum to {row.sum():g}, not to 1"


class Compiled:
    """What this process has compiled, if anything."""

    gather: Gathering | None = None


def compile_gathering() -> bool:
    """Compile `gather` for every later log of this process; False where Numba is not installed.

    It takes a second or two, less where an earlier process could keep the result beside this file.
    """
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return False
    cube = numba.types.Array(numba.float64, 3, "A", readonly=True)
    flags = numba.types.Array(numba.boolean, 2, "A", readonly=True)
    whole = numba.types.Array(numba.int64, 1, "A", readonly=True)
    column = numba.float64[::1]
    signature = numba.types.Tuple((numba.int64, numba.float64))(
        *(cube, cube, whole, whole, flags), *(column, column, column, numba.float64[:, ::1])
    )
    try:
        Compiled.gather = numba.njit(signature, cache=True, nogil=True)(gather)
    except RuntimeError:  # nowhere to keep it
        Compiled.gather = numba.njit(signature, nogil=True)(gather)
    return True
