"""The standardised posterior of one arm: sums over strata and weights in, one posterior out.

Symbols: strata s with weights W_s (sum 1, the same for every arm of a comparison), n_s units of the
arm, x numerator and y denominator of a unit, bars are means per unit, R the ratio.

| estimate     | figure                         | posterior                                              |
|--------------|--------------------------------|--------------------------------------------------------|
| proportion   | sum W_s x_s / y_s              | Beta with the mean and variance of sum W_s theta_s,    |
|              |                                | theta_s ~ Beta(a W_s + x_s, b W_s + y_s - x_s)         |
| mean         | sum W_s xbar_s                 | Student-t of sum W_s mu_s, Satterthwaite's df,         |
|              |                                | mu_s | prior N-inv-chi2(pooled mean, k W_s, v W_s, s2) |
| ratio        | R = sum W_s xbar_s / W_s ybar_s| Student-t at R with the delta-method variance          |
| stratified   | the same R (y = 1 for a mean)  | Normal, residual variance pooled over neighbouring     |
|              |                                | strata (of each segment, where strata are of one)      |

With one stratum the first two are the exact conjugate posteriors. The prior is spread over the strata
by weight, so that it counts once however many there are. Delta method: var(R) = sum W_s^2
var_s(x - R y) / n_s / (sum W_s ybar_s)^2.

Limits. A figure without a posterior (`insufficient_data`) is returned where the Student-t would have no
variance (fewer than 2 units for a mean, 4 for a ratio), for a total without spread, and for a ratio whose
denominator lies within 3 standard errors of 0, where the delta method is no longer about anything. A share
of counts without spread (no refund among n orders) has the Beta(1 + x, 1 + n - x) of its counts instead:
conservative, since it treats orders as independent only where none differs from another.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.sums import PairSums, total_sums
from experiments.model import MetricKind, Prior
from experiments.posteriors.beta import Beta
from experiments.posteriors.normal import NormalInverseGamma, StudentT
from experiments.posteriors.protocol import Posterior

SetEpoch = tuple[int, int]
"""(candidate set, epoch): where units were enrolled."""

MIN_DENOMINATOR_ERRORS = 3.0
MIN_SEGMENT_UNITS, MIN_SPREAD_UNITS = 100, 300
"""Degrees of freedom from which a segment's residual variance is its own, and that of a run of its strata:
more, since few units of a rare event may have no spread at all by chance."""
MIN_FREEDOM = 2.0
"""Degrees of freedom a Student-t must exceed: below, it has no variance to compare by."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Mean and variance of a unit's total over all variants of a stratum, for the default prior."""

    mean: float
    variance: float


