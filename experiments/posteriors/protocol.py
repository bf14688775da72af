"""What every posterior of one number can do, whatever its family.

Arrays in, arrays out: the methods go straight to `scipy.special`, because building a `scipy.stats`
frozen distribution costs more than the whole comparison of two arms.
"""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

TAIL_NATS = 40.0
"""`reach` leaves at most about exp(-40) = 4e-18 of the probability outside on either side."""


class Posterior(Protocol):
    """A distribution of one real parameter (a rate, a mean, a ratio)."""

    @property
    def mean(self) -> float:
        """Expectation; nan when it does not exist."""
        ...

    @property
    def variance(self) -> float:
        """Variance; inf or nan when it does not exist."""
        ...

    @property
    def width(self) -> float:
        """A length the size of a standard deviation, finite even where the variance is not; 0 for a point."""
        ...

    @property
    def reach(self) -> tuple[float, float]:
        """An interval outside of which lies a negligible probability (`TAIL_NATS`), within the support."""
        ...

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Density at x."""
        ...

    def cdf(self, x: ArrayLike) -> FloatArray:
        """P(parameter <= x)."""
        ...

    def sf(self, x: ArrayLike) -> FloatArray:
        """P(parameter > x), exact in the upper tail."""
        ...

    def ppf(self, q: ArrayLike) -> FloatArray:
        """The q quantile."""
        ...

    def draw(self, n: int, *, rng: np.random.Generator) -> FloatArray:
        """Draws, shape (n,)."""
        ...
