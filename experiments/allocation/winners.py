"""Which arm wins how many published draws: the loop of a decision by context, for Numba to compile.

Where Numba is installed the loop is compiled once per process and takes about half the time of the array
operations in `contextual`. It leaves to them the draws that single precision cannot decide, so that the
counts are the same with it and without, and a replay may use either.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Counting = Callable[[Floats, Floats, Floats, Integers, Integers], int]
"""How `count_wins` is called, compiled or not."""

_SIGNATURE = "int64(float32[::1], float32[:,:,::1], float32[::1], int64[::1], int64[::1])"
_TOGETHER = 5  # columns added to the scores at a time


def count_wins(x: Floats, draws: Floats, doubt: Floats, arms: Integers, counts: Integers) -> int:
    """Add to `counts` in how many draws each of `arms` scores most; how many draws are too close to say.

    `x` (columns), `draws` (columns, all arms, draws), `arms` the places of those compared, `counts` as many.
    A score may err by `doubt` (columns) times the size of `x`: a winner less far ahead is in doubt, and then
    no count holds.
    """
    size = draws.shape[2]
    used = np.flatnonzero(x)
    weights = np.zeros(len(used) + _TOGETHER - 1, np.float32)  # what is added to fill up has no weight
    places = np.zeros(len(weights), np.int64)
    err = np.float32(0)
    for i in range(len(used)):
        weights[i], places[i] = x[used[i]], used[i]
        err += abs(weights[i]) * doubt[used[i]]
    scores = np.empty(size, np.float32)
    best = np.full(size, -np.inf, np.float32)
    second = np.full(size, -np.inf, np.float32)
    winner = np.empty(size, np.int32)
    for j in range(len(arms)):
        arm = arms[j]
        scores[:] = 0
        for i in range(0, len(used), _TOGETHER):  # so a score is loaded and stored a fifth as often
            x1, x2, x3, x4, x5 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3], weights[i + 4]
            of_1, of_2, of_3 = draws[places[i], arm], draws[places[i + 1], arm], draws[places[i + 2], arm]
            of_4, of_5 = draws[places[i + 3], arm], draws[places[i + 4], arm]
            for r in range(size):
                scores[r] += x1 * of_1[r] + x2 * of_2[r] + x3 * of_3[r] + x4 * of_4[r] + x5 * of_5[r]
        for r in range(size):
            leads = scores[r] > best[r]
            second[r] = max(second[r], min(best[r], scores[r]))
            best[r] = scores[r] if leads else best[r]
            winner[r] = j if leads else winner[r]
    close = 0
    for r in range(size):
        close += best[r] - second[r] <= err
    for j in range(len(arms)):
        won = 0
        for r in range(size):
            won += winner[r] == j
        counts[j] += won
    return close


class Compiled:
    """What this process has compiled, if anything."""

    count_wins: Counting | None = None


def compiled() -> Counting | None:
    """`count_wins` compiled, once `compile_winners` has been called in this process."""
    return Compiled.count_wins


def compile_winners() -> bool:
    """Compile `count_wins` for every later decision of this process; False where Numba is not installed.

    It takes a second or two, less where an earlier process could keep the result beside this file.
    """
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return False
    options = {"nogil": True, "fastmath": {"contract", "nnan"}}
    try:
        Compiled.count_wins = numba.njit(_SIGNATURE, cache=True, **options)(count_wins)
    except RuntimeError:  # nowhere to keep it
        Compiled.count_wins = numba.njit(_SIGNATURE, **options)(count_wins)
    return True
