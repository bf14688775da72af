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
Sweeping = Callable[..., bool]
"""How `sweep` is called, compiled or not."""

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
    if Compiled.sweep is not None and _swept(Compiled.sweep, asked, *found):
        return Gathered(*found, 0.0)
    found[-1][:] = 0.0
    bad, strayed = gather_blocks(*asked, *found)
    if bad >= 0:
        raise BadShares(bad, _problem(_own(asked.shares[bad : bad + 1], asked.places[bad : bad + 1])[0]))
    return Gathered(*found, strayed)


def _swept(
    sweep: Sweeping,
    asked: Asked,
    taken: FloatArray,
    fitted: FloatArray,
    expected: FloatArray,
    wanted: FloatArray,
) -> bool:
    """Fill the last four by the loop; False where it does not apply, or a row is to be looked at closely."""
    n, k, places = asked.shares.shape
    if asked.allowed.shape[1] or asked.predictions.shape[2] not in (0, places):
        return False
    shares, model = _rows(asked.shares), _rows(asked.predictions)
    if shares is None or model is None:
        return False
    masks = np.zeros((places, k, places))
    masks[np.arange(places), :, np.arange(places)] = 1.0
    mass = np.zeros((len(wanted), k, places))
    columns = asked.places if places > 1 else np.zeros(n, dtype=np.int64)
    is_good = sweep(
        *(*shares, *model, masks.reshape(places, -1), asked.actions, asked.places, columns),
        *(taken, fitted, expected, mass.reshape(len(wanted), -1)),
    )
    for place in range(len(wanted)):
        wanted[place] = mass[place, :, place if places > 1 else 0]
    return is_good


def _rows(cube: FloatArray) -> tuple[FloatArray, int] | None:
    """A cube as one run of numbers and how far its rows lie apart; None where it is not one."""
    base = cube[:1] if cube.strides[0] == 0 else cube
    if not base.flags.c_contiguous or base.dtype != np.float64:
        return None
    return base.reshape(-1), 0 if cube.strides[0] == 0 else base[:1].size


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


def sweep(
    shares: FloatArray,
    shares_step: int,
    predictions: FloatArray,
    predictions_step: int,
    masks: FloatArray,
    actions: IntArray,
    places: IntArray,
    columns: IntArray,
    taken: FloatArray,
    fitted: FloatArray,
    expected: FloatArray,
    mass: FloatArray,
) -> bool:
    """The same by a loop over rows, for Numba to compile; False at the first row that may be bad.

    All places of a row are read, since they lie side by side, and those of other places masked: `masks`
    (P, K P) is 1 at a place's own figures. `mass` (places, K P) sums all. A row is good where its own shares
    sum to 1 and as much without their signs; what is not a number anywhere in it makes it suspect.
    """
    width = masks.shape[1]
    for i in range(len(actions)):
        mask, total_mass = masks[columns[i]], mass[places[i]]
        own = shares[i * shares_step : i * shares_step + width]
        total = size = value = 0.0
        at = actions[i] * len(masks) + columns[i]
        if len(predictions) > 0:  # all in one loop: twice over a row takes a third longer
            model = predictions[i * predictions_step : i * predictions_step + width]
            for j in range(width):
                share = own[j] * mask[j]
                total += share
                size += abs(share)
                value += share * model[j]
                total_mass[j] += own[j]
            fitted[i], expected[i] = model[at], value
        else:
            for j in range(width):
                share = own[j] * mask[j]
                total += share
                size += abs(share)
                total_mass[j] += own[j]
        if not abs(total - 1.0) <= SUM_TOLERANCE or size != total or value != value:
            return False
        taken[i] = own[at]
    return True


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

    sweep: Sweeping | None = None


def compile_gathering() -> bool:
    """Compile `sweep` for every later log of this process; False where Numba is not installed.

    It takes a second or two, less where an earlier process could keep the result beside this file.
    """
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return False
    flat = numba.types.Array(numba.float64, 1, "C", readonly=True)
    whole = numba.types.Array(numba.int64, 1, "A", readonly=True)
    column, table = numba.float64[::1], numba.float64[:, ::1]
    signature = numba.boolean(
        *(flat, numba.int64, flat, numba.int64, table, whole, whole, whole),
        *(column, column, column, table),
    )
    options = {"nogil": True, "fastmath": {"reassoc", "contract"}}
    try:
        Compiled.sweep = numba.njit(signature, cache=True, **options)(sweep)
    except RuntimeError:  # nowhere to keep it
        Compiled.sweep = numba.njit(signature, **options)(sweep)
    return True
