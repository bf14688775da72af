"""Normal-inverse-gamma posterior of a mean, and its marginal, a Student-t.

===========  =====================================================  ====================
symbol       meaning                                                unit
===========  =====================================================  ====================
theta        mean per unit (margin, revenue)                        the metric's
sigma^2      variance between units                                 its square
mean, kappa  prior mean and the number of units it is worth         the metric's, units
scale, nu    prior variance and the number of units it is worth     its square, units
n, xbar, d   units observed, their mean, sum of squared deviations  units, ...
===========  =====================================================  ====================

Prior       sigma^2 ~ scaled-inverse-chi-square(nu, scale), theta | sigma^2 ~ Normal(mean, sigma^2 / kappa).
Likelihood  unit totals ~ Normal(theta, sigma^2), independently.
Update      kappa' = kappa + n, nu' = nu + n, mean' = (kappa mean + n xbar) / kappa',
            nu' scale' = nu scale + d + kappa n (xbar - mean)^2 / kappa'.
Marginal    theta ~ Student-t(location mean', squared scale scale' / kappa', df nu').
Moments     mean' (df > 1), variance (scale' / kappa') nu' / (nu' - 2) (df > 2).
Limits      nu -> infinity: Normal. Totals that are not Normal: the posterior is about the sample mean and
            right by the central limit theorem; with 97 % zeros and heavy tails that takes tens of
            thousands of units. n need not be whole (discounting).

Source: Gelman et al., Bayesian Data Analysis (2013), 3.3 (there mu_n, kappa_n, nu_n, sigma_n^2).
"""

from dataclasses import dataclass
from math import expm1, inf, isfinite, isinf, log, nan, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from experiments.posteriors.protocol import TAIL_NATS, FloatArray

Numbers = float | FloatArray

_NORMAL = 1e16
"""From so many degrees of freedom on a Student-t is the Normal to the last digit."""
LOST = 1e-14
"""A scale below this part of the location is lost in its rounding: no number lies between the quantiles."""


@dataclass(frozen=True, slots=True)
class StudentT:
    """Student-t with location, scale and degrees of freedom; df = inf is the Normal, scale = 0 a point.

    A scale that is lost in the rounding of the location is taken as 0.

    >>> posterior = StudentT(location=2.0, scale=1.0, df=5.0)
    >>> float(posterior.cdf(2.0)), round(posterior.variance, 4)
    (0.5, 1.6667)
    """

    location: float
    scale: float
    df: float = inf

    def __post_init__(self) -> None:
        if not (isfinite(self.location) and 0 <= self.scale < inf and self.df > 0):
            raise ValueError(f"not a Student-t: location {self.location}, scale {self.scale}, df {self.df}")
        if self.scale < LOST * abs(self.location):
            object.__setattr__(self, "scale", 0.0)

    @property
    def mean(self) -> float:
        """The location; nan for df <= 1."""
        return self.location if self.df > 1 or self.scale == 0 else nan

    @property
    def variance(self) -> float:
        """Squared scale times df / (df - 2); inf for 1 < df <= 2, nan below."""
        if isinf(self.df) or self.scale == 0:
            return self.scale**2
        if self.df <= 2:
            return inf if self.df > 1 else nan
        return self.scale**2 * self.df / (self.df - 2)

    @property
    def width(self) -> float:
        """The scale."""
        return self.scale

    @property
    def reach(self) -> tuple[float, float]:
        """Location -+ scale sqrt(df (exp(2 s / (df - 1)) - 1)), s = TAIL_NATS.

        There not only the tail but its first moment is negligible (df > 1.13): sf(z) <= 0.4 df / (df - 1)
        (1 + z^2 / df)^(-(df - 1) / 2) / z, the density integrated against t / z >= 1.
        """
        if isinf(self.df):
            z = sqrt(2 * TAIL_NATS)
        else:
            z = sqrt(self.df * expm1(2 * TAIL_NATS / max(self.df - 1, 0.13)))
        return self.location - self.scale * z, self.location + self.scale * z

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Density; for a point (scale 0) 0 everywhere but inf at the location."""
        x = np.asarray(x, dtype=np.float64)
        if self.scale == 0:
            return np.where(x == self.location, inf, 0.0)
        return student_density(self.location, self.scale, self.df, x)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """P(theta <= x)."""
        x = np.asarray(x, dtype=np.float64)
        if self.scale == 0:
            return np.where(x >= self.location, 1.0, 0.0)
        return student_cdf(self.location, self.scale, self.df, x)

    def sf(self, x: ArrayLike) -> FloatArray:
        """P(theta > x)."""
        x = np.asarray(x, dtype=np.float64)
        if self.scale == 0:
            return np.where(x < self.location, 1.0, 0.0)
        return student_cdf(-self.location, self.scale, self.df, -x)

    def ppf(self, q: ArrayLike) -> FloatArray:
        """The q quantile."""
        q = np.asarray(q, dtype=np.float64)
        if self.scale == 0:
            return np.full_like(q, self.location)
        z = special.ndtri(q) if isinf(self.df) else special.stdtrit(self.df, q)
        return self.location + self.scale * z

    def draw(self, n: int, *, rng: np.random.Generator) -> FloatArray:
        """Independent draws, shape (n,)."""
        z = rng.standard_normal(n) if isinf(self.df) else rng.standard_t(self.df, n)
        return self.location + self.scale * z


@dataclass(frozen=True, slots=True)
class NormalInverseGamma:
    """Joint posterior of a mean and a variance; `scale` is a variance, `kappa` and `nu` count units.

    >>> prior = NormalInverseGamma(mean=0.0, kappa=1.0, nu=1.0, scale=1.0)
    >>> prior.updated(2, 3.0, 2.0)
    NormalInverseGamma(mean=2.0, kappa=3.0, nu=3.0, scale=3.0)
    """

    mean: float
    kappa: float
    nu: float
    scale: float

    def __post_init__(self) -> None:
        if not (isfinite(self.mean) and 0 < self.kappa < inf and 0 < self.nu < inf and 0 <= self.scale < inf):
            raise ValueError(f"not a Normal-inverse-gamma: {self}")

    def updated(self, n: float, mean: float, sum_of_squared_deviations: float) -> "NormalInverseGamma":
        """The posterior after n more units (a real number >= 0) with this mean and squared deviations."""
        if not (n >= 0 and sum_of_squared_deviations >= 0):
            raise ValueError(f"n and squared deviations must be >= 0: {n}, {sum_of_squared_deviations}")
        if n == 0:
            return self
        kappa, nu = self.kappa + n, self.nu + n
        distance = mean - self.mean
        spread = self.nu * self.scale + sum_of_squared_deviations + (self.kappa * n / kappa) * distance**2
        return NormalInverseGamma(self.mean + n * distance / kappa, kappa, nu, spread / nu)

    def marginal_mean(self) -> StudentT:
        """Posterior of the mean alone: Student-t(mean, sqrt(scale / kappa), nu)."""
        return StudentT(self.mean, sqrt(self.scale / self.kappa), self.nu)

    def draw(self, n: int, *, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Joint draws of (mean, variance), each of shape (n,)."""
        variances = self.nu * self.scale / rng.chisquare(self.nu, n)
        return self.mean + np.sqrt(variances / self.kappa) * rng.standard_normal(n), variances


