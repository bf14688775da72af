"""Delay curves: by which age what share of the outcomes that will come has come.

===========  ===================================================================  ==============
symbol       meaning                                                              unit
===========  ===================================================================  ==============
j            bin of age, 1 ... 24 (`experiments.ages`)
c_ij         outcomes of cohort i whose age at the outcome lies in bin j          events
m_i          bins that even the youngest unit of cohort i has behind it           bins
d_j          outcomes in bin j of the cohorts with m_i >= j                       events
Y_j          outcomes in bins 1 ... j of the same cohorts                         events
r_j          d_j / Y_j, of the outcomes up to edge j those in the last bin        share
F(edge j)    product over k > j of (1 - r_k), 1 at the last edge                  share
===========  ===================================================================  ==============

Cohorts are followed for different times, so late outcomes of young ones are missing (right truncation),
and the plain distribution of the delays seen looks too fast. r_j conditions on an outcome having come by
edge j, which the cohorts with m_i >= j show in full; the product is the maximum-likelihood distribution of
right-truncated delays (Lagakos, Barraj and De Gruttola 1988, Biometrika 75, section 3), in reserving the
chain-ladder with factors 1 / (1 - r_j) (Mack 1993, ASTIN Bulletin 23, section 2). Cohorts may differ in how
many outcomes they have: nothing is taken from the units without one.

By variant r_vj is shrunk to the pooled r_j: (d_vj + kappa r_j) / (Y_vj + kappa). Were all delays of one law,
d_vj would be binomial; its excess over that gives kappa by moments (a beta-binomial of size kappa,
var d = Y r (1 - r) (1 + (Y - 1) / (kappa + 1))): without excess kappa is infinite and every variant has
the pooled curve.

Limits. Beyond the oldest age seen in full nothing is known: F is 1 there, so that figures are about
outcomes up to that age, for all variants alike, until the first cohort has closed. A curve from D outcomes
has errors of about sqrt(F (1 - F) / D), which the posteriors that use it do not know of; they are common to
the variants where kappa is infinite. Delays must not change with calendar time.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from experiments.ages import BINS

FloatArray = NDArray[np.float64]

MIN_OUTCOMES = 20
"""Outcomes of all variants together below which there is no curve."""

_EDGES = (np.arange(BINS + 1) / BINS) ** 3
_EDGE_LIST: list[float] = _EDGES.tolist()


@dataclass(frozen=True, slots=True)
class DelayCurve:
    """F at the 25 edges of the horizon (seconds), linear between them and 1 from the horizon on."""

    horizon_s: float
    reached: tuple[float, ...]
    areas: tuple[float, ...] = field(init=False)  # integral of F from 0 to each edge, in horizons

    def __post_init__(self) -> None:
        reached = np.array(self.reached)
        steps = np.diff(_EDGES) * (reached[1:] + reached[:-1]) / 2.0
        object.__setattr__(self, "areas", (0.0, *np.cumsum(steps).tolist()))

    def mean_over(self, low_s: float, high_s: float) -> float:
        """The mean of F over ages between two, both >= 0 seconds, for units spread evenly between them.

        >>> round(DelayCurve(8.0, tuple(_EDGE_LIST)).mean_over(2.0, 4.0), 12)  # F(age) = age / 8
        0.375
        """
        low, high = low_s / self.horizon_s, high_s / self.horizon_s
        if high <= low:
            return self._until(low)[1]
        return (self._until(high)[0] - self._until(low)[0]) / (high - low)

    def _until(self, age: float) -> tuple[float, float]:
        """The integral of F from 0 to an age in horizons, and F there."""
        if age >= 1.0:
            return self.areas[-1] + (age - 1.0), 1.0
        j = bisect_right(_EDGE_LIST, age) - 1
        start, end = _EDGE_LIST[j], _EDGE_LIST[j + 1]
        first, last = self.reached[j], self.reached[j + 1]
        here = first + (last - first) * (age - start) / (end - start)
        return self.areas[j] + (age - start) * (first + here) / 2.0, here


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of one cohort by bin of age (24 counts), and how many bins it has behind it."""

    counts: Sequence[int]
    bins_seen: int


def delay_curves(
    cohorts: Mapping[str, Sequence[Outcomes]], horizon_s: float, *, shrinkage: float | None = None
) -> dict[str, DelayCurve] | None:
    """The delay curve of every variant; None below `MIN_OUTCOMES` outcomes in all.

    `shrinkage` is kappa; None estimates it.

    >>> counts = [0] * 10 + [30, 10] + [0] * 12
    >>> curves = delay_curves({"a": [Outcomes(counts, 24), Outcomes([0] * 10 + [60] + [0] * 13, 11)]}, 1.0)
    >>> round(curves["a"].reached[11], 12)
    0.75
    """
    fit = delay_fit(cohorts, shrinkage=shrinkage)
    if fit is None:
        return None
    return {key: DelayCurve(horizon_s, tuple(map(float, fit.reached(key)))) for key in fit.keys}


