"""Gauss-Legendre rules laid over several posteriors at once.

Everything asked of independent arms is an integral of their densities and distribution functions over
one parameter. The rule is laid in a coordinate t where they are smooth: the log-odds when all arms are
Beta, otherwise x = centre + unit sinh(t), in which a heavy tail decays exponentially; the unit is an arm's
width, or a thousand of them when all tails are light, which leaves x as it is where there is probability.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import asinh, hypot, inf, nextafter
from typing import TypeGuard

import numpy as np
from scipy import special

from experiments.posteriors.beta import (
    Beta,
    log_odds_cdf,
    log_odds_density,
    log_odds_moments,
    log_odds_reach,
)
from experiments.posteriors.normal import StudentT, student_cdf, student_density
from experiments.posteriors.protocol import FloatArray, Posterior

NODES = 128
_LEGENDRE_X, _LEGENDRE_W = np.polynomial.legendre.leggauss(NODES)
_CORE = 9.0
_LIGHT = 12.0  # a Normal reaches 8.9 widths, a Student-t of 90 degrees of freedom 11.4
_LINEAR = 1e3
WIDEST = 40.0
"""A panel wider than 40 widths of an arm inside it is cut where that arm's core (9 widths each way) ends."""
SHORT_NODES = 16
"""Nodes of a short panel: ten or so of them cover what one panel of 128 nodes does."""
_SHORT = 2.5
_SHORT_X, _SHORT_W = np.polynomial.legendre.leggauss(SHORT_NODES)


