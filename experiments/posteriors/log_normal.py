"""Shifted log-normal: the marginal of a hurdle's mean, which is skewed as money is.

===========  =====================================================  ====================
symbol       meaning                                                unit
===========  =====================================================  ====================
theta        the parameter (mean of unit totals)                    minor units
shift        theta's lower bound                                    minor units
m, s         mean and standard deviation of log(theta - shift)      log minor units
===========  =====================================================  ====================

Moments     mean shift + exp(m + s^2 / 2), variance (exp(s^2) - 1) exp(2 m + s^2).
Limits      s -> 0: Normal; s = 0 is a point. `matching` keeps the shift, m and s follow mean and variance.

Source: Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 1 (1994), chapter 14.
"""

from dataclasses import dataclass
from math import exp, expm1, isfinite, log, log1p, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from experiments.posteriors.protocol import TAIL_NATS, FloatArray


@dataclass(frozen=True, slots=True)
class ShiftedLogNormal:
    """theta = shift + exp(Normal(m, s)).

    >>> posterior = ShiftedLogNormal.matching(-1.0, 0.0, 1.0)
    >>> round(posterior.mean, 12), round(posterior.variance, 12)
    (0.0, 1.0)
    """

    shift: float
    m: float
    s: float

    def __post_init__(self) -> None:
        if not (isfinite(self.shift) and isfinite(self.m) and isfinite(self.s) and self.s >= 0):
            raise ValueError(f"not a shifted log-normal: shift {self.shift}, m {self.m}, s {self.s}")

    @classmethod
    def matching(cls, shift: float, mean: float, variance: float) -> "ShiftedLogNormal":
        """The one with this shift, mean and variance; ValueError unless mean > shift."""
        if not mean > shift:
            raise ValueError(f"no log-normal above {shift} has mean {mean}")
        square = log1p(variance / (mean - shift) ** 2)
        return cls(shift, log(mean - shift) - square / 2, sqrt(square))

    @property
    def mean(self) -> float:
        """Shift + exp(m + s^2 / 2)."""
        return self.shift + exp(self.m + self.s**2 / 2)

    @property
    def variance(self) -> float:
        """The log-normal's."""
        return expm1(self.s**2) * exp(2 * self.m + self.s**2)

    @property
    def width(self) -> float:
        """The standard deviation."""
        return sqrt(self.variance)

    @property
    def reach(self) -> tuple[float, float]:
        """Where all but exp(-TAIL_NATS) of the probability, and of its first moment, lies on either side."""
        z = sqrt(2 * TAIL_NATS)
        low, high = self.m - z * self.s, self.m + (z + self.s) * self.s
        return self.shift + exp(low), self.shift + exp(high)

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Density; for a point (s = 0) 0 everywhere but inf at it."""
        x = np.asarray(x, dtype=np.float64)
        if self.s == 0:
            return np.where(x == self.mean, np.inf, 0.0)
        above = x > self.shift
        gap = np.where(above, x - self.shift, 1.0)
        z = (np.log(gap) - self.m) / self.s
        return np.where(above, np.exp(-0.5 * z * z) / (gap * self.s * sqrt(2 * pi)), 0.0)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """P(theta <= x)."""
        return special.ndtr(self._z(x))

    def sf(self, x: ArrayLike) -> FloatArray:
        """P(theta > x)."""
        return special.ndtr(-self._z(x))

    def ppf(self, q: ArrayLike) -> FloatArray:
        """The q quantile."""
        return self.shift + np.exp(self.m + self.s * special.ndtri(np.asarray(q, dtype=np.float64)))

    def draw(self, n: int, *, rng: np.random.Generator) -> FloatArray:
        """Independent draws, shape (n,)."""
        return self.shift + np.exp(self.m + self.s * rng.standard_normal(n))

    def _z(self, x: ArrayLike) -> FloatArray:
        x = np.asarray(x, dtype=np.float64)
        if self.s == 0:
            return np.where(x >= self.mean, np.inf, -np.inf)
        above = x > self.shift
        return np.where(above, (np.log(np.where(above, x - self.shift, 1.0)) - self.m) / self.s, -np.inf)
