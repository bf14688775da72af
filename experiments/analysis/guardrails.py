"""Guardrails: how surely a treatment is worse than control by more than a margin, and what follows.

A change is relative to control, (theta_v - theta_c) / theta_c, or absolute, theta_v - theta_c, for a
metric that can be 0 or negative or is a score. "Beyond m" is a change of more than m in the metric's
bad direction; for a relative one it is computed as P(theta_v > (1 + m) theta_c) (or <, 1 - m), which
stays right where control is too near 0 for the ratio to have a posterior.

States: warn and throttle are entered when P(beyond their margin) > 0.95 and left only when it has
fallen below 0.80, so that a probability hovering at the limit does not make the share flap. Kill needs
P(beyond kill) > 0.99 with 1,000 matured units in both arms, or a variant that was throttled to its
floor and over 5,000 matured units of its own has P(within throttle) < 0.01. A killed variant stays
killed: only a person resumes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from experiments.analysis.cohorts import Cohort
from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, Reason
from experiments.analysis.report import CI_PROB, Density, GuardrailReport, Interval, Margins
from experiments.model import Guardrail
from experiments.posteriors.compare import difference, prob_greater, ratio_minus_one
from experiments.posteriors.normal import StudentT

ENTER = 0.95
LEAVE = 0.80
KILL = 0.99
KILL_UNITS = 1_000
FLOOR_WITHIN = 0.01
FLOOR_UNITS = 5_000
DENSITY_POINTS = 101


class GuardrailState(StrEnum):
    """What a guardrail says of a treatment, mildest first; unknown while it cannot be computed."""

    UNKNOWN = "unknown"
    OK = "ok"
    WARN = "warn"
    THROTTLE = "throttle"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the next state depends on: P(beyond each margin), matured units, whether at the floor."""

    prob_breach: Margins
    units_variant: float
    units_control: float
    is_at_floor: bool = False


def next_state(previous: GuardrailState, evidence: Evidence | None) -> GuardrailState:
    """The state after new evidence; None (nothing could be computed) changes nothing.

    >>> probs = Margins(warn=0.99, throttle=0.85, kill=0.1)
    >>> next_state(GuardrailState.OK, Evidence(probs, 5000, 5000)).value
    'warn'
    >>> next_state(GuardrailState.THROTTLE, Evidence(probs, 5000, 5000)).value
    'throttle'
    """
    if previous is GuardrailState.KILL or evidence is None:
        return previous
    if _is_kill(evidence):
        return GuardrailState.KILL
    probs = evidence.prob_breach
    was_throttled = previous is GuardrailState.THROTTLE
    if probs.throttle > ENTER or (was_throttled and probs.throttle >= LEAVE):
        return GuardrailState.THROTTLE
    was_warned = previous in (GuardrailState.WARN, GuardrailState.THROTTLE)
    if probs.warn > ENTER or (was_warned and probs.warn >= LEAVE):
        return GuardrailState.WARN
    return GuardrailState.OK


def guardrail_report(
    guardrail: Guardrail,
    reading: Reading,
    variant: str,
    matured_cohort: Cohort,
    *,
    previous: GuardrailState = GuardrailState.UNKNOWN,
    is_at_floor: bool = False,
    with_lift: bool = True,
) -> GuardrailReport:
    """One guardrail of one treatment: the change against control, its odds, and the state.

    `reading` is the guardrail's metric over the cells that count, `matured_cohort` the units whose
    window has closed (a kill asks for 1,000 of them in both arms). Without `with_lift` there is no change
    and no density in it, which are for people and three times as dear as the state.
    """
    definition = reading.definition
    pair = reading.pairs[variant]
    units = {key: float(matured_cohort.total(key, "units")) for key in (variant, reading.control)}
    evidence = None
    if isinstance(pair, Pair):
        probs = prob_breach(definition, pair, guardrail)
        evidence = Evidence(probs, units[variant], units[reading.control], is_at_floor)
    lift, density = _lift(definition, pair) if with_lift else (Interval(), None)
    return GuardrailReport(
        metric=guardrail.metric,
        variant=variant,
        state=next_state(previous, evidence).value,
        prob_breach=evidence.prob_breach if evidence else None,
        margins=Margins(guardrail.warn, guardrail.throttle, guardrail.kill),
        absolute=definition.absolute,
        lift=lift,
        density=density,
        units_variant=units[variant],
        units_control=units[reading.control],
        reason=None if isinstance(pair, Pair) else pair.value,
    )


def prob_breach(definition: MetricDefinition, pair: Pair, guardrail: Guardrail) -> Margins:
    """P(the treatment is worse than control by more than each margin)."""
    return Margins(
        *(prob_beyond(definition, pair, m) for m in (guardrail.warn, guardrail.throttle, guardrail.kill))
    )


def prob_beyond(definition: MetricDefinition, pair: Pair, margin: float) -> float:
    """P(change in the bad direction > margin), the change relative or absolute as the metric says."""
    treatment, control = pair.treatment_posterior, pair.control_posterior
    signed = -definition.sign * margin  # the limit as a signed change
    if definition.absolute:
        below = float(difference(treatment, control).cdf(signed))
    elif isinstance(control, StudentT):
        factor = 1.0 + signed
        scaled = StudentT(control.location * factor, control.scale * abs(factor), control.df)
        below = float(prob_greater(scaled, treatment)) if factor else float(treatment.cdf(0.0))
    else:
        change = ratio_minus_one(treatment, control)
        if change is None:
            raise ValueError(f"{definition.key}: control's posterior must be positive")
        below = float(change.cdf(signed))
    return below if definition.sign > 0 else 1.0 - below


def worst_state(states: Mapping[str, GuardrailState]) -> GuardrailState:
    """The most severe of several guardrails' states; ok when there are none."""
    order = list(GuardrailState)
    return max(states.values(), key=order.index, default=GuardrailState.OK)


def _is_kill(evidence: Evidence) -> bool:
    probs = evidence.prob_breach
    enough = min(evidence.units_variant, evidence.units_control) >= KILL_UNITS
    if enough and probs.kill > KILL:
        return True
    is_spent = evidence.is_at_floor and evidence.units_variant >= FLOOR_UNITS
    return is_spent and 1.0 - probs.throttle < FLOOR_WITHIN


def _lift(definition: MetricDefinition, pair: Pair | Reason) -> tuple[Interval, Density | None]:
    if not isinstance(pair, Pair):
        return Interval(reason=pair.value), None
    treatment, control = pair.treatment_posterior, pair.control_posterior
    if definition.absolute:
        change, value = difference(treatment, control), pair.lift_abs
    else:
        change, value = ratio_minus_one(treatment, control), pair.lift_rel
    if change is None:
        return Interval(reason=Reason.CONTROL_NEAR_ZERO.value), None
    low, high = change.interval(CI_PROB)
    grid = np.linspace(*change.interval(0.999), DENSITY_POINTS)
    heights = np.asarray(change.density(grid), dtype=np.float64)
    density = Density(tuple(map(float, grid)), tuple(map(float, heights)))
    return Interval(value, float(low), float(high)), density