@dataclass(frozen=True, slots=True)
class Part:
    """One arm in one stratum; `places` says how many of its units lie in each (set, epoch).

    `segment` is the one all the stratum's units are of, None where they are of several.
    """

    weight: float
    sums: PairSums
    places: Mapping[SetEpoch, float]
    pool: Pool | None = None
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A standardised figure and its posterior; None where there is too little to have one.

    `influence` splits the posterior's standard deviation over the places the arm's units come from
    (its squares sum to the variance): two estimates of one arm covary by its inner product. `error` is the
    figure's standard error by the data alone, whatever the prior; None where it is 0 or unknown.
    """

    figure: float
    posterior: Posterior | None
    method: str
    influence: Mapping[SetEpoch, float] = field(default_factory=dict[SetEpoch, float])
    error: float | None = None


def unstratified(definition: MetricDefinition, parts: Sequence[Part]) -> Estimate | None:
    """The estimate by candidate set, for shares that do not move; None when there is no figure."""
    if definition.kind is MetricKind.PROPORTION:
        return proportion(parts, definition.prior)
    if definition.kind is MetricKind.MEAN:
        return mean(parts, definition.prior)
    return ratio(parts, is_share=definition.is_share)


def stratified(definition: MetricDefinition, parts: Sequence[Part]) -> Estimate | None:
    """The estimate by candidate set and epoch: Normal, residual variance pooled over neighbours.

    Two strata of 50 units, figures 0.2 and 0.4, standardise to 0.3 whatever the arm's own mix.
    """
    figure = _ratio_of(parts)
    if figure is None:
        return None
    units = sum(part.sums.units for part in parts)
    freedom = units - len(parts)
    if freedom <= 0:
        return Estimate(figure, None, "stratified normal")
    mean_y = sum(part.weight * part.sums.mean_y for part in parts)
    residuals = residual_variances(
        [part.sums.units for part in parts],
        [part.sums.squared_deviations(figure) for part in parts],
        [part.segment for part in parts],
    )
    errors = [
        part.weight * math.sqrt(residual / part.sums.units) / mean_y
        for part, residual in zip(parts, residuals, strict=True)
    ]
    variance = math.fsum(error * error for error in errors)
    if variance <= 0.0:
        is_share = definition.is_share or definition.kind is MetricKind.PROPORTION
        return _without_spread(parts, figure, "stratified normal", is_share=is_share)
    if definition.kind is MetricKind.RATIO and not _is_denominator_clear(parts):
        return Estimate(figure, None, "stratified normal")
    error, method = math.sqrt(variance), "stratified normal"
    posterior = StudentT(figure, error, math.inf)
    if definition.prior is not None and definition.is_prior_in_strata:
        posterior = _informed(posterior, before_data(definition.prior))
        errors = [one * posterior.scale / error for one in errors]
        method = "stratified normal, given prior"
    return Estimate(figure, posterior, method, _influence(parts, errors), error)


def _informed(likelihood: StudentT, prior: Posterior) -> StudentT:
    """The Normal likelihood times the Normal of the prior's mean and variance."""
    spread = prior.variance if math.isfinite(prior.variance) else prior.width**2
    weight = spread / (spread + likelihood.scale**2)
    middle = prior.location if isinstance(prior, StudentT) else prior.mean  # few units have no mean
    center = weight * likelihood.location + (1.0 - weight) * middle
    return StudentT(center, likelihood.scale * math.sqrt(weight), math.inf)


def residual_variances(
    units: Sequence[float], squares: Sequence[float], segments: Sequence[str | None]
) -> list[float]:
    """The residual variance of each stratum of an arm, pooled over its neighbours of the same segment.

    `squares` are the sums of squared deviations within the strata. Segments differ in what they spend: pooled
    over them all, an arm shown more to the big spenders seemed more or less sure than it is (coverage of a
    lift .968). Seasons differ too: where rates rise from 5 to 15 %, an arm that was starved late had mostly
    the small spread of early epochs (.905). Few units of a segment borrow from all.
    """

    def freedom(places: Sequence[int]) -> float:
        return sum(units[place] for place in places) - len(places)

    def pooled(places: Sequence[int]) -> float:
        return sum(squares[place] for place in places) / freedom(places)

    found = [pooled(range(len(units)))] * len(units)
    for segment in set(segments):
        own = [place for place, other in enumerate(segments) if other == segment]
        for run in _runs(own, freedom):
            if freedom(run) >= MIN_SEGMENT_UNITS:
                residual = pooled(run)
                for place in run:
                    found[place] = residual
    return found


def _runs(places: Sequence[int], freedom: Callable[[Sequence[int]], float]) -> list[list[int]]:
    """Neighbours merged in order until they have `MIN_SPREAD_UNITS`; a rest joins the last."""
    runs: list[list[int]] = [[]]
    for place in places:
        if freedom(runs[-1]) >= MIN_SPREAD_UNITS:
            runs.append([])
        runs[-1].append(place)
    if len(runs) > 1 and freedom(runs[-1]) < MIN_SPREAD_UNITS:
        rest = runs.pop()
        runs[-1] += rest
    return runs


