"""The verdict: what the figures say of a treatment, in one word and one sentence.

In this order: `toxic` (order value up, a guardrail broken), `harmful` (the objective down, or a
guardrail broken), `healthy` (the objective up, every guardrail held), `no_difference` (the lift surely
smaller than matters), `promising` (probably up, nothing broken), else `insufficient_data`.
"Up" allows for the number of variants looked at: P(lift > 0) >= 1 - 0.025 / (K - 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, Reason
from experiments.analysis.report import CI_PROB, GuardrailReport, Verdict
from experiments.analysis.wording import change_in_words, metric_in_words
from experiments.model import Experiment
from experiments.posteriors.compare import difference, ratio_minus_one


class VerdictKind(StrEnum):
    """The six verdicts."""

    TOXIC = "toxic"
    HARMFUL = "harmful"
    HEALTHY = "healthy"
    NO_DIFFERENCE = "no_difference"
    PROMISING = "promising"
    INSUFFICIENT = "insufficient_data"


@dataclass(frozen=True, slots=True)
class VerdictSettings:
    """Thresholds of the verdict; `rope` is the relative change that does not matter."""

    tail: float = 0.025
    breach: float = 0.95
    held: float = 0.95
    rope: float = 0.01
    equivalent: float = 0.95
    promising: float = 0.90


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
    is_broken = any(p is not None and p >= settings.breach for p in facts.prob_broken)
    is_held = all(p is not None and 1.0 - p >= settings.held for p in facts.prob_broken)
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
        return VerdictKind.PROMISING, "objective_probably_up"
    return VerdictKind.INSUFFICIENT, "not_yet_clear"


def verdict_of(
    experiment: Experiment,
    variant: str,
    objective: Reading,
    aov: Reading,
    guardrails: Sequence[GuardrailReport],
    settings: VerdictSettings,
) -> Verdict:
    """The verdict of one treatment."""
    pair = objective.pairs[variant]
    own = [report for report in guardrails if report.variant == variant]
    facts = Facts(
        prob_up=objective.prob_beats(variant),
        prob_aov_up=aov.prob_beats(variant),
        prob_within_rope=_prob_within(pair, settings.rope) if isinstance(pair, Pair) else None,
        prob_broken=tuple(report.prob_breach.throttle if report.prob_breach else None for report in own),
        treatments=len(experiment.variants) - 1,
    )
    kind, code = judge(facts, settings)
    if code == "no_comparison" and isinstance(pair, Reason):
        code = pair.value
    broken = [
        report.metric
        for report in own
        if report.prob_breach is not None and report.prob_breach.throttle >= settings.breach
    ]
    sentence = _sentence(experiment, variant, objective, kind, broken)
    return Verdict(variant, kind.value, code, sentence)


def leading_treatment(experiment: Experiment, objective: Reading) -> str:
    """The treatment with the highest P(best); the first one while there is no ranking.

    Control is what the others are judged against, so it is not judged itself.
    """
    treatments = [variant.key for variant in experiment.variants if not variant.is_control]
    best: Mapping[str, float] = objective.ranking.prob_best if objective.ranking else {}
    return max(treatments, key=lambda key: best.get(key, -1.0))


def _prob_within(pair: Pair, rope: float) -> float | None:
    change = ratio_minus_one(pair.treatment_posterior, pair.control_posterior)
    if change is None:
        return None
    return float(change.cdf(rope)) - float(change.cdf(-rope))


def _sentence(
    experiment: Experiment, variant: str, objective: Reading, kind: VerdictKind, broken: Sequence[str]
) -> str:
    definition = objective.definition
    metric = metric_in_words(definition.key, experiment.unit)
    change = _change(experiment, definition, objective.pairs[variant])
    guards = " and ".join(metric_in_words(key, experiment.unit) for key in broken)
    control = experiment.control.key
    match kind:
        case VerdictKind.TOXIC:
            return (
                f"{variant} raises order value but is worse than {control} on {guards} by more than its "
                f"guardrail allows; {metric}: {change}."
            )
        case VerdictKind.HARMFUL if broken:
            return f"{variant} breaks its guardrail on {guards} against {control}; {metric}: {change}."
        case VerdictKind.HARMFUL:
            return f"{variant} does harm: {metric} against {control} changes by {change}."
        case VerdictKind.HEALTHY:
            return (
                f"{variant} pays: {metric} against {control} changes by {change}, and every guardrail holds."
            )
        case VerdictKind.NO_DIFFERENCE:
            return f"{variant} makes no difference that matters: {metric} against {control}: {change}."
        case VerdictKind.PROMISING:
            return f"{variant} looks promising but is not proven: {metric} against {control}: {change}."
        case VerdictKind.INSUFFICIENT:  # pragma: no branch (pyright holds the match to be exhaustive)
            return f"There is not enough evidence yet on {variant}: {metric} against {control}: {change}."


def _change(experiment: Experiment, definition: MetricDefinition, pair: Pair | Reason) -> str:
    if not isinstance(pair, Pair):
        return f"not available ({pair.value.replace('_', ' ')})"
    low, high = difference(pair.treatment_posterior, pair.control_posterior).interval(CI_PROB)
    return change_in_words(definition, experiment.currency, pair.lift_abs, float(low), float(high))
