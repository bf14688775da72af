"""The posterior of a difference and of a ratio of two independent parameters.

Each probability is an integral over one of the two, of the other's distribution function. It is taken over
whichever is narrower on the scale of the question, so that the other is smooth there and 128 nodes suffice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, inf, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from experiments.posteriors.beta import Beta
from experiments.posteriors.normal import LOST, StudentT
from experiments.posteriors.protocol import FloatArray, Posterior
from experiments.posteriors.quadrature import edges_of, nodes_cut_at, nodes_of
from experiments.posteriors.roots import root_between

_NEVER_POSITIVE = 1e-6
_NEWTON_STEPS = 6
_CLOSE = 1e-6
_REACH = 4.0
"""Scores beyond which a search begins at that of this score."""
_FEW = 4.0
"""Degrees of freedom up to which a Student-t has no fourth moment."""
_ROOT_2_PI = sqrt(2.0 * pi)
_DOUBLINGS = 200
"""A search for the other side of a quantile ends here: 10^60 widths away there is no probability left."""
_FLAT = 1e-6
"""Density times width below which a step of Newton's method leads nowhere."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Posterior of theta_a - theta_b, in the parameter's unit; a and b independent."""

    a: Posterior
    b: Posterior

    def cdf(self, x: ArrayLike) -> FloatArray:
        """P(theta_a - theta_b <= x)."""
        return _probability(self._integral(x, self.a.cdf, lambda bound: _at_least(self.b, bound)))

    def density(self, x: ArrayLike) -> FloatArray:
        """Density at x; approximate where a Beta with a parameter below 1 is infinite at an edge."""
        return self._integral(x, self.a.pdf, self.b.pdf)

    def ppf(self, q: ArrayLike) -> FloatArray:
        """The q quantile, to 1e-10 of its own size or of the width."""
        width = hypot(self.a.width, self.b.width)

        def start(z: FloatArray) -> FloatArray:
            return self.mean() + width * _score_of_sum(z, (self.a, self.a.width), (self.b, self.b.width))

        size = max(abs(self.a.mean), abs(self.b.mean))
        return _quantiles(self.cdf, self.density, q, start, 0.0 if width < LOST * size else width)

    def mean(self) -> float:
        """Difference of the means."""
        return self.a.mean - self.b.mean

    def interval(self, prob: float = 0.95) -> tuple[float, float]:
        """Equal-tailed credible interval."""
        low, high = self.ppf([(1 - prob) / 2, (1 + prob) / 2])
        return float(low), float(high)

    def _integral(
        self,
        x: ArrayLike,
        of_a: Callable[[FloatArray], FloatArray],
        of_b: Callable[[FloatArray], FloatArray],
    ) -> FloatArray:
        """E over b of of_a(x + theta_b), or E over a of of_b(theta_a - x), whichever is the narrower."""
        x = np.asarray(x, dtype=np.float64)
        over_b = self.b.width <= self.a.width
        narrow, wide = (self.b, self.a) if over_b else (self.a, self.b)
        sign = 1.0 if over_b else -1.0

        def at(shift: float | FloatArray, rule: tuple[FloatArray, FloatArray]) -> FloatArray:
            nodes, mass = rule
            return (of_a(shift + nodes) if over_b else of_b(nodes - shift)) @ mass

        # Where the edge of the wider support falls inside the narrower one, the rule is cut there
        flat = x.ravel()
        cuts = np.array(edges_of(wide)) - sign * flat[:, None]
        inside = ((cuts > narrow.reach[0]) & (cuts < narrow.reach[1])).any(axis=1)
        values = np.empty_like(flat)
        if not inside.all():
            values[~inside] = at(flat[~inside, None], nodes_of(narrow))
        for k in np.flatnonzero(inside):
            values[k] = at(float(flat[k]), nodes_cut_at(narrow, cuts[k].tolist()))
        return values.reshape(x.shape)


@dataclass(frozen=True, slots=True)
class RatioMinusOne:
    """Posterior of theta_a / theta_b - 1, given theta_b > 0; a and b independent.

    Built by `ratio_minus_one`, which refuses a theta_b that may be negative.
    """

    a: Posterior
    b: Posterior

    def cdf(self, x: ArrayLike) -> FloatArray:
        """P(theta_a / theta_b - 1 <= x)."""
        return _probability(self._by_narrower(x, self._cdf_over_b, self._cdf_over_a))

    def density(self, x: ArrayLike) -> FloatArray:
        """Density at x."""
        return self._by_narrower(x, self._density_over_b, self._density_over_a)

    def ppf(self, q: ArrayLike) -> FloatArray:
        """The q quantile, to 1e-10 of its own size or of the width."""
        a, b = self.a.mean, self.b.mean
        spread_a, spread_b = self.a.width, self.b.width
        # Those of two Normals (Fieller 1954): the r at which a - r b is z standard deviations from 0
        reach = min(_REACH, 0.9 * b / spread_b) if spread_b else _REACH

        def start(z: FloatArray) -> FloatArray:
            z = np.clip(_score_of_sum(z, (self.a, spread_a), (self.b, spread_b * a / b)), -reach, reach)
            root = np.sqrt((b * spread_a) ** 2 + (a * spread_b) ** 2 - (z * spread_a * spread_b) ** 2)
            return (a * b + z * root) / (b * b - (z * spread_b) ** 2) - 1.0

        width = hypot(spread_a, spread_b * a / b) / b
        size = max(1.0, abs(a / b))
        return _quantiles(self.cdf, self.density, q, start, 0.0 if width < LOST * size else width)

    def mean(self) -> float:
        """E[theta_a] E[1 / theta_b] - 1.

        For a Beta E[1 / theta_b] = (alpha + beta - 1) / (alpha - 1), inf for alpha <= 1. Where the density
        of theta_b does not vanish at 0 (Student-t) there is no mean, and this is the mean given that
        theta_b lies above its one-in-a-million quantile.
        """
        if isinstance(self.b, Beta):
            alpha, beta = self.b.alpha, self.b.beta
            return self.a.mean * (alpha + beta - 1) / (alpha - 1) - 1 if alpha > 1 else inf
        if self.b.width == 0:
            return self.a.mean / self.b.mean - 1
        nodes, mass = _given(nodes_of(self.b), above=max(0.0, float(self.b.ppf(_NEVER_POSITIVE))))
        return self.a.mean * float((mass / nodes).sum()) - 1

    def interval(self, prob: float = 0.95) -> tuple[float, float]:
        """Equal-tailed credible interval."""
        low, high = self.ppf([(1 - prob) / 2, (1 + prob) / 2])
        return float(low), float(high)

    def _by_narrower(
        self,
        x: ArrayLike,
        over_b: Callable[[FloatArray], FloatArray],
        over_a: Callable[[FloatArray], FloatArray],
    ) -> FloatArray:
        ratio = np.asarray(x, dtype=np.float64) + 1
        flat = np.atleast_1d(ratio).ravel()
        by_b = np.abs(flat) * self.b.width <= self.a.width
        result = np.empty_like(flat)
        if by_b.any():
            result[by_b] = over_b(flat[by_b])
        if not by_b.all():
            result[~by_b] = over_a(flat[~by_b])
        return result.reshape(ratio.shape)

    def _cdf_over_b(self, ratio: FloatArray) -> FloatArray:
        nodes, mass = _given(nodes_of(self.b), above=0.0)
        return self.a.cdf(ratio[:, None] * nodes) @ mass

    def _cdf_over_a(self, ratio: FloatArray) -> FloatArray:
        # theta_a <= r theta_b: for r > 0 where theta_b >= theta_a / r, for r < 0 where it is at most that
        nodes, mass = nodes_of(self.a)
        bound = np.maximum(nodes / ratio[:, None], 0.0)
        positive = float(_at_least(self.b, np.array(0.0)))
        below = self.b.cdf(bound) - (1.0 - positive)
        chance = np.where(ratio[:, None] > 0, _at_least(self.b, bound), below)
        return (chance @ mass) / positive

    def _density_over_b(self, ratio: FloatArray) -> FloatArray:
        nodes, mass = _given(nodes_of(self.b), above=0.0)
        return (self.a.pdf(ratio[:, None] * nodes) * nodes) @ mass

    def _density_over_a(self, ratio: FloatArray) -> FloatArray:
        nodes, mass = nodes_of(self.a)
        bound = nodes / ratio[:, None]
        density = np.where(bound > 0, self.b.pdf(bound) * bound, 0.0)
        return (density @ mass) / np.abs(ratio) / float(_at_least(self.b, np.array(0.0)))


def difference(a: Posterior, b: Posterior) -> Difference:
    """The posterior of theta_a - theta_b.

    >>> from experiments.posteriors.normal import StudentT
    >>> low, high = difference(StudentT(3.0, 3.0), StudentT(1.0, 4.0)).interval(0.95)
    >>> round(low, 4), round(high, 4)  # 2 -+ 1.95996 x 5
    (-7.7998, 11.7998)
    """
    return Difference(a, b)


def ratio_minus_one(a: Posterior, b: Posterior) -> RatioMinusOne | None:
    """The posterior of theta_a / theta_b - 1; None when P(theta_b <= 0) > 1e-6: no ratio can be told.

    >>> from experiments.posteriors.beta import Beta
    >>> lift = ratio_minus_one(Beta(2, 1), Beta(2, 1))
    >>> lift is not None and round(float(lift.cdf(0.0)), 6)
    0.5
    """
    if float(b.cdf(0.0)) > _NEVER_POSITIVE or not b.mean > 0:
        return None
    return RatioMinusOne(a, b)


def _given(rule: tuple[FloatArray, FloatArray], *, above: float) -> tuple[FloatArray, FloatArray]:
    nodes, mass = rule
    kept = nodes > above
    return nodes[kept], mass[kept] / mass[kept].sum()


def _probability(integral: FloatArray) -> FloatArray:
    """What rounding has left of a sum of weights that is 1 (it may be an ulp more) as a probability."""
    return np.clip(integral, 0.0, 1.0)


def _at_least(posterior: Posterior, x: FloatArray) -> FloatArray:
    """P(theta >= x): the upper tail, with a point's own mass included."""
    return np.where(x <= posterior.mean, 1.0, 0.0) if posterior.width == 0 else posterior.sf(x)