def student_density(location: Numbers, scale: Numbers, df: Numbers, x: FloatArray) -> FloatArray:
    """Density of Student-t variables at x; arguments broadcast, scale > 0, df = inf is the Normal."""
    df = np.minimum(np.asarray(df, dtype=np.float64), _NORMAL)
    z = (x - location) / scale
    constant = np.exp(_log_student_constant(df)) / scale
    return constant * np.exp(-0.5 * (df + 1) * _log1p_square(z, df))


def student_cdf(location: Numbers, scale: Numbers, df: Numbers, x: FloatArray) -> FloatArray:
    """P(Student-t variable <= x), exact in the lower tail; arguments as in `student_density`."""
    return special.stdtr(df, (x - location) / scale)


def _log_student_constant(df: FloatArray) -> FloatArray:
    """Log of Gamma((df+1)/2) / (Gamma(df/2) sqrt(pi df)); by series where the two gammas would cancel."""
    # Gamma(z + 1/2) / Gamma(z) = sqrt(z) (1 - 1/(8 z) + ...), z = df / 2; in logarithms (DLMF 5.11.13)
    r = 1 / np.maximum(df, 400.0)
    series = -0.5 * log(2 * pi) - r * (1 / 4 - r * r * (1 / 24 - r * r / 20))
    if df.min() >= 400.0:
        return series
    few = np.minimum(df, 400.0)
    direct = special.gammaln((few + 1) / 2) - special.gammaln(few / 2) - 0.5 * np.log(pi * few)
    return np.where(df < 400, direct, series)


def _log1p_square(z: FloatArray, df: FloatArray) -> FloatArray:
    """log(1 + z^2 / df), also where z^2 overflows."""
    ratio = np.abs(z) / np.sqrt(df)
    large = ratio > 1e8
    if not large.any():
        return np.log1p(ratio * ratio)
    small = np.log1p(np.where(large, 0.0, ratio) ** 2)
    return np.where(large, 2 * np.log(np.where(large, ratio, 1.0)), small)
