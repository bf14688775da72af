"""Bayesian linear regression of unit totals on a context, one arm alone or arms that share nuisances.

==============  =========================================================  =====================
symbol          meaning                                                    unit
==============  =========================================================  =====================
x               columns of a unit's context, the first of them 1           shape (p,)
theta           coefficients; x theta is the mean total in context x       the metric's
sigma^2         variance of totals about x theta                           its square
m, P            prior mean, and precision of theta per unit of noise       (p,), (p, p)
nu, scale       prior degrees of freedom and variance                      units, its square
n, G, c, q      units, sum x x', sum x y, sum y^2                          ..., (p, p), (p,), ...
==============  =========================================================  =====================

Prior       sigma^2 ~ scaled-inverse-chi-square(nu, scale), theta | sigma^2 ~ Normal(m, sigma^2 P^-1).
Likelihood  y ~ Normal(x theta, sigma^2), independently.
Update      P' = P + G, m' = P'^-1 (P m + c), nu' = nu + n,
            nu' scale' = nu scale + (q - 2 m c + m G m) - (m' - m) P' (m' - m).
            One unit with context x changes the precision by exactly x x'.
Marginal    x theta ~ Student-t(x m', sqrt(scale' x P'^-1 x), nu').
Limits      Totals that are not Normal: right by the central limit theorem, as for a mean. A mean that is no
            linear function of the columns is replaced by its best linear approximation over the units seen,
            which then depends on who was shown what. n need not be whole (discounting).

Source: Bishop, Pattern Recognition and Machine Learning (2006), 3.3; Gelman et al., Bayesian Data Analysis
(2013), 14.2 and 14.8; Agrawal and Goyal, Thompson Sampling for Contextual Bandits (2013).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import linalg

from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class RegressionSums:
    """What a regression needs of some units: n, sum x x' (p, p), sum x y (p,), sum y^2."""

    n: float
    gram: FloatArray
    cross: FloatArray
    square: float

    @classmethod
    def none(cls, width: int) -> "RegressionSums":
        """The sums of no units."""
        return cls(0.0, np.zeros((width, width)), np.zeros(width), 0.0)

    def __add__(self, other: "RegressionSums") -> "RegressionSums":
        return RegressionSums(
            self.n + other.n, self.gram + other.gram, self.cross + other.cross, self.square + other.square
        )

    def residual(self, coefficients: FloatArray) -> float:
        """Sum of (y - x coefficients)^2."""
        explained = coefficients @ self.gram @ coefficients
        return max(0.0, float(self.square - 2.0 * coefficients @ self.cross + explained))


@dataclass(frozen=True, slots=True, eq=False)
class LinearRegression:
    """Joint posterior of coefficients and noise of one arm.

    >>> prior = LinearRegression(np.zeros(1), np.eye(1), nu=1.0, scale=1.0)
    >>> two = RegressionSums(2.0, np.array([[2.0]]), np.array([6.0]), 20.0)  # totals 2 and 4
    >>> found = prior.updated(two)
    >>> float(found.mean[0]), float(found.precision[0, 0]), found.nu, found.scale
    (2.0, 3.0, 3.0, 3.0)
    """

    mean: FloatArray
    precision: FloatArray
    nu: float
    scale: float

    def updated(self, sums: RegressionSums) -> "LinearRegression":
        """The posterior after these units."""
        if sums.n == 0:
            return self
        precision = self.precision + sums.gram
        mean = linalg.solve(precision, self.precision @ self.mean + sums.cross, assume_a="pos")
        nu, moved = self.nu + sums.n, mean - self.mean
        spread = self.nu * self.scale + sums.residual(self.mean) - float(moved @ precision @ moved)
        return LinearRegression(mean, precision, nu, max(0.0, spread) / nu)

    def at(self, x: FloatArray) -> StudentT:
        """Posterior of the mean total in context x, shape (p,)."""
        variance = self.scale * float(x @ linalg.solve(self.precision, x, assume_a="pos"))
        return StudentT(float(x @ self.mean), sqrt(variance), self.nu)


@dataclass(frozen=True, slots=True, eq=False)
class Coupled:
    """A Normal posterior of K arms' coefficients, coupled by effects common to all arms.

    `mean` (K, p); `precision` is of all arms' coefficients one after the other and then of the common
    effects, (K p + S, K p + S). Without common effects arms are independent, block by block.
    """

    mean: FloatArray
    precision: FloatArray

    def draw(self, n: int, *, rng: np.random.Generator) -> FloatArray:
        """Deviations from the mean, (n, K, p): independent draws, each arm with noise of its own."""
        root = linalg.cholesky(self.precision, lower=True)
        noise = rng.standard_normal((len(root), n))
        draws = linalg.solve_triangular(root, noise, lower=True, trans=1)
        arms, width = self.mean.shape
        return draws[: arms * width].T.reshape(n, arms, width)

    def covariance(self) -> FloatArray:
        """Covariance of all arms' coefficients, common effects integrated out, (K p, K p)."""
        size = self.mean.size
        return linalg.inv(self.precision)[:size, :size]


def arrow(blocks: FloatArray, columns: FloatArray, corner: FloatArray) -> FloatArray:
    """The matrix of K blocks (K, p, p) on a diagonal, bordered by columns (K, p, S) and a corner (S,).

    >>> arrow(np.array([[[2.0]], [[3.0]]]), np.array([[[1.0]], [[1.0]]]), np.array([4.0])).tolist()
    [[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 4.0]]
    """
    arms, width, effects = columns.shape
    size = arms * width
    full = np.zeros((size + effects, size + effects))
    for k in range(arms):
        own = slice(k * width, (k + 1) * width)
        full[own, own] = blocks[k]
    border = columns.reshape(size, effects)
    full[:size, size:], full[size:, :size] = border, border.T
    full[size:, size:] = np.diag(corner)
    return full


def coupled_linear(
    priors: Sequence[LinearRegression], sums: Sequence[Sequence[RegressionSums]], noises: Sequence[float]
) -> Coupled:
    """Posterior of K arms whose totals differ between S + 1 sets by an amount common to all arms.

    y = x theta_k + alpha_s + noise of variance `noises[k]`, alpha_0 = 0; `sums[k][s]` are the arm's sums in
    the set. alpha_s ~ Normal(0, the mean noise): worth one unit, like the default prior. An arm that was a
    candidate only where everything sells well is then compared with those it competed with.
    Wrong when sets change what a variant does, not only the level: then it is the mixture's effect.
    """
    width, effects = len(priors[0].mean), len(sums[0]) - 1
    totals = [sum(of_arm, RegressionSums.none(width)) for of_arm in sums]
    blocks = np.array(
        [(p.precision + t.gram) / v for p, t, v in zip(priors, totals, noises, strict=True)]
    ).reshape(len(priors), width, width)
    columns = np.array(
        [[part.gram[0] / v for part in of_arm[1:]] for of_arm, v in zip(sums, noises, strict=True)]
    ).reshape(len(priors), effects, width)
    corner = 1.0 / float(np.mean(noises)) + columns[:, :, 0].sum(axis=0)
    right = [(p.precision @ p.mean + t.cross) / v for p, t, v in zip(priors, totals, noises, strict=True)]
    common = [
        sum(of_arm[s].cross[0] / v for of_arm, v in zip(sums, noises, strict=True))
        for s in range(1, effects + 1)
    ]
    precision = arrow(blocks, columns.transpose(0, 2, 1), corner)
    solved = linalg.solve(precision, np.concatenate([*right, np.array(common)]), assume_a="pos")
    return Coupled(solved[: len(priors) * width].reshape(len(priors), width), precision)