def _quantiles(
    cdf: Callable[[ArrayLike], FloatArray],
    density: Callable[[ArrayLike], FloatArray],
    q: ArrayLike,
    start: Callable[[FloatArray], FloatArray],
    width: float,
) -> FloatArray:
    """Solve cdf(x) = q: all of q at once by Newton's method, by Brent's what that does not reach.

    From the Normal quantiles (`start`, of a Normal score) two steps do, where Brent's takes sixteen for each.
    """
    levels = np.asarray(q, dtype=np.float64)
    if np.any((levels <= 0) | (levels >= 1)):
        raise ValueError(f"a quantile needs 0 < q < 1, found {levels}")
    if width == 0:
        return start(np.zeros_like(levels))
    found = _by_newton(cdf, density, levels, start, width)
    if found is not None:
        return found
    centre = float(start(np.zeros(1))[0])
    return np.array([_quantile(cdf, float(level), centre, width) for level in levels.ravel()]).reshape(
        levels.shape
    )


def _score_of_sum(z: FloatArray, *terms: tuple[Posterior, float]) -> FloatArray:
    """The quantile at a Normal score of a sum of terms of these scales, in their joint scale, to 1 / df.

    Student-t terms reach further than Normals: z + z sum w / df + (z^3 - 3 z) / 4 sum w^2 / df, w a term's
    part of the squared scales (Cornish & Fisher 1938); of one term z + (z^3 + z) / 4 df.
    """
    total = sum(scale * scale for _, scale in terms)
    if total == 0.0:
        return z
    heavy = [
        (scale * scale / total, of.df)
        for of, scale in terms
        if scale != 0.0 and isinstance(of, StudentT) and of.df > _FEW
    ]
    wider = sum(part / df for part, df in heavy)
    longer = sum(part * part / df for part, df in heavy)
    return z + z * wider + (z**3 - 3.0 * z) * (longer / 4.0)


