"""Which prior each figure of the report has, and what the lift would be with others.

| prior     | says                                                                                       |
|-----------|--------------------------------------------------------------------------------------------|
| default   | Beta(1, 1); a mean's Normal-inverse-gamma at the pooled mean, worth one unit               |
| flat      | nothing: the figures and their standard errors alone, Normal (what a ratio, and what is   |
|           | stratified by epoch, have anyway)                                                          |
| sceptical | that variants hardly differ: theta_k ~ Normal(mu, t^2 / 2) with mu unknown, so that a lift |
|           | is Normal(0, t^2) before any data; t = 5 % of the control's figure                         |

Sceptical, in closed form: of a lift d with variance v the posterior is Normal(k d, k v), k = t^2 / (t^2 + v).
P(best): given mu the arms are independent Normal(w_k y_k + (1 - w_k) mu, w_k v_k), w_k = t^2 / (t^2 + 2 v_k);
mu is Normal about the mean of the y_k weighted by 1 / (t^2 / 2 + v_k), over which 5 Gauss-Hermite nodes
average. Error of P(best) 1e-3, where one arm's error is 10 times another's; below 1e-6 when they are alike.

Where P(best) or the lift's sign changes with the prior, it is the prior that speaks and not the data.
Source: Spiegelhalter, Freedman, Parmar, Bayesian Approaches to Randomized Trials (1994), section 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

import numpy as np
from scipy import special

from experiments.allocation.warm_start import PastExperiment, power_prior, told_by
from experiments.analysis.aipw import read_shown
from experiments.analysis.closed_form import NO_LIFT
from experiments.analysis.cohorts import Cohorts
from experiments.analysis.comparison import Pair, prob_within
from experiments.analysis.estimates import Estimate
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, is_adaptive
from experiments.analysis.report import CI_PROB, Interval, MetricReport, PriorReport, Sensitivity
from experiments.analysis.strata import plain_part
from experiments.model import Experiment, MetricKind, Prior, WarmSource
from experiments.posteriors.compare import difference
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import FloatArray

SCEPTICAL = 0.05
"""Standard deviation of a relative lift before any data, to a sceptic."""

_X, _W = np.polynomial.legendre.leggauss(96)
_REACH = 8.0
_HERMITE_X, _HERMITE_W = np.polynomial.hermite_e.hermegauss(5)
_NORMAL_95 = float(special.ndtri(0.5 + CI_PROB / 2.0))

Reasons = Mapping[str, str]
"""Metric -> why the prior that was asked for cannot be had."""


def with_given_priors(
    experiment: Experiment,
    definitions: Mapping[str, MetricDefinition],
    past: Mapping[str, PastExperiment],
    now: datetime,
) -> tuple[dict[str, MetricDefinition], dict[str, str]]:
    """The definitions with the document's `priors`, and why one of them cannot be had."""
    found, reasons = dict(definitions), dict[str, str]()
    for key, asked in experiment.priors.items():
        definition = definitions[key]
        prior = asked if isinstance(asked, Prior) else _past(definition, asked, past, now)
        if isinstance(prior, str):
            reasons[key] = prior
        else:
            found[key] = replace(definition, prior=prior, is_prior_in_strata=True)
    return found, reasons


def _past(
    definition: MetricDefinition, source: WarmSource, past: Mapping[str, PastExperiment], now: datetime
) -> Prior | str:
    told = told_by(definition, past.get(source.experiment), source.variant, [source.variant], now)
    return told if isinstance(told, str) else power_prior(definition, told, source.discount)


def with_priors(
    experiment: Experiment,
    cohorts: Cohorts,
    reading_of: Callable[[str], Reading],
    metrics: Mapping[str, Mapping[str, MetricReport]],
    reasons: Reasons,
    *,
    seed: int,
) -> dict[str, dict[str, MetricReport]]:
    """Every metric with its prior, how its lift would be with others, and P(lift within the rope)."""
    found: dict[str, dict[str, MetricReport]] = {}
    rope = experiment.verdict.rope
    for key, by_variant in metrics.items():
        reading = reading_of(key)
        prior = prior_of(experiment, reading, reasons.get(key))
        told = sensitivities(experiment, cohorts, reading, by_variant, seed=seed)
        found[key] = {
            variant: replace(
                report,
                prior=prior,
                sensitivity=told.get(variant),
                prob_in_rope=_within(reading, variant, rope),
            )
            for variant, report in by_variant.items()
        }
    return found


