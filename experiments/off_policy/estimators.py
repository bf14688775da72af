"""The estimators of a candidate policy's value per decision, with standard errors and intervals.

With the symbols of `terms`, M, tau and lambda the settings of `Settings`, means over the n rows:

=============  =====================================================  ========================================
estimator      value                                                  when it is wrong
=============  =====================================================  ========================================
`ips`          mean(w r)                                              propensities wrong, or 0 where pi > 0
`clipped_ips`  mean(min(w, M) r)                                      low by mean((w - M)+ r), for r >= 0
`snips`        sum(w r) / sum(w)                                      as ips; a bias of order 1/n besides
`dm`           mean(v)                                                the model wrong: then whatever n
`dr`           mean(v + w (r - f))                                    propensities *and* model wrong
`sndr`         mean(v) + sum(w (r - f)) / sum(w)                      as dr; a bias of order 1/n besides
`switch_dr`    mean(v + w 1{w <= tau} (r - f))                        by the model's error where w > tau
`dros`         mean(v + lambda w / (w^2 + lambda) (r - f))            by the model's, the more the larger w
=============  =====================================================  ========================================

Each is A + B with A a mean and B a ratio of means, A = mean(a), B = mean(b) / mean(c); its influence on row i
is psi_i = a_i - A + (b_i - B c_i) / mean(c) (the delta method for the self-normalised ones). Rows of one unit
are not independent, so they are summed first:

    se^2 = G / (G - 1) sum_g (sum_{i in g} psi_i)^2 / n^2,    G units,

which for one row a unit is the usual one. The interval is Normal, value +- 1.96 se; `bootstrap` draws units
instead and needs no Normal, but as many of them. What neither knows: the error of the model (`dm` has far too
narrow an interval; `dr` and `sndr` with cross-fitting need none), and the bias of the last two and of
clipping, whose limit they cover rather than the value. Few rewards under large weights make every interval
too short: that is what `overlap` is for.

Sources: Horvitz and Thompson (1952); Swaminathan and Joachims, The Self-Normalized Estimator (2015); Dudik,
Langford and Li, Doubly Robust Policy Evaluation and Learning (2011); Thomas and Brunskill (2016) for sndr;
Wang, Agarwal and Dudik, Optimal and Adaptive Off-policy Evaluation (2017) for the switch; Su et al., Doubly
Robust Off-policy Evaluation with Shrinkage (2020); Liang and Zeger (1986) for standard errors by unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import sqrt
from typing import NamedTuple

import numpy as np

from experiments.off_policy.terms import FloatArray, IntArray, Terms

Z95 = 1.959963984540054
LEAST_UNITS = 10
"""Below so many units there is a value, but no interval."""


class Estimator(StrEnum):
    """How a value is estimated."""

    REPLAY = "replay"
    IPS = "ips"
    CLIPPED_IPS = "clipped_ips"
    SNIPS = "snips"
    DM = "dm"
    DR = "dr"
    SNDR = "sndr"
    SWITCH_DR = "switch_dr"
    DROS = "dros"


MODELLED = frozenset({Estimator.DM, Estimator.DR, Estimator.SNDR, Estimator.SWITCH_DR, Estimator.DROS})
"""Estimators that need a model of rewards."""


class Reason(StrEnum):
    """Why there is no value, or no interval."""

    NO_ROWS = "no_rows"
    NO_MODEL = "no_model"
    NO_OVERLAP = "no_overlap"
    REFUSED = "refused"
    TOO_FEW_UNITS = "too_few_units"
    NO_SPREAD = "no_spread"
    NOT_FACTORED = "not_factored"
    NO_REWARD_BY_PLACE = "no_reward_by_place"
    NO_PROPENSITY_ALONE = "no_propensity_alone"


@dataclass(frozen=True, slots=True)
class Settings:
    """The largest weight of `clipped_ips`, of `switch_dr`, and lambda of `dros` (>= 0)."""

    clip: float
    switch: float
    shrink: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value per decision, in the unit of the rewards; None with a reason where there is none.

    The weights are those the estimator uses, after clipping, switching or shrinking; `ess` = (sum w)^2 /
    sum w^2 rows are what they are worth. `setting` is M, tau or lambda.
    """

    estimator: str
    value: float | None
    standard_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: Reason | None = None
    ess: float | None = None
    mean_weight: float | None = None
    max_weight: float | None = None
    setting: float | None = None