def _by_newton(
    cdf: Callable[[ArrayLike], FloatArray],
    density: Callable[[ArrayLike], FloatArray],
    levels: FloatArray,
    start: Callable[[FloatArray], FloatArray],
    width: float,
) -> FloatArray | None:
    """The quantiles, or None where the steps do not shrink fast: a skewed or bounded density.

    Normal scores of the chances are all but linear in x, the chances are not: so steps are taken on scores.
    """
    scores = special.ndtri(levels)
    x = start(scores)
    for _ in range(_NEWTON_STEPS):
        slope = density(x)
        chance = cdf(x)
        if not np.all((slope * width > _FLAT) & (chance > 0.0) & (chance < 1.0)):
            return None
        score = special.ndtri(chance)
        step = (score - scores) * np.exp(-0.5 * score * score) / (_ROOT_2_PI * slope)
        x = x - step
        if np.all(np.abs(step) < _CLOSE * width):  # the error left is of the order of the square
            return x
    return None


def _quantile(cdf: Callable[[ArrayLike], FloatArray], level: float, centre: float, width: float) -> float:
    def excess(x: float) -> float:
        return float(cdf(x)) - level

    def beyond(side: float) -> float:
        for doubling in range(_DOUBLINGS):
            x = centre + side * 4.0 * 2.0**doubling * width
            if side * excess(x) >= 0.0:
                return x
        raise ArithmeticError(f"no {level} quantile within {_DOUBLINGS} doublings of {width} about {centre}")

    return root_between(excess, beyond(-1.0), beyond(1.0), within=1e-12 * width)
