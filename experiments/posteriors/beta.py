"""Beta posterior of a proportion.

===========  ==================================================  =========
symbol       meaning                                             unit
===========  ==================================================  =========
theta        the proportion (conversion rate, take rate)         in [0, 1]
alpha, beta  prior successes and failures, plus those observed   units
s, f         successes and failures observed (may be fractions)  units
===========  ==================================================  =========

Prior       theta ~ Beta(alpha, beta), by default Beta(1, 1).
Likelihood  each unit is a success with probability theta, independently.
Update      Beta(alpha + s, beta + f); exact, whatever the order, and additive.
Moments     mean m = alpha / (alpha + beta), variance m (1 - m) / (alpha + beta + 1).
Limits      alpha, beta -> infinity: Normal(m, variance); alpha -> 0: a point at 0.
            s and f need not be whole: discounted counts have no likelihood of their own, the update is
            then the usual power likelihood. One unit counted twice makes the posterior too narrow.

Comparisons integrate over the log-odds t = log(theta / (1 - theta)), where the density is smooth for every
alpha and beta (also below 1, where it is infinite at an edge of [0, 1]) and a rate near 1 keeps its digits.

Source: Gelman et al., Bayesian Data Analysis (2013), 2.4.
"""

from dataclasses import dataclass
from math import exp, isfinite, log1p, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from experiments.posteriors.protocol import TAIL_NATS, FloatArray


@dataclass(frozen=True, slots=True)
class Beta:
    """Posterior Beta(alpha, beta) of a proportion; both parameters positive and finite.

    >>> posterior = Beta(1, 1).updated(3, 7)
    >>> posterior
    Beta(alpha=4, beta=8)
    >>> round(posterior.mean, 4)
    0.3333
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (isfinite(self.alpha) and isfinite(self.beta) and self.alpha > 0 and self.beta > 0):
            raise ValueError(f"Beta needs alpha > 0 and beta > 0, found {self.alpha} and {self.beta}")

    @classmethod
    def matching(cls, mean: float, variance: float) -> "Beta":
        """The Beta with this mean and variance; ValueError unless 0 < variance < mean (1 - mean).

        alpha + beta = mean (1 - mean) / variance - 1.

        >>> Beta.matching(0.25, 0.0375)
        Beta(alpha=1.0, beta=3.0)
        """
        if not 0 < variance < mean * (1 - mean):
            raise ValueError(f"no Beta has mean {mean} and variance {variance}")
        size = mean * (1 - mean) / variance - 1
        return cls(mean * size, (1 - mean) * size)

    def updated(self, successes: float, failures: float) -> "Beta":
        """The posterior after more successes and failures (real numbers >= 0)."""
        if not (successes >= 0 and failures >= 0):
            raise ValueError(f"counts must be >= 0, found {successes} successes, {failures} failures")
        return Beta(self.alpha + successes, self.beta + failures)

    @property
    def mean(self) -> float:
        """Alpha / (alpha + beta)."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def variance(self) -> float:
        """Mean times (1 - mean) over (alpha + beta + 1)."""
        size = self.alpha + self.beta
        return (self.alpha / size) * (self.beta / size) / (size + 1)

    @property
    def width(self) -> float:
        """The standard deviation."""
        return sqrt(self.variance)

    @property
    def reach(self) -> tuple[float, float]:
        """`log_odds_reach`, on the scale of the proportion."""
        low, high = log_odds_reach(np.array([self.alpha]), np.array([self.beta]))
        return _expit(float(low[0])), _expit(float(high[0]))

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Density of the proportion; 0 outside [0, 1]."""
        x = np.asarray(x, dtype=np.float64)
        inside = np.clip(x, 0.0, 1.0)
        with np.errstate(over="ignore"):
            density = np.exp(
                special.xlogy(self.alpha - 1, inside)
                + special.xlog1py(self.beta - 1, -inside)
                - special.betaln(self.alpha, self.beta)
            )
        return np.where((x < 0) | (x > 1), 0.0, density)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Regularised incomplete beta function."""
        return special.betainc(self.alpha, self.beta, np.clip(x, 0.0, 1.0))

    def sf(self, x: ArrayLike) -> FloatArray:
        """Its complement, without cancellation."""
        return special.betaincc(self.alpha, self.beta, np.clip(x, 0.0, 1.0))

    def ppf(self, q: ArrayLike) -> FloatArray:
        """Inverse of the regularised incomplete beta function."""
        return special.betaincinv(self.alpha, self.beta, q)

    def draw(self, n: int, *, rng: np.random.Generator) -> FloatArray:
        """Independent draws, shape (n,)."""
        return rng.beta(self.alpha, self.beta, n)


