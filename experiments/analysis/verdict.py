"""The verdict: what the figures say of a treatment, in one word and one sentence.

In this order: `toxic` (order value up, a guardrail broken), `harmful` (the objective down, or a
guardrail broken), `healthy` (the objective up, every guardrail held), `no_difference` (the lift surely
smaller than matters), `promising` (probably up, nothing broken), else `insufficient_data`.
"Up" allows for the number of variants looked at: P(lift > 0) >= 1 - 0.025 / (K - 1). The thresholds are
the experiment document's (`verdict`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from experiments.analysis.comparison import Pair, prob_within
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, Reason
from experiments.analysis.report import CI_PROB, GuardrailReport, Verdict
from experiments.analysis.sentences import Situation, Told, sentences
from experiments.analysis.wording import MONEY_METRICS, Change
from experiments.model import Experiment, VerdictSettings
from experiments.posteriors.compare import difference

_PER_UNIT = MONEY_METRICS - {"aov", "aov_net"}


class VerdictKind(StrEnum):
    """The six verdicts."""

    TOXIC = "toxic"
    HARMFUL = "harmful"
    HEALTHY = "healthy"
    NO_DIFFERENCE = "no_difference"
    PROMISING = "promising"
    INSUFFICIENT = "insufficient_data"


@dataclass(frozen=True, slots=True)
class VerdictReadings:
    """What a verdict looks at besides the guardrails; `units_per_week` are enrolments of all variants."""

    objective: Reading
    aov: Reading
    revenue: Reading
    margin: Reading
    units_per_week: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rule looks at, each a probability in the good direction or None where unknown."""

    prob_up: float | None
    prob_aov_up: float | None
    prob_within_rope: float | None
    prob_broken: tuple[float | None, ...]  # P(beyond throttle) of each guardrail
    treatments: int


def judge(facts: Facts, settings: VerdictSettings) -> tuple[VerdictKind, str]:
    """The verdict of one treatment and the code of what decided it.

    >>> judge(Facts(0.999, 0.5, 0.0, (0.01,), 1), VerdictSettings())
    (<VerdictKind.HEALTHY: 'healthy'>, 'objective_up_guardrails_held')
    """
    sure = 1.0 - settings.tail / facts.treatments
    is_broken = any(_is_broken(p, settings) for p in facts.prob_broken)
    is_held = all(_is_held(p, settings) for p in facts.prob_broken)
    prob_up = facts.prob_up
    if is_broken and facts.prob_aov_up is not None and facts.prob_aov_up >= sure:
        return VerdictKind.TOXIC, "aov_up_guardrail_broken"
    if prob_up is not None and 1.0 - prob_up >= sure:
        return VerdictKind.HARMFUL, "objective_down"
    if is_broken:
        return VerdictKind.HARMFUL, "guardrail_broken"
    if prob_up is None:
        return VerdictKind.INSUFFICIENT, "no_comparison"
    if prob_up >= sure and is_held:
        return VerdictKind.HEALTHY, "objective_up_guardrails_held"
    if facts.prob_within_rope is not None and facts.prob_within_rope >= settings.equivalent:
        return VerdictKind.NO_DIFFERENCE, "lift_within_rope"
    if prob_up >= settings.promising:
        is_up = prob_up >= sure
        return VerdictKind.PROMISING, "guardrails_undecided" if is_up else "objective_probably_up"
    return VerdictKind.INSUFFICIENT, "not_yet_clear"


