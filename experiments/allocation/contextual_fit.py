"""From cells to the posterior of a contextual policy: one regression an arm, on what is known at enrolment.

The design is variant x features: every variant has coefficients of its own, shrunk by a prior worth one unit
to those of all variants together (as a mean's default prior is the pooled mean). The likelihood is
unweighted, of matured cells, discounted where the policy says so; candidate sets differ by an amount common
to all variants (`posteriors.linear.coupled_linear`).

Means         linear, on winsorised totals; noise has a variance of each variant's own.
Proportions   logistic where units are counted by context (categories only, at most 256 contexts); else
              linear in the rate: its mean is right where the rate is linear in the columns, its spread is the
              average of p (1 - p), too wide where the rate is low and too narrow where it is high.

A unit whose context is not on record counts as one without any value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy import linalg, special

from experiments.allocation.features import FEATURE_POINT, Columns
from experiments.analysis.context import context_products, product_of
from experiments.analysis.maturity import discount, matured
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.reading import Reason
from experiments.model import Experiment, MetricKind, Prior
from experiments.posteriors.linear import Coupled, LinearRegression, RegressionSums, coupled_linear
from experiments.posteriors.logistic import UNIFORM_VARIANCE, Trials, coupled_logistic
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell, Moments

SETS_MAX = 32
"""Candidate sets with a level of their own; smaller ones share one."""


@dataclass(frozen=True, slots=True, eq=False)
class ContextualPosterior:
    """Coefficients of the arms `keys`, (K, p); more is better (`sign` is in), log-odds where logistic.

    `noises` and `freedom` are each arm's residual variance and its degrees of freedom (None where logistic),
    `units` those behind each arm, `contexts` the units' mix: rows (n_contexts, p) and their shares.
    """

    keys: tuple[str, ...]
    model: str
    sign: int
    coupled: Coupled
    noises: FloatArray | None
    freedom: FloatArray | None
    units: Mapping[str, float]
    contexts: tuple[FloatArray, FloatArray]

    def draw(self, n: int, *, rng: np.random.Generator) -> FloatArray:
        """Draws of the coefficients, (n, K, p), oriented so that more is better."""
        away = self.coupled.draw(n, rng=rng)
        if self.freedom is not None:
            away *= np.sqrt(self.freedom / rng.chisquare(self.freedom, (n, len(self.keys))))[:, :, np.newaxis]
        return self.sign * (self.coupled.mean + away)


def contextual_posterior(
    experiment: Experiment, cells: Sequence[Cell], keys: Sequence[str], *, time_zone: str, now: datetime
) -> ContextualPosterior | tuple[Reason, str]:
    """The posterior of the objective for these variants, or the reason why there is none."""
    definition = metric_definitions(experiment)[experiment.policy.objective].winsorised
    usable = [cell for cell in cells if cell.key.variant in keys]
    usable = matured(usable, definition.horizon, time_zone, now)
    held = _held(definition, usable)
    if held is not None:
        return held
    half_life = experiment.policy.discount_half_life
    weights = [
        1.0 if half_life is None else discount(cell.key.day, half_life, time_zone, now) for cell in usable
    ]
    columns = Columns(experiment.policy.features)
    is_logistic = definition.kind is MetricKind.PROPORTION and columns.is_grouped
    groups = _groups(usable, weights)
    fit = _logistic if is_logistic else _linear
    return fit(definition, columns, groups, tuple(keys))


@dataclass(frozen=True, slots=True)
class _Group:
    """Weighted moments by variant and place of the candidate set; place 0 is the largest set."""

    moments: Mapping[tuple[str, int], Sequence[tuple[float, Moments]]]
    places: int


def _groups(cells: Sequence[Cell], weights: Sequence[float]) -> _Group:
    sizes: dict[int, int] = {}
    for cell in cells:
        sizes[cell.key.candidate_set] = sizes.get(cell.key.candidate_set, 0) + cell.moments.sum("units")
    order = sorted(sizes, key=lambda number: (-sizes[number], number))
    place = {number: min(index, SETS_MAX) for index, number in enumerate(order)}
    moments: dict[tuple[str, int], list[tuple[float, Moments]]] = {}
    for cell, weight in zip(cells, weights, strict=True):
        where = cell.key.variant, place[cell.key.candidate_set]
        moments.setdefault(where, []).append((weight, cell.moments))
    return _Group(moments, 1 + max(place.values(), default=0))


def _held(definition: MetricDefinition, cells: Sequence[Cell]) -> tuple[Reason, str] | None:
    for feature, reason, text in (
        (definition.unconverted, Reason.UNCONVERTED, "no exchange rate"),
        (definition.unknown_cost, Reason.COST_UNKNOWN, "no known cost"),
    ):
        orders = sum(cell.moments.sum(feature) for cell in cells) if feature is not None else 0
        if orders:
            return reason, f"{orders} orders have {text}"
    return None


def _linear(
    definition: MetricDefinition, columns: Columns, groups: _Group, keys: tuple[str, ...]
) -> ContextualPosterior | tuple[Reason, str]:
    width = columns.width
    none = RegressionSums.none(width)
    sums = [
        [
            sum((_sums(m, columns, definition, w) for w, m in groups.moments.get((key, s), ())), none)
            for s in range(groups.places)
        ]
        for key in keys
    ]
    totals = [sum(of_arm, none) for of_arm in sums]
    everything = sum(totals, none)
    within = sum(total.residual(_least_squares(total)) for total in totals)
    freedom = everything.n - len(keys) * width
    if freedom <= 0 or within <= 0.0:
        return Reason.INSUFFICIENT_DATA, "totals have no spread yet"
    prior = _linear_prior(definition.prior, _least_squares(everything), within / freedom)
    alone = [prior.updated(total) for total in totals]
    coupled = coupled_linear([prior] * len(keys), sums, [arm.scale for arm in alone])
    return ContextualPosterior(
        keys=keys,
        model="linear",
        sign=definition.sign,
        coupled=coupled,
        noises=np.array([arm.scale for arm in alone]),
        freedom=np.array([arm.nu for arm in alone]),
        units={key: total.n for key, total in zip(keys, totals, strict=True)},
        contexts=_mix(columns, groups, everything),
    )


def _mix(columns: Columns, groups: _Group, everything: RegressionSums) -> tuple[FloatArray, FloatArray]:
    """The contexts units are counted by, with their shares; the average one where they are endless."""
    if not columns.is_grouped:
        return everything.gram[:1] / everything.n, np.ones(1)
    known = list(columns.all_contexts())
    parts = [part for of_place in groups.moments.values() for part in of_place]
    counts = np.array([sum(weight * moments.sum(name) for weight, moments in parts) for name, _ in known])
    design = np.array([columns.row(encoded) for _, encoded in known], dtype=np.float64) / FEATURE_POINT
    return design[counts > 0], counts[counts > 0] / counts.sum()


def _linear_prior(given: Prior | None, pooled: FloatArray, variance: float) -> LinearRegression:
    """Worth one unit in each column, at the coefficients of all variants together, or as written."""
    given = given or Prior()
    mean = pooled
    if given.mean is not None:
        mean = np.zeros_like(pooled)
        mean[0] = given.mean
    kappa = 1.0 if given.kappa is None else given.kappa
    return LinearRegression(
        mean,
        kappa * np.eye(len(pooled)),
        1.0 if given.nu is None else given.nu,
        variance if given.scale is None else given.scale,
    )


def _least_squares(sums: RegressionSums) -> FloatArray:
    """Coefficients by least squares, slopes held by a prior worth one unit so that they exist."""
    ridge = np.eye(len(sums.cross))
    ridge[0, 0] = 0.0 if sums.n > 0 else 1.0
    return linalg.solve(sums.gram + ridge, sums.cross, assume_a="pos")


def _logistic(
    definition: MetricDefinition, columns: Columns, groups: _Group, keys: tuple[str, ...]
) -> ContextualPosterior | tuple[Reason, str]:
    rows: list[tuple[int, int, int, float, float]] = []
    known = list(columns.all_contexts())
    design = np.array([columns.row(encoded) for _, encoded in known], dtype=np.float64) / FEATURE_POINT
    for (key, place), parts in groups.moments.items():
        for number, (name, _) in enumerate(known):
            trials = sum(w * product_of(m, name, definition.denominator) for w, m in parts)
            if trials > 0.0:
                wins = sum(w * product_of(m, name, definition.numerator) for w, m in parts)
                rows.append((keys.index(key), place, number, trials, wins))
    if not rows:
        return Reason.INSUFFICIENT_DATA, f"too little data on {', '.join(keys)}"
    arm, place, number = (np.array(column, dtype=np.intp) for column in list(zip(*rows, strict=True))[:3])
    trials, wins = (np.array(column, dtype=np.float64) for column in list(zip(*rows, strict=True))[3:])
    data = Trials(arm, place, design[number], trials, wins)
    mean, variance = _logistic_prior(definition.prior, data, groups.places - 1)
    coupled = coupled_logistic(np.tile(mean, (len(keys), 1)), variance, data, effects=groups.places - 1)
    mix = np.bincount(number, trials, minlength=len(known))
    return ContextualPosterior(
        keys=keys,
        model="logistic",
        sign=definition.sign,
        coupled=coupled,
        noises=None,
        freedom=None,
        units={key: float(trials[arm == k].sum()) for k, key in enumerate(keys)},
        contexts=(design[mix > 0], mix[mix > 0] / mix.sum()),
    )


def _logistic_prior(given: Prior | None, data: Trials, effects: int) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of each coefficient: around all variants together, as wide as Beta(1, 1)."""
    width = data.x.shape[1]
    if given is not None and given.alpha is not None and given.beta is not None:
        mean = np.zeros(width)
        mean[0] = special.digamma(given.alpha) - special.digamma(given.beta)
        return mean, np.full(width, special.zeta(2.0, given.alpha) + special.zeta(2.0, given.beta))
    variance = np.full(width, UNIFORM_VARIANCE)
    pooled = Trials(np.zeros_like(data.arm), data.effect, data.x, data.trials, data.successes)
    return coupled_logistic(np.zeros((1, width)), variance, pooled, effects=effects).mean[0], variance


def _sums(moments: Moments, columns: Columns, definition: MetricDefinition, weight: float) -> RegressionSums:
    """One cell's n, sum x x', sum x y and sum y^2, exact integers until the last division."""
    terms, scale = definition.numerator, definition.scale
    square = (
        weight
        * scale
        * scale
        * sum(a * b * moments.product(f, g) for f, a in terms.items() for g, b in terms.items())
    )
    units = moments.sum("units")
    gram, cross = context_products(moments, columns, [terms])
    return RegressionSums(weight * units, weight * gram, weight * scale * cross[:, 0], square)