def log_odds_moments(alpha: FloatArray, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of log(theta / (1 - theta)), each shaped like alpha.

    digamma(alpha) - digamma(beta) and sqrt(trigamma(alpha) + trigamma(beta)).
    """
    mean = special.digamma(alpha) - special.digamma(beta)
    return mean, np.sqrt(special.zeta(2.0, alpha) + special.zeta(2.0, beta))


def log_odds_reach(alpha: FloatArray, beta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log-odds outside of which lies at most exp(-TAIL_NATS) of each Beta, on either side.

    mean -+ (sd sqrt(2 s) + s / shape), s = TAIL_NATS, shape = alpha on the left and beta on the right: the
    log-odds are a difference of two log-gamma variables, and a log-gamma variable is sub-gamma with scale
    1 / shape (its cumulants are at most (n-1)! variance / shape^(n-2)). A bound, not an approximation.
    Source: Boucheron, Lugosi, Massart, Concentration Inequalities (2013), 2.4.
    """
    mean, sd = log_odds_moments(alpha, beta)
    core = sqrt(2 * TAIL_NATS) * sd
    return mean - core - TAIL_NATS / alpha, mean + core + TAIL_NATS / beta


def log_odds_density(alpha: FloatArray, beta: FloatArray, t: FloatArray) -> FloatArray:
    """Density of the log-odds at t: theta^alpha (1-theta)^beta / B(alpha, beta).

    `alpha` and `beta` have one shape, which broadcasts against that of `t`.

    The exponent is formed as a deviation from the mean, alpha log(theta / m) + beta log((1-theta) / (1-m)),
    because the two logarithms and log B are each of the size of alpha + beta and would cancel: at 10^6
    units that costs six digits. The remaining constant is Stirling's, without its large terms.
    """
    size = alpha + beta
    mean, rest = alpha / size, beta / size
    theta, other = special.expit(t), special.expit(-t)
    shift = np.where(mean < rest, theta - mean, rest - other)  # one rounding, shared by both logarithms
    of_alpha, of_beta, of_size = _stirling_rest(np.array([alpha, beta, size]))
    constant = 0.5 * np.log(size * mean * rest / (2 * np.pi)) - (of_alpha + of_beta - of_size)
    deviance = alpha * _log_ratio(shift, mean, t) + beta * _log_ratio(-shift, rest, -t)
    return np.exp(deviance + constant)


def log_odds_cdf(alpha: FloatArray, beta: FloatArray, t: FloatArray) -> FloatArray:
    """P(log-odds <= t), as `log_odds_density`. Each side of the mean is taken from its own tail."""
    theta = special.expit(t)
    above = theta > alpha / (alpha + beta)
    tail = special.betainc(
        np.where(above, beta, alpha), np.where(above, alpha, beta), np.where(above, special.expit(-t), theta)
    )
    return np.where(above, 1.0 - tail, tail)


def _log_ratio(shift: FloatArray, centre: FloatArray, t: FloatArray) -> FloatArray:
    """log(1 + shift / centre), the proportion centre + shift having log-odds t; accurate near and far."""
    relative = shift / centre
    near = np.abs(relative) < 0.5
    if near.all():
        return np.log1p(relative)
    return np.where(near, np.log1p(np.where(near, relative, 0.0)), -np.logaddexp(0.0, -t) - np.log(centre))


def _stirling_rest(z: FloatArray) -> FloatArray:
    """What Stirling's formula leaves of log Gamma(z): log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2."""
    z = np.asarray(z, dtype=np.float64)
    inverse = 1.0 / np.maximum(z, 1.0)
    square = inverse * inverse
    series = inverse * (
        1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))
    )
    if z.min() > 40.0:
        return series
    direct = special.gammaln(z) - (z - 0.5) * np.log(z) + z - 0.5 * np.log(2 * np.pi)
    return np.where(z > 40.0, series, direct)


def _expit(t: float) -> float:
    return exp(-log1p(exp(-t))) if t > -700 else exp(t)