def proportion(parts: Sequence[Part], prior: Prior | None = None) -> Estimate | None:
    """Beta posterior of a proportion, standardised over the parts.

    >>> from experiments.analysis.sums import WEIGHT_ONE as one
    >>> part = Part(1.0, PairSums(10 * one, 3 * one, 10 * one), {})
    >>> estimate = proportion([part])
    >>> estimate.figure, estimate.posterior
    (0.3, Beta(alpha=4.0, beta=8.0))
    """
    if not parts or any(part.sums.y <= 0 for part in parts):
        return None
    alpha = 1.0 if prior is None or prior.alpha is None else prior.alpha
    beta = 1.0 if prior is None or prior.beta is None else prior.beta
    posteriors = [
        Beta(alpha * part.weight, beta * part.weight).updated(
            part.sums.numerator, max(0.0, part.sums.denominator - part.sums.numerator)
        )
        for part in parts
    ]
    figure = math.fsum(part.weight * part.sums.ratio for part in parts)
    errors = [
        part.weight * math.sqrt(posterior.variance) for part, posterior in zip(parts, posteriors, strict=True)
    ]
    if len(parts) == 1:
        return Estimate(figure, posteriors[0], "beta", _influence(parts, errors), _plain_error(parts))
    center = math.fsum(p.weight * posterior.mean for p, posterior in zip(parts, posteriors, strict=True))
    matched = Beta.matching(center, math.fsum(error * error for error in errors))
    method = "beta, standardised over candidate sets"
    return Estimate(figure, matched, method, _influence(parts, errors), _plain_error(parts))


def mean(parts: Sequence[Part], prior: Prior | None = None) -> Estimate | None:
    """Student-t posterior of a mean per unit, standardised over the parts.

    The prior's location and variance are pooled over the variants of the part, worth one unit.
    """
    if not parts or any(part.sums.n <= 0 for part in parts):
        return None
    figure = math.fsum(part.weight * part.sums.mean_x for part in parts)
    marginals = [_marginal_mean(part, prior) for part in parts]
    known = [marginal for marginal in marginals if marginal is not None]
    if len(known) < len(parts):
        return Estimate(figure, None, "student-t")
    errors = [part.weight * marginal.scale for part, marginal in zip(parts, known, strict=True)]
    if len(known) == 1:
        return Estimate(figure, known[0], "student-t", _influence(parts, errors), _plain_error(parts))
    location = math.fsum(part.weight * marginal.location for part, marginal in zip(parts, known, strict=True))
    scale, df = _satterthwaite(errors, [marginal.df for marginal in known])
    posterior = StudentT(location, scale, df)
    method = "student-t, standardised over candidate sets"
    return Estimate(figure, posterior, method, _influence(parts, errors), _plain_error(parts))


def ratio(parts: Sequence[Part], *, is_share: bool = False) -> Estimate | None:
    """Student-t posterior of a ratio of unit totals, by the delta method, standardised over the parts.

    R is the ratio of the standardised means, so a part with few denominators weighs little.
    """
    figure = _ratio_of(parts)
    if figure is None:
        return None
    method = "delta" if len(parts) == 1 else "delta, standardised over candidate sets"
    freedom = [part.sums.units - 1 for part in parts]
    if min(freedom) <= MIN_FREEDOM or not _is_denominator_clear(parts):
        return Estimate(figure, None, method)
    mean_y = math.fsum(part.weight * part.sums.mean_y for part in parts)
    errors = [part.weight * _standard_error(part.sums, figure) / mean_y for part in parts]
    scale, df = _satterthwaite(errors, freedom)
    if scale <= 0.0:
        return _without_spread(parts, figure, method, is_share=is_share)
    return Estimate(figure, StudentT(figure, scale, df), method, _influence(parts, errors), scale)


def before_data(prior: Prior) -> Posterior:
    """A whole prior as the posterior of no data: its Beta, or the Student-t of its mean.

    >>> before_data(Prior(alpha=2.0, beta=5.0))
    Beta(alpha=2.0, beta=5.0)
    """
    if prior.alpha is not None and prior.beta is not None:
        return Beta(prior.alpha, prior.beta)
    mean, kappa, nu, scale = prior.mean, prior.kappa, prior.nu, prior.scale
    if mean is None or kappa is None or nu is None or scale is None:
        raise ValueError(f"not a whole prior: {prior}")
    return NormalInverseGamma(mean, kappa, nu, scale).marginal_mean()