@dataclass(frozen=True, slots=True, eq=False)
class DelayFit:
    """The shares r_vj of every variant (or other group), and how many outcomes each of them rests on.

    `rates` and `sizes` have shape (keys, 24). log(1 - r) has variance r / ((1 - r) size) (Greenwood 1926);
    the bins' errors are uncorrelated (Mack 1993, theorem 2). With `is_common` all keys share one curve.
    """

    keys: tuple[str, ...]
    rates: FloatArray
    sizes: FloatArray
    is_common: bool

    def reached(self, key: str) -> FloatArray:
        """F at the edges 0 ... 24, shape (25,); F(0) = 0."""
        kept = np.cumprod(1.0 - self.rates[self.keys.index(key)][::-1])[::-1]
        return np.concatenate([[0.0], kept[1:], [1.0]])

    def log_variances(self, key: str) -> FloatArray:
        """Variances of log(1 - r_1) ... log(1 - r_24); 0 where nothing came in the bin, or all of it."""
        rate, size = (values[self.keys.index(key)] for values in (self.rates, self.sizes))
        return np.where(rate < 1.0, rate / np.maximum((1.0 - rate) * size, 1e-12), 0.0)


def delay_fit(
    cohorts: Mapping[str, Sequence[Outcomes]], *, shrinkage: float | None = None
) -> DelayFit | None:
    """The shares by bin behind every variant's curve; None below `MIN_OUTCOMES` outcomes in all.

    A share that is shrunk to the pooled one rests on its own outcomes and on 1 / (1 / kappa + 1 / others').

    >>> fit = delay_fit({"a": [Outcomes([0] * 10 + [30, 10] + [0] * 12, 24)]})
    >>> round(float(fit.reached("a")[11]), 12), round(float(fit.log_variances("a")[11]), 6)
    (0.75, 0.008333)
    """
    ends = {variant: _ends(found) for variant, found in cohorts.items()}
    d = np.array([pair[0] for pair in ends.values()]).reshape(-1, BINS)
    y = np.array([pair[1] for pair in ends.values()]).reshape(-1, BINS)
    if d.sum() < MIN_OUTCOMES:
        return None
    total = y.sum(axis=0)
    pooled = d.sum(axis=0) / np.maximum(total, 1.0)
    kappa = shrinkage_of(d, y) if shrinkage is None else shrinkage
    if kappa == inf:
        return DelayFit(
            tuple(ends), np.broadcast_to(pooled, d.shape), np.broadcast_to(total, d.shape), is_common=True
        )
    rates = (d + kappa * pooled) / np.maximum(y + kappa, 1e-12)
    others = total - y
    sizes = y + kappa * others / np.maximum(kappa + others, 1e-12)
    return DelayFit(tuple(ends), rates, sizes, is_common=False)


def shrinkage_of(d: FloatArray, y: FloatArray) -> float:
    """The size kappa of the beta-binomial whose excess variance over variants is the one seen; maybe inf.

    `d`, `y`: outcomes in a bin and up to its end, shape (variants, bins). Moments: the sum over variants
    and bins of (d - y r)^2 / (y r (1 - r)) exceeds its expectation under one law, the sum of 1 - y / Y, by
    the sum of (y - 1) (1 - y / Y)^2 / (kappa + 1) to first order.

    >>> same = np.array([[2.0, 6.0], [4.0, 12.0]])
    >>> shrinkage_of(same, np.array([[20.0, 30.0], [40.0, 60.0]]))
    inf
    """
    total = y.sum(axis=0)
    rate = d.sum(axis=0) / np.maximum(total, 1.0)
    informed = (y > 1.0) & (rate > 0.0) & (rate < 1.0)
    spread = np.where(informed, y * rate * (1.0 - rate), 1.0)
    left = np.where(informed, 1.0 - y / np.maximum(total, 1.0), 0.0)
    excess = float(np.sum(np.where(informed, (d - y * rate) ** 2 / spread, 0.0)) - left.sum())
    if excess <= 0.0:
        return inf
    return max(1.0, float(np.sum(np.where(informed, (y - 1.0) * left * left, 0.0))) / excess - 1.0)


def _ends(cohorts: Sequence[Outcomes]) -> tuple[FloatArray, FloatArray]:
    """d_j and Y_j of one variant, each of shape (24,)."""
    counts = np.array([cohort.counts for cohort in cohorts], dtype=np.float64).reshape(-1, BINS)
    seen = np.array([cohort.bins_seen for cohort in cohorts], dtype=np.int64).reshape(-1, 1)
    mask = np.arange(BINS) < seen
    return (counts * mask).sum(axis=0), (counts.cumsum(axis=1) * mask).sum(axis=0)