class WeightFigures(NamedTuple):
    """What weights come to."""

    ess: float
    mean: float
    largest: float


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """An estimate A + B of rows: `plain` a, `over` b and `under` c, each None where it has no part."""

    plain: FloatArray | None
    over: FloatArray | None = None
    under: FloatArray | None = None
    weights: FloatArray | None = None


def parts_of(name: Estimator, terms: Terms, settings: Settings) -> Parts:
    """What an estimator sums. `replay` is drawn, not summed (`replay.rejection`)."""
    w, r = terms.weights, terms.rewards
    if name is Estimator.IPS:
        return Parts(w * r, weights=w)
    if name is Estimator.CLIPPED_IPS:
        clipped = np.minimum(w, settings.clip)
        return Parts(clipped * r, weights=clipped)
    if name is Estimator.SNIPS:
        return Parts(None, w * r, w, weights=w)
    if terms.fitted is None or terms.expected is None:
        raise ValueError(f"{name} needs the predictions of a model")
    v, left = terms.expected, r - terms.fitted
    if name is Estimator.DM:
        return Parts(v)
    if name is Estimator.SNDR:
        return Parts(v, w * left, w, weights=w)
    used = {
        Estimator.DR: lambda: w,
        Estimator.SWITCH_DR: lambda: np.where(w <= settings.switch, w, 0.0),
        Estimator.DROS: lambda: shrunk(w, settings.shrink),
    }[name]()
    return Parts(v + used * left, weights=used)


def shrunk(weights: FloatArray, shrink: float) -> FloatArray:
    """The weights of `dros`: lambda w / (w^2 + lambda), at most sqrt(lambda) / 2; 0 for lambda = 0.

    >>> shrunk(np.array([0.0, 1.0, 3.0]), 9.0).tolist(), shrunk(np.array([2.0]), 0.0).tolist()
    ([0.0, 0.9, 1.5], [0.0])
    """
    if np.isinf(shrink):
        return weights
    return weights * (shrink / (weights * weights + shrink)) if shrink > 0.0 else np.zeros_like(weights)


def estimate(name: Estimator, terms: Terms, settings: Settings) -> Estimate:
    """One estimator's value, standard error and interval.

    >>> rows = Terms(np.array([0, 1]), np.full(2, 0.5), np.array([1.0, 0.0]), np.array([0.5, 1.5]),
    ...              None, None, None, np.ones((1, 2)), np.ones((1, 2)))
    >>> found = estimate(Estimator.SNIPS, rows, Settings(10.0, 10.0, 100.0))
    >>> found.value, found.reason  # 0.5 / 2; two units are too few for an interval
    (0.25, <Reason.TOO_FEW_UNITS: 'too_few_units'>)
    """
    setting = {
        Estimator.CLIPPED_IPS: settings.clip,
        Estimator.SWITCH_DR: settings.switch,
        Estimator.DROS: settings.shrink,
    }.get(name)
    if not len(terms):
        return Estimate(name, None, reason=Reason.NO_ROWS, setting=setting)
    if name in MODELLED and terms.expected is None:
        return Estimate(name, None, reason=Reason.NO_MODEL, setting=setting)
    return of_parts(name, parts_of(name, terms, settings), terms.units, setting)