def verdict_of(
    experiment: Experiment, variant: str, readings: VerdictReadings, guardrails: Sequence[GuardrailReport]
) -> Verdict:
    """The verdict of one treatment by the experiment's own thresholds."""
    settings, objective = experiment.verdict, readings.objective
    pair = objective.pairs[variant]
    own = [report for report in guardrails if report.variant == variant]
    facts = Facts(
        prob_up=objective.prob_beats(variant),
        prob_aov_up=readings.aov.prob_beats(variant),
        prob_within_rope=prob_within(pair, settings.rope) if isinstance(pair, Pair) else None,
        prob_broken=tuple(report.prob_breach.throttle if report.prob_breach else None for report in own),
        treatments=len(experiment.variants) - 1,
    )
    kind, code = judge(facts, settings)
    by_metric = dict(zip((report.metric for report in own), facts.prob_broken, strict=True))
    broken = [key for key, p in by_metric.items() if _is_broken(p, settings)]
    undecided = [key for key, p in by_metric.items() if key not in broken and not _is_held(p, settings)]
    if code == "no_comparison" and isinstance(pair, Reason):
        code = pair.value
    key = objective.definition.key
    told = Told(
        situation=_situation(kind, code, key, has_guardrails=bool(own), is_broken=bool(broken)),
        variant=variant,
        control=experiment.control.key,
        unit=experiment.unit,
        currency=experiment.currency,
        objective=objective.definition,
        change=_change(pair) if isinstance(pair, Pair) else pair,
        weekly=_weekly(readings, variant),
        broken=broken,
        undecided=undecided,
        gap=_gap(readings, variant, settings.promising),
    )
    by_language = sentences(told)
    return Verdict(variant, kind.value, code, by_language["en"], by_language)


def leading_treatment(experiment: Experiment, objective: Reading) -> str:
    """The treatment with the highest P(best); the first one while there is no ranking.

    Control is what the others are judged against, so it is not judged itself.
    """
    treatments = [variant.key for variant in experiment.variants if not variant.is_control]
    best: Mapping[str, float] = objective.ranking.prob_best if objective.ranking else {}
    return max(treatments, key=lambda key: best.get(key, -1.0))


def _is_broken(prob_broken: float | None, settings: VerdictSettings) -> bool:
    return prob_broken is not None and prob_broken >= settings.breach


def _is_held(prob_broken: float | None, settings: VerdictSettings) -> bool:
    return prob_broken is not None and 1.0 - prob_broken >= settings.held


def _situation(
    kind: VerdictKind, code: str, objective: str, *, has_guardrails: bool, is_broken: bool
) -> Situation:
    match kind:
        case VerdictKind.HARMFUL if is_broken:
            return Situation.BROKEN
        case VerdictKind.HARMFUL:
            return Situation.LOSING if objective in MONEY_METRICS else Situation.WORSE
        case VerdictKind.HEALTHY:
            return Situation.HEALTHY if has_guardrails else Situation.UNGUARDED
        case VerdictKind.TOXIC:
            return Situation.TOXIC
        case VerdictKind.NO_DIFFERENCE:
            return Situation.SAME
        case VerdictKind.PROMISING:
            return Situation.UNDECIDED if code == "guardrails_undecided" else Situation.PROMISING
        case VerdictKind.INSUFFICIENT:  # pragma: no branch (pyright holds the match to be exhaustive)
            return Situation.UNCLEAR


def _change(pair: Pair) -> Change:
    low, high = difference(pair.treatment_posterior, pair.control_posterior).interval(CI_PROB)
    return Change(pair.lift_abs, float(low), float(high))


def _weekly(readings: VerdictReadings, variant: str) -> Change | None:
    """What the change brings if all of a week's units get the variant; None where money is unknown."""
    first = readings.objective if readings.objective.definition.key in _PER_UNIT else readings.margin
    for reading in (first, readings.revenue):
        pair = reading.pairs[variant]
        if isinstance(pair, Pair):
            return _change(pair).times(readings.units_per_week)
    return None


def _gap(
    readings: VerdictReadings, variant: str, sure: float
) -> tuple[tuple[MetricDefinition, Change], tuple[MetricDefinition, Change]] | None:
    """Revenue and margin per unit where one rises and the other falls, both surely enough."""
    revenue, margin = readings.revenue.prob_beats(variant), readings.margin.prob_beats(variant)
    sold, earned = readings.revenue.pairs[variant], readings.margin.pairs[variant]
    if revenue is None or margin is None or not isinstance(sold, Pair) or not isinstance(earned, Pair):
        return None
    if min(revenue, 1.0 - margin) < sure and min(1.0 - revenue, margin) < sure:
        return None
    return (
        (readings.revenue.definition, _change(sold)),
        (readings.margin.definition, _change(earned)),
    )
