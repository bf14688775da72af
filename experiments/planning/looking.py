"""Who looks again and again: the chance that a statistic has passed a limit at some look.

The statistic at information I (units) is Z = B(I) / sqrt(I) of a Brownian motion with drift d. Its density
while no limit has been passed, without drift, goes from look to look by

    g'(y) = integral of g(x) phi((y sqrt(I') - x sqrt(I)) / sqrt(I' - I)) sqrt(I' / (I' - I)) dx,

taken with Gauss-Legendre nodes between the limits. With drift the likelihood ratio exp(d x sqrt(I) - d^2
I / 2) multiplies it, so that one recursion serves every drift:

    P_d(first beyond z at I') = sum of w g(x) exp(d x sqrt(I) - d^2 I / 2) P(step from x takes it beyond z).

Error below 1e-6 for up to 60 looks (against the Normal law of all looks together). Without a lower limit the
density is cut 9 standard errors below 0, where a path has no chance left to come back.
Sources: Armitage, McPherson & Rowe, Repeated significance tests on accumulating data (1969); Jennison &
Turnbull, Group Sequential Methods (2000), 19.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import sqrt

import numpy as np
from scipy import special

from experiments.posteriors.protocol import FloatArray

NODES = 96
_CUT = -9.0
_ROOT_2_PI = sqrt(2.0 * np.pi)


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks at these information times (units of all variants, rising), with limits of the statistic."""

    information: tuple[float, ...]
    upper: float
    lower: float | None = None

    def crossing(self, d: float) -> tuple[FloatArray, FloatArray]:
        """P(first beyond the upper, beyond the lower limit) at each look, each of shape (looks,).

        >>> up, low = Looks((1.0, 2.0, 3.0, 4.0, 5.0), 1.959964, -1.959964).crossing(0.0)
        >>> round(float(up.sum() + low.sum()), 3)  # Armitage, McPherson & Rowe: 0.142
        0.142
        """
        first = self.information[0]
        scale = self.information[-1]
        up = np.zeros(len(self.information))
        low = np.zeros(len(self.information))
        start = d * sqrt(first)
        up[0] = special.ndtr(start - self.upper)
        if self.lower is not None:
            low[0] = special.ndtr(self.lower - start)
        relative = tuple(float(f"{one / scale:.12g}") for one in self.information)  # equal for equal ones
        states = _states(relative, self.upper, self.lower)
        for k, (before, after) in enumerate(pairwise(relative)):
            x, mass = states[k]
            root, step = sqrt(before), sqrt(after - before)
            per = d * sqrt(scale)  # the drift against information relative to the last look's
            likely = mass * np.exp(per * x * root - 0.5 * per * per * before)
            moved = x * root + per * (after - before)
            up[k + 1] = likely @ special.ndtr((moved - self.upper * sqrt(after)) / step)
            if self.lower is not None:
                low[k + 1] = likely @ special.ndtr((self.lower * sqrt(after) - moved) / step)
        return up, low


def evenly(units: float, looks: int) -> tuple[float, ...]:
    """Equally many units between looks, the last at `units`."""
    return tuple(units * (k + 1) / looks for k in range(looks))


def by_factor(first: float, last: float, looks: int) -> tuple[float, ...]:
    """Looks each of which has the same factor more units than the one before."""
    return tuple(float(one) for one in np.geomspace(first, last, looks))


def quantile_of(crossed: Sequence[float] | FloatArray, at: Sequence[float], q: float) -> float | None:
    """The first place by which the chance has come to q; None where it does not.

    >>> quantile_of([0.2, 0.4, 0.1], [10.0, 20.0, 30.0], 0.5), quantile_of([0.2], [10.0], 0.5)
    (20.0, None)
    """
    total = np.cumsum(np.asarray(crossed))
    place = int(np.searchsorted(total, q))
    return float(at[place]) if place < len(total) else None


@lru_cache(maxsize=64)
def _states(
    relative: tuple[float, ...], upper: float, lower: float | None
) -> list[tuple[FloatArray, FloatArray]]:
    """Nodes and mass (density times weight, no drift) between the limits after each look but the last."""
    low = _CUT if lower is None else lower
    legendre = np.polynomial.legendre.leggauss(NODES)
    x = np.asarray(low + (legendre[0] + 1.0) * (upper - low) / 2.0)
    weights = np.asarray(legendre[1] * (upper - low) / 2.0)
    density = np.exp(-0.5 * x * x) / _ROOT_2_PI
    found = [(x, density * weights)]
    for before, after in pairwise(relative[:-1]):
        step = sqrt(after - before)
        apart = (x[:, None] * sqrt(after) - x * sqrt(before)) / step
        kernel = np.exp(-0.5 * apart * apart) * (sqrt(after) / step / _ROOT_2_PI)
        density = kernel @ found[-1][1]
        found.append((x, density * weights))
    return found