def of_parts(name: str, parts: Parts, units: IntArray | None, setting: float | None = None) -> Estimate:
    """The estimate that parts come to."""
    bare = Estimate(name, None, setting=setting)
    if parts.weights is not None:
        seen = weight_figures(parts.weights)
        bare = replace(bare, ess=seen.ess, mean_weight=seen.mean, max_weight=seen.largest)
    if parts.under is not None and not parts.under.sum() > 0.0:
        return replace(bare, reason=Reason.NO_OVERLAP)
    value, influence = value_and_influence(parts)
    error, groups = standard_error(influence, units)
    reason = _no_interval(error, groups, value)
    if reason is not None:
        return replace(bare, value=value, reason=reason)
    low, high = value - Z95 * error, value + Z95 * error
    return replace(bare, value=value, standard_error=error, ci_low=low, ci_high=high)


def _no_interval(error: float, groups: int, value: float) -> Reason | None:
    if groups < LEAST_UNITS:
        return Reason.TOO_FEW_UNITS
    return None if error > 1e-14 * abs(value) else Reason.NO_SPREAD


def value_and_influence(parts: Parts) -> tuple[float, FloatArray]:
    """The value, and what each row moves it by, times n; influences sum to 0."""
    value, influence = 0.0, np.zeros(())
    if parts.plain is not None:
        value = float(parts.plain.sum()) / len(parts.plain)
        influence = parts.plain - value
    if parts.over is not None and parts.under is not None:
        total = float(parts.under.sum())
        ratio = float(parts.over.sum()) / total
        value += ratio
        influence = influence + (parts.over - ratio * parts.under) * (len(parts.under) / total)
    return value, influence


def standard_error(influence: FloatArray, units: IntArray | None) -> tuple[float, int]:
    """Standard error of a mean of rows from their influences, rows of one unit together; and the units.

    Infinite for one unit. Wrong where units influence each other, or few of them carry nearly everything.

    >>> standard_error(np.array([1.0, -1.0, 1.0, -1.0]), np.array([0, 0, 1, 1]))
    (0.0, 2)
    """
    by_unit = influence if units is None else np.bincount(units, influence)
    groups = len(by_unit)
    if groups < 2:
        return float("inf"), groups
    return sqrt(groups / (groups - 1) * float(by_unit @ by_unit)) / len(influence), groups


def weight_figures(weights: FloatArray) -> WeightFigures:
    """Effective sample size, mean and largest of the weights of one row or more.

    >>> weight_figures(np.array([1.0, 1.0, 0.0, 0.0]))
    WeightFigures(ess=2.0, mean=0.5, largest=1.0)
    """
    total, square = float(weights.sum()), float(weights @ weights)
    ess = total * total / square if square > 0.0 else 0.0
    return WeightFigures(ess, total / len(weights), float(weights.max()))


def bootstrap(
    every: Sequence[Parts], units: IntArray | None, *, draws: int, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """95 % percentile intervals of estimates from the same draws of units with replacement.

    Settings and models stand as they are in every draw. Monte-Carlo error of a bound: about
    sqrt(0.025 0.975 / draws) in probability, 0.5 % with 1,000.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.3.
    """
    n = len(next(c for parts in every for c in (parts.plain, parts.over) if c is not None))
    zero, one = np.zeros(n), np.ones(n)
    columns = [one]
    for parts in every:
        columns.append(zero if parts.plain is None else parts.plain)
        columns.append(zero if parts.over is None else parts.over)
        columns.append(one if parts.under is None else parts.under)
    sums = np.column_stack([c if units is None else np.bincount(units, c) for c in columns])
    groups = len(sums)
    found = np.empty((draws, len(every)))
    for draw in range(draws):
        counts = np.bincount(rng.integers(groups, size=groups), minlength=groups).astype(np.float64)
        drawn = counts @ sums
        with np.errstate(divide="ignore", invalid="ignore"):
            found[draw] = drawn[1::3] / drawn[0] + drawn[2::3] / drawn[3::3]
    low, high = np.nanquantile(found, [0.025, 0.975], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
