"""A scrambled Sobol net of 2^14 points, as strata: in which of the 2^14 equal parts of (0, 1) each is.

Point i has in dimension d the stratum s_d ^ (v_d0 if bit 0 of i) ^ (v_d1 if bit 1) ^ ..., the direction
numbers v being Joe and Kuo's (read from SciPy) under a random linear scrambling, s a random shift (Matousek
1998). Every dimension by itself is a permutation of all strata; of the first two, every box of
2^a x 2^(14-a) strata holds exactly one point. Points are not in the usual order, which nothing here needs.

That is what `scipy.stats.qmc.Sobol` does, for a quarter of its time: integers only, one dimension after the
other, and no coordinate finer than is used. Randomness is the raw output of PCG64, which NumPy keeps the
same in every version, so that a seed gives the same points for ever.

Sources: Joe and Kuo, Constructing Sobol sequences with better two-dimensional projections (2008); Matousek,
On the L2-discrepancy for anchored boxes (1998).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DRAWS_LOG2 = 14
DRAWS = 1 << DRAWS_LOG2

Strata = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Net:
    """Scrambled direction numbers, (14, dimensions), and shifts, (dimensions,)."""

    directions: Strata
    shifts: Strata

    def strata(self, first: int, count: int) -> Strata:
        """Those of `count` dimensions from the `first` on, for every point: (count, 2^14)."""
        found = np.empty((count, DRAWS), dtype=np.intp)
        found[:, 0] = self.shifts[first : first + count]
        for bit in range(DRAWS_LOG2):
            half = 1 << bit
            direction = self.directions[bit, first : first + count, None]
            np.bitwise_xor(found[:, :half], direction, out=found[:, half : 2 * half])
        return found


def scrambled_net(dimensions: int, seed: int) -> Net:
    """The net of a seed.

    >>> strata = scrambled_net(3, 7).strata(0, 3)
    >>> [len(set(dimension.tolist())) for dimension in strata]
    [16384, 16384, 16384]
    """
    raw = np.random.PCG64(seed).random_raw((DRAWS_LOG2 + 1, dimensions))
    random = (np.asarray(raw, dtype=np.uint64) >> np.uint64(64 - DRAWS_LOG2)).astype(np.intp)
    plain = _directions(dimensions)
    scrambled = np.zeros_like(plain)
    for digit in range(DRAWS_LOG2):  # from the most significant one
        place = DRAWS_LOG2 - 1 - digit
        column = (1 << place) | (random[digit] & ((1 << place) - 1))  # a one on the diagonal, chance below it
        scrambled ^= ((plain >> place) & 1) * column
    return Net(scrambled, random[DRAWS_LOG2])


@lru_cache(maxsize=16)
def _directions(dimensions: int) -> Strata:
    """Direction numbers of 14 bits, (14, dimensions): SciPy's point of Gray code 2^b is the b-th."""
    from scipy.stats import qmc  # here, for all of scipy.stats comes with it: 60 MB not every process needs

    plain = qmc.Sobol(dimensions, scramble=False)
    found = np.empty((DRAWS_LOG2, dimensions), dtype=np.intp)
    at = 0
    for bit in range(DRAWS_LOG2):
        plain.fast_forward((2 << bit) - 1 - at)
        found[bit] = plain.random(1)[0] * DRAWS
        at = 2 << bit
    return found