@dataclass(frozen=True, slots=True)
class Arms:
    """Arms laid on the coordinate t: where each has its bulk, how wide it is there, how far it reaches.

    The four arrays have shape (n_arms,).
    """

    posteriors: Sequence[Posterior]
    centre: FloatArray
    width: FloatArray
    low: FloatArray
    high: FloatArray
    log_odds: tuple[FloatArray, FloatArray] | None  # (alpha, beta), each (n_arms, 1), when all are Beta
    students: tuple[FloatArray, FloatArray, FloatArray] | None  # (location - origin, scale, df)
    origin: float
    unit: float

    def points(self, t: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The parameter at t, and dx/dt."""
        if self.log_odds is not None:
            x = special.expit(t)
            return x, x * special.expit(-t)
        return self.origin + self.unit * np.sinh(t), self.unit * np.cosh(t)

    def densities(self, t: FloatArray) -> FloatArray:
        """Density of each arm per unit of t, shape (n_arms, n_points)."""
        if self.log_odds is not None:
            return log_odds_density(*self.log_odds, t)
        if self.students is not None:  # counted from the origin: x itself may be a million widths from 0
            return student_density(*self.students, self.unit * np.sinh(t)) * (self.unit * np.cosh(t))
        x, step = self.points(t)
        return np.array([posterior.pdf(x) * step for posterior in self.posteriors])

    def cdfs(self, t: FloatArray) -> FloatArray:
        """P(arm <= t), shape (n_arms, n_points)."""
        if self.log_odds is not None:
            return log_odds_cdf(*self.log_odds, t)
        if self.students is not None:
            return student_cdf(*self.students, self.unit * np.sinh(t))
        x, _ = self.points(t)
        return np.array([posterior.cdf(x) for posterior in self.posteriors])


def arms_of(posteriors: Sequence[Posterior]) -> Arms:
    """Lay arms of positive width out; the sinh coordinate is centred on the arm that reaches highest."""
    if _all_beta(posteriors):
        alpha = np.array([posterior.alpha for posterior in posteriors], dtype=np.float64)
        beta = np.array([posterior.beta for posterior in posteriors], dtype=np.float64)
        centre, width = log_odds_moments(alpha, beta)
        low, high = log_odds_reach(alpha, beta)
        return Arms(posteriors, centre, width, low, high, (alpha[:, None], beta[:, None]), None, 0.0, 1.0)
    reaches = [posterior.reach for posterior in posteriors]
    middles = [middle_of(posterior) for posterior in posteriors]
    leader = max(range(len(reaches)), key=lambda k: reaches[k][0])
    origin, unit = middles[leader], posteriors[leader].width
    if all(
        reach[1] - reach[0] < 2 * _LIGHT * posterior.width
        for reach, posterior in zip(reaches, posteriors, strict=True)
    ):
        unit *= _LINEAR

    def coordinate(values: Sequence[float]) -> FloatArray:
        return np.array([asinh((value - origin) / unit) for value in values])

    widths = [
        posterior.width / hypot(unit, middle - origin)
        for posterior, middle in zip(posteriors, middles, strict=True)
    ]
    low, high = (coordinate([reach[side] for reach in reaches]) for side in (0, 1))
    students = None
    if _all_student(posteriors):
        named = [(posterior.location - origin, posterior.scale, posterior.df) for posterior in posteriors]
        location, scale, df = np.array(named)[..., None].swapaxes(0, 1)
        students = (location, scale, df)
    return Arms(posteriors, coordinate(middles), np.array(widths), low, high, None, students, origin, unit)


def panels_between(arms: Arms, low: float, high: float, *, widest: float = WIDEST) -> FloatArray:
    """Panel edges, shape (n_panels + 1,): [low, high] cut so that no panel is too wide for an arm in it.

    Narrow arms first; a piece outside an arm's core is smooth as far as that arm goes.
    """
    edges = [low, high]
    for k in np.argsort(arms.width, kind="stable"):
        width, centre = float(arms.width[k]), float(arms.centre[k])
        core = (centre - _CORE * width, centre + _CORE * width)
        cut: list[float] = [edges[0]]
        for left, right in pairwise(edges):
            if right - left > widest * width:
                cut.extend(edge for edge in core if left < edge < right)
            cut.append(right)
        edges = cut
    return np.array(edges)


def short_panels(arms: Arms, low: float, high: float) -> FloatArray:
    """Panel edges, shape (n_panels + 1,): no panel is longer than 2.5 widths of an arm whose core it enters.

    On so short a panel a distribution function grows by 10^9 at most, so that `running_integral` keeps
    half of its digits even in the far tail, where top-two looks for the challengers of a sure leader.
    """
    cores = [
        (centre - _CORE * width, centre + _CORE * width, _SHORT * width)
        for centre, width in zip(arms.centre.tolist(), arms.width.tolist(), strict=True)
    ]
    edges, at = [low], low
    while at < high:
        cores = [core for core in cores if at < core[1]]
        step_to = min([max(start, at + step) for start, _, step in cores], default=high)
        at = max(step_to, nextafter(at, inf))  # a core may be narrower than the rounding of where it lies
        edges.append(at)
    edges[-1] = high
    return np.array(edges)


def short_rule(left: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of short panels, each of shape (n_panels, SHORT_NODES)."""
    half = 0.5 * (right - left)[:, None]
    return 0.5 * (right + left)[:, None] + half * _SHORT_X, half * _SHORT_W


def running_integral(values: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
    """Integral of each panel's interpolant from the panel's left edge to every node.

    `values` at the nodes of `short_rule`, shape (..., n_panels, SHORT_NODES), and so the result. Exact for
    polynomials below degree 16; one product of matrices instead of a special function for every node.
    """
    return (0.5 * (right - left))[:, None] * (values @ _RUNNING)


def _running_matrix() -> FloatArray:
    """The matrix R with (f at the nodes) @ R = integral from -1 to each node, shape (nodes, nodes).

    f = sum_m (m + 1/2) P_m sum_i w_i P_m(x_i) f(x_i), and P_m integrates to (P_{m+1} - P_{m-1}) / (2 m + 1)
    (DLMF 18.9.6 and its consequence), P_0 to x + 1.
    """
    legendre = np.polynomial.legendre.legvander(_SHORT_X, SHORT_NODES)
    order = np.arange(SHORT_NODES)
    below = np.concatenate([-np.ones((SHORT_NODES, 1)), legendre[:, :-2]], axis=1)
    integrals = (legendre[:, 1:] - below) / (2 * order + 1)
    return (_SHORT_W[:, None] * legendre[:, :-1] * (order + 0.5)) @ integrals.T


_RUNNING = _running_matrix()


def rule_over(left: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of every panel, each of shape (n_panels, NODES)."""
    half = 0.5 * (right - left)[:, None]
    return 0.5 * (right + left)[:, None] + half * _LEGENDRE_X, half * _LEGENDRE_W


@lru_cache(maxsize=256)
def nodes_of(posterior: Posterior) -> tuple[FloatArray, FloatArray]:
    """Points x and weights w, flat, with sum(w g(x)) = E[g(theta)] for any g smooth on its own scale.

    Remembered, because a quantile asks for the same rule some twenty times; the arrays are read-only.
    """
    x, mass = nodes_cut_at(posterior, ())
    x.flags.writeable = mass.flags.writeable = False
    return x, mass


def nodes_cut_at(posterior: Posterior, cuts: Iterable[float]) -> tuple[FloatArray, FloatArray]:
    """`nodes_of` with panels cut at the given parameters, for a g with kinks or steps there."""
    if posterior.width == 0:
        return np.array([float(middle_of(posterior))]), np.array([1.0])
    arms = arms_of([posterior])
    low, high = float(arms.low[0]), float(arms.high[0])
    places = {coordinate_of(arms, cut) for cut in cuts}
    edges = {place for place in places if low < place < high} | set(panels_between(arms, low, high).tolist())
    steps = np.array(sorted(edges))
    t, weights = (part.ravel() for part in rule_over(steps[:-1], steps[1:]))
    mass = weights * arms.densities(t)[0]
    return arms.points(t)[0], mass / mass.sum()


def coordinate_of(arms: Arms, x: float) -> float:
    """The t at which the parameter is x; infinite outside the support."""
    if arms.log_odds is None:
        return float(np.arcsinh((x - arms.origin) / arms.unit))
    if 0 < x < 1:
        return float(np.log(x) - np.log1p(-x))
    return np.inf if x >= 1 else -np.inf


def edges_of(posterior: Posterior) -> tuple[float, ...]:
    """Where a distribution function has a kink: the edges of a Beta's support."""
    return (0.0, 1.0) if isinstance(posterior, Beta) else ()


def middle_of(posterior: Posterior) -> float:
    """The mean, or the median where there is none."""
    mean = posterior.mean
    return mean if np.isfinite(mean) else float(posterior.ppf(0.5))


def others_product(factors: FloatArray) -> FloatArray:
    """For each arm the product of all other arms' factors; (n_arms, n_points) in and out.

    From running products on both sides, since dividing the whole product fails where a factor is 0.
    """
    ones = np.ones_like(factors[:1])
    before = np.cumprod(np.concatenate([ones, factors[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([ones, factors[:0:-1]]), axis=0)[::-1]
    return before * after


def _all_beta(posteriors: Sequence[Posterior]) -> TypeGuard[Sequence[Beta]]:
    return all(isinstance(posterior, Beta) for posterior in posteriors)


def _all_student(posteriors: Sequence[Posterior]) -> TypeGuard[Sequence[StudentT]]:
    return all(isinstance(posterior, StudentT) for posterior in posteriors)