def prior_of(experiment: Experiment, reading: Reading, reason: str | None = None) -> PriorReport:
    """The prior that the reading's figures have."""
    definition = reading.definition
    is_stratified = is_adaptive(experiment)
    given = definition.prior
    if given is not None and (definition.is_prior_in_strata or not is_stratified):
        asked = experiment.priors.get(definition.key)
        if isinstance(asked, WarmSource):
            return PriorReport("historic", _numbers(given), asdict(asked))
        return PriorReport("expert", _numbers(given))
    if is_stratified or definition.kind is MetricKind.RATIO:
        return PriorReport("flat", reason=reason)
    if definition.kind is MetricKind.PROPORTION:
        return PriorReport("default", {"alpha": 1.0, "beta": 1.0}, reason=reason)
    pool = plain_part(reading.table, "").pool
    assert pool is not None
    prior = {"mean": pool.mean, "kappa": 1.0, "nu": 1.0, "scale": pool.variance}
    return PriorReport("default", prior, reason=reason)


def _numbers(prior: Prior) -> dict[str, float]:
    return {name: value for name, value in asdict(prior).items() if value is not None}


def sensitivities(
    experiment: Experiment,
    cohorts: Cohorts,
    reading: Reading,
    reports: Mapping[str, MetricReport],
    *,
    seed: int,
) -> dict[str, dict[str, Sensitivity]]:
    """By variant: lift and P(best) with the default, a flat and a sceptical prior; control has no lift."""
    pairs = {key: pair for key, pair in reading.pairs.items() if isinstance(pair, Pair)}
    if not pairs:
        return {}
    plain = reading
    if reading.definition.prior is not None:
        definition = replace(reading.definition, prior=None, is_prior_in_strata=False)
        cohort = cohorts.of(definition.horizon)
        table = replace(reading.table, definition=definition)
        plain = read_shown(experiment, cohort, definition, seed=seed, table=table)
    known = {} if plain is not reading else {key: reports[key].figures.lift_abs for key in pairs}
    by_default = {key: _default(plain, key, known.get(key)) for key in (reading.control, *pairs)}
    likelihoods = {k: (_likelihood(pair.treatment), _likelihood(pair.control)) for k, pair in pairs.items()}
    flat = {key: _lift(*arms, None) for key, arms in likelihoods.items()}
    relative = {key: _relative_lift(*arms) for key, arms in likelihoods.items()}
    sceptical = {key: _lift(*arms, _tau(arms[1])) for key, arms in likelihoods.items()}
    best = _best(reading, likelihoods, sceptical=False)
    doubted = _best(reading, likelihoods, sceptical=True)
    return {
        key: {
            "default": by_default[key],
            "flat": Sensitivity(flat.get(key, NO_LIFT), best.get(key), relative.get(key)),
            "sceptical": Sensitivity(sceptical.get(key, NO_LIFT), doubted.get(key)),
        }
        for key in (reading.control, *pairs)
    }


def _within(reading: Reading, variant: str, rope: float) -> float | None:
    pair = reading.pairs.get(variant)
    return prob_within(pair, rope) if isinstance(pair, Pair) else None


def _default(plain: Reading, key: str, known: Interval | None) -> Sensitivity:
    """With the default prior; `known` is the lift shown, where that is with the default prior."""
    best = plain.ranking.prob_best.get(key) if plain.ranking else None
    pair = plain.pairs.get(key)
    if not isinstance(pair, Pair):
        return Sensitivity(NO_LIFT, best)
    lift = difference(pair.treatment_posterior, pair.control_posterior)
    if known is not None:
        return Sensitivity(replace(known, value=lift.mean()), best)
    low, high = lift.interval(CI_PROB)
    return Sensitivity(Interval(lift.mean(), low, high), best)


_Normal = tuple[float, float]
"""A figure and its standard error by the data alone."""


