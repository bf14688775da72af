"""The binnings of `experiments.histogram` and `experiments.ages` over arrays."""

import numpy as np

from experiments.ages import BINS
from sim.worlds.cells import Ints

_BITS = 5  # as `experiments.histogram`: 2^5 bins per doubling


def bins_of(totals: Ints) -> Ints:
    """`histogram.bin_of` of each integer.

    >>> bins_of(np.array([0, 64, 65, 66, 67, -65])).tolist()
    [0, 64, 65, 65, 66, -65]
    """
    size = np.abs(totals)
    offset = np.maximum(size - 1, 0)
    # frexp is exact below 2^53: the exponent of an integer is its bit length
    length = np.frexp(offset.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(length - _BITS - 1, 0)
    beyond = (shift << _BITS) + (offset >> shift) + 1
    return np.sign(totals) * np.where(offset < 2 << _BITS, size, beyond)


def age_bins(ages_us: Ints, horizon_us: int) -> Ints:
    """`ages.age_bin` of each age from 0 to the horizon; 1 and 24 for ages beyond.

    >>> age_bins(np.array([0, 1, 2, 13824]), 13824).tolist()
    [1, 1, 2, 24]
    """
    # Bin j holds ages with age * 24^3 <= horizon j^3, that is age <= floor(horizon j^3 / 24^3)
    floors = np.array([horizon_us * j**3 // BINS**3 for j in range(BINS + 1)], dtype=np.int64)
    return np.clip(np.searchsorted(floors, ages_us, side="left"), 1, BINS)