def _ratio_of(parts: Sequence[Part]) -> float | None:
    if not parts or any(part.sums.n <= 0 for part in parts):
        return None
    mean_y = math.fsum(part.weight * part.sums.mean_y for part in parts)
    if mean_y <= 0.0:
        return None
    if len(parts) == 1:
        return parts[0].sums.ratio  # to the last digit the plain figure
    return math.fsum(part.weight * part.sums.mean_x for part in parts) / mean_y


def _marginal_mean(part: Part, prior: Prior | None) -> StudentT | None:
    pool, sums = part.pool, part.sums
    given = prior or Prior()
    scale = given.scale if given.scale is not None else (pool.variance if pool else 0.0)
    center = given.mean if given.mean is not None else (pool.mean if pool else 0.0)
    kappa = 1.0 if given.kappa is None else given.kappa
    nu = 1.0 if given.nu is None else given.nu
    if scale <= 0.0 or nu * part.weight + sums.units <= MIN_FREEDOM:
        return None
    start = NormalInverseGamma(center, kappa * part.weight, nu * part.weight, scale)
    return start.updated(sums.units, sums.mean_x, sums.squared_deviations()).marginal_mean()


def _plain_error(parts: Sequence[Part]) -> float | None:
    """Standard error of sum W_s x_s / y_s by the data alone; None where the data has no spread."""
    if any(part.sums.units <= 1 for part in parts):
        return None
    errors = [part.weight * _standard_error(part.sums, part.sums.ratio) / part.sums.mean_y for part in parts]
    return math.sqrt(math.fsum(error * error for error in errors)) or None


def _standard_error(sums: PairSums, figure: float) -> float:
    """Standard error of the mean of x - R y."""
    return math.sqrt(sums.squared_deviations(figure) / (sums.units - 1) / sums.units)


def _is_denominator_clear(parts: Sequence[Part]) -> bool:
    """Whether the standardised denominator is further than 3 standard errors from 0."""
    mean_y = math.fsum(part.weight * part.sums.mean_y for part in parts)
    variance = 0.0
    for part in parts:
        sums = part.sums
        spread = sums.yy * sums.n - sums.y * sums.y
        variance += part.weight**2 * (spread / sums.n**2) / max(1.0, sums.units - 1)
    return mean_y > MIN_DENOMINATOR_ERRORS * math.sqrt(variance)


def _without_spread(parts: Sequence[Part], figure: float, method: str, *, is_share: bool) -> Estimate:
    total = total_sums(part.sums for part in parts)
    if not is_share or total.denominator < 2:
        return Estimate(figure, None, method)
    posterior = Beta(1.0, 1.0).updated(total.numerator, total.denominator - total.numerator)
    error = math.sqrt(posterior.variance)
    return Estimate(
        figure, posterior, "beta, no spread", _influence(parts, [part.weight * error for part in parts])
    )


def _satterthwaite(errors: Sequence[float], freedoms: Sequence[float]) -> tuple[float, float]:
    """Scale and degrees of freedom of a sum of independent Student-t of those scales."""
    squares = [error * error for error in errors]
    total = math.fsum(squares)
    if len(squares) == 1 or total <= 0.0:
        return math.sqrt(total), freedoms[0]
    spread = math.fsum(square * square / df for square, df in zip(squares, freedoms, strict=True))
    return math.sqrt(total), total * total / spread


def _influence(parts: Sequence[Part], errors: Sequence[float]) -> dict[SetEpoch, float]:
    """Split each part's error over its places by the root of their share of its units."""
    shares: dict[SetEpoch, float] = {}
    for part, error in zip(parts, errors, strict=True):
        for place, units in part.places.items():
            shares[place] = error * math.sqrt(units / part.sums.units) if part.sums.units else 0.0
    return shares