def _likelihood(estimate: Estimate) -> _Normal | None:
    """None where the data has no spread: a proportion of 0 is not known without error."""
    posterior = estimate.posterior
    if estimate.error is not None:
        return estimate.figure, estimate.error
    return (estimate.figure, posterior.scale) if isinstance(posterior, StudentT) else None


def _tau(control: _Normal | None) -> float | None:
    return SCEPTICAL * control[0] if control is not None and control[0] > 0.0 else None


def _lift(treatment: _Normal | None, control: _Normal | None, tau: float | None) -> Interval:
    """The Normal lift; with `tau` shrunk towards 0 by the sceptic."""
    if treatment is None or control is None:
        return Interval(reason="insufficient_data")
    value, variance = treatment[0] - control[0], treatment[1] ** 2 + control[1] ** 2
    kept = 1.0 if tau is None else tau * tau / (tau * tau + variance)
    center, half = kept * value, _NORMAL_95 * float(np.sqrt(kept * variance))
    return Interval(center, center - half, center + half)


def _relative_lift(treatment: _Normal | None, control: _Normal | None) -> Interval | None:
    """The Normal relative lift: var(a / b) = var(a) / b^2 + a^2 var(b) / b^4, to order var(b) / b^2."""
    if treatment is None or control is None or control[0] <= 0.0:
        return None
    ratio = treatment[0] / control[0]
    half = _NORMAL_95 * float(np.hypot(treatment[1], ratio * control[1])) / control[0]
    return Interval(ratio - 1.0, ratio - 1.0 - half, ratio - 1.0 + half)


def _best(
    reading: Reading,
    likelihoods: Mapping[str, tuple[_Normal | None, _Normal | None]],
    *,
    sceptical: bool,
) -> dict[str, float]:
    """P(best) of control and the treatments; none where they have no common control or no spread."""
    controls = {control for _, control in likelihoods.values()}
    control = next(iter(controls))
    treatments = [treatment for treatment, _ in likelihoods.values()]
    known = [arm for arm in (control, *treatments) if arm is not None]
    tau = _tau(control) if sceptical else None
    if len(controls) > 1 or len(known) <= len(treatments) or (sceptical and tau is None):
        return {}
    figures, errors = (np.array(column) for column in zip(*known, strict=True))
    chances = normal_prob_best(reading.definition.sign * figures, errors, tau)
    return dict(zip((reading.control, *likelihoods), chances.tolist(), strict=True))


def normal_prob_best(figures: FloatArray, errors: FloatArray, tau: float | None = None) -> FloatArray:
    """P(best) of Normal arms, (n_arms,); with `tau` under the sceptical prior of the module's text.

    >>> normal_prob_best(np.array([0.0, 1.0]), np.array([0.6, 0.8])).round(4).tolist()  # Phi(1) = 0.8413
    [0.1587, 0.8413]
    """
    if tau is None:
        return _independent(figures, errors)
    half = tau * tau / 2.0
    variances = errors**2
    weights = 1.0 / (half + variances)
    center, spread = float((weights * figures).sum() / weights.sum()), float(1.0 / np.sqrt(weights.sum()))
    kept = half / (half + variances)
    nodes = center + spread * _HERMITE_X
    shares = _HERMITE_W / _HERMITE_W.sum()
    found = [_independent(kept * figures + (1.0 - kept) * mu, np.sqrt(kept) * errors) for mu in nodes]
    return np.asarray(shares @ np.array(found), dtype=np.float64)


def _independent(means: FloatArray, errors: FloatArray) -> FloatArray:
    """P(best) of independent Normal arms: each arm's density against the others' distribution functions."""
    z = _REACH * _X
    mass = _W * np.exp(-0.5 * z * z)
    points = means[:, None] + errors[:, None] * z  # (arm, node)
    below = special.ndtr((points[:, None, :] - means[:, None]) / errors[:, None])  # (arm, other, node)
    arms: Sequence[int] = range(len(means))
    below[arms, arms] = 1.0
    chances = below.prod(axis=1) @ mass
    return np.asarray(chances / chances.sum(), dtype=np.float64)
