"""The report as the wire has it, each field described for the OpenAPI document.

The answer itself is written from `experiments.analysis.report`; a test holds the two equal field by field.
What may be left out has a default here, what may be null has none.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Value = Annotated[
    float | None,
    Meta(description="In the metric's unit: money in minor units, rates from 0 to 1, ratings out of 100."),
]
Low = Annotated[float | None, Meta(description="Lower end of the interval, in the unit of the value.")]
High = Annotated[float | None, Meta(description="Upper end of the interval, in the unit of the value.")]
Level = Annotated[float, Meta(description="What the interval holds: 0.95.")]
Why = Annotated[str | None, Meta(description="Why it is null: a code such as `insufficient_data`.")]
Method = Annotated[str | None, Meta(description="How it was formed, in a few words.")]
Beats = Annotated[
    float | None,
    Meta(description="P(better than the control), in the metric's good direction; null for the control."),
]
VariantKey = Annotated[str, Meta(description="The key of the variant.")]
MetricKey = Annotated[str, Meta(description="The key of the metric.")]


class _View(msgspec.Struct, frozen=True, kw_only=True):
    pass


class IntervalView(_View, frozen=True, kw_only=True):
    """A figure with its 95 % interval, all null beside a `reason` where it cannot be had."""

    value: Value
    ci_low: Low
    ci_high: High
    reason: Why = None


LiftAbs = Annotated[
    IntervalView,
    Meta(description="Difference from the control, within the candidate sets that hold both variants."),
]
LiftRel = Annotated[
    IntervalView, Meta(description="The same as a share of the control's figure: 0.05 is 5 % more.")
]


class SequentialView(_View, frozen=True, kw_only=True):
    """The absolute lift with an interval that holds at every look at once, however often one looks."""

    value: Value
    ci_low: Low
    ci_high: High
    ci_prob: Level
    method: Annotated[str, Meta(description="Which sequence it is, and whether open windows count.")]
    exact: Annotated[
        bool, Meta(description="Whether it holds for any number of units; else it is asymptotic.")
    ]
    reason: Why = None


class FiguresView(_View, frozen=True, kw_only=True):
    """A metric of a variant by one method; lifts and probabilities are against the control."""

    value: Value
    ci_low: Low
    ci_high: High
    lift_abs: LiftAbs
    lift_rel: LiftRel
    prob_best: Annotated[
        float | None, Meta(description="P(the best of all variants), over the standardised lifts.")
    ]
    prob_beats_control: Beats
    expected_loss: Annotated[
        float | None, Meta(description="What choosing it costs on average, in the metric's unit.")
    ]
    method: Method
    reason: Why = None
    sequential: Annotated[
        SequentialView | None,
        Meta(description="The lift for who looks all the time and stops when it is clear."),
    ] = None


class AdjustedLiftView(_View, frozen=True, kw_only=True):
    """The absolute lift without differences that were known before the units were enrolled."""

    lift_abs: LiftAbs
    variance_saved: Annotated[
        float | None, Meta(description="1 - its variance over the plain lift's: the share of units saved.")
    ]
    prob_beats_control: Beats
    method: Method
    reason: Why = None


class FinalFiguresView(_View, frozen=True, kw_only=True):
    """A metric as it will be once the refunds still to come have come."""

    value: Value
    ci_low: Low
    ci_high: High
    lift_abs: LiftAbs
    lift_rel: LiftRel
    prob_beats_control: Beats
    refunds_seen: Annotated[
        float | None, Meta(description="The share of the variant's refunds that has come by now.")
    ]
    method: Method
    reason: Why = None


class PriorView(_View, frozen=True, kw_only=True):
    """The prior of a metric's figures."""

    kind: Annotated[str, Meta(description="`default`, `flat`, `expert` or `historic`.")]
    parameters: Annotated[
        dict[str, float] | None,
        Meta(description="alpha and beta of a Beta, or mean, kappa, nu and scale of a mean; none when flat."),
    ] = None
    source: Annotated[
        dict[str, str | float] | None,
        Meta(description="Of a historic one: the past experiment, its variant, and the discount."),
    ] = None
    reason: Annotated[str | None, Meta(description="Why the historic one asked for cannot be had.")] = None


class SensitivityView(_View, frozen=True, kw_only=True):
    """The lift and P(best) as they would be with another prior."""

    lift_abs: Annotated[
        IntervalView, Meta(description="The posterior's mean and interval of the absolute lift.")
    ]
    prob_best: Annotated[float | None, Meta(description="P(the best of all variants) with this prior.")]
    lift_rel: Annotated[
        IntervalView | None, Meta(description="With the flat prior only: relative, by the delta method.")
    ] = None


class MetricView(FiguresView, frozen=True, kw_only=True):
    """A metric of a variant: the figures to read, and beside them the same by other methods."""

    ci_prob: Level
    numerator: Annotated[float, Meta(description="The variant's plain sum above the line, never capped.")]
    denominator: Annotated[float, Meta(description="The variant's plain sum below the line.")]
    naive: Annotated[
        FiguresView | None, Meta(description="All units weighed alike; where the figures are stratified.")
    ] = None
    aipw: Annotated[
        FiguresView | None,
        Meta(description="Weighed by the shares units were assigned with; where those follow outcomes."),
    ] = None
    winsorised: Annotated[
        FiguresView | None, Meta(description="With capped unit totals; where a cap changes something.")
    ] = None
    booked: Annotated[FiguresView | None, Meta(description="Before any refund; where one has come.")] = None
    expected_final: Annotated[
        FinalFiguresView | None, Meta(description="After all refunds; while some are still to come.")
    ] = None
    without_crossover: Annotated[
        FiguresView | None, Meta(description="Of the objective: without units seen in two variants.")
    ] = None
    cuped: Annotated[
        AdjustedLiftView | None, Meta(description="Less what the margin of the 30 days before foretells.")
    ] = None
    post_stratified: Annotated[
        AdjustedLiftView | None, Meta(description="Each segment weighed by its share of all units.")
    ] = None
    prior: Annotated[PriorView | None, Meta(description="The prior of the figures.")] = None
    sensitivity: Annotated[
        dict[str, SensitivityView] | None,
        Meta(description="The lift with a `default`, a `flat` and a `sceptical` prior, by its name."),
    ] = None
    prob_in_rope: Annotated[
        float | None,
        Meta(description="P(the relative lift lies within the verdict's `rope`): it would not matter."),
    ] = None


class VerdictView(_View, frozen=True, kw_only=True):
    """What the figures say of one variant."""

    variant: Annotated[str | None, Meta(description="The variant it is about.")]
    kind: Annotated[
        str,
        Meta(
            description="`toxic`, `harmful`, `healthy`, `no_difference`, `promising` or `insufficient_data`."
        ),
    ]
    reason: Annotated[str, Meta(description="What decided it, as a code.")]
    sentence: Annotated[str, Meta(description="The verdict in English, with the money in it.")]
    sentences: Annotated[dict[str, str], Meta(description="The same by language: `en`, `it`, `ro`.")]


class ReportVariant(_View, frozen=True, kw_only=True):
    """A variant of a report."""

    key: VariantKey
    is_control: Annotated[bool, Meta(description="Whether all others are compared with it.")]
    share: Annotated[
        float | None, Meta(description="Its share of new units now, in the candidate set most units see.")
    ]
    assigned: Annotated[int, Meta(description="Units assigned to it, of the cohorts asked for.")]
    exposed: Annotated[int, Meta(description="Of these, units that saw the slot.")]
    units: Annotated[int, Meta(description="Of these, units with an anchor: those that figures are about.")]
    metrics: Annotated[dict[str, MetricView], Meta(description="Its figures by metric.")]
    verdict: Annotated[VerdictView | None, Meta(description="Its own verdict; none of the control.")] = None


class MarginsView(_View, frozen=True, kw_only=True):
    """A guardrail's three margins, or the probabilities of being beyond them."""

    warn: Annotated[float, Meta(description="Of `warn`: shown.")]
    throttle: Annotated[float, Meta(description="Of `throttle`: held at the floor.")]
    kill: Annotated[float, Meta(description="Of `kill`: taken off.")]


class DensityView(_View, frozen=True, kw_only=True):
    """A posterior density on a grid."""

    x: Annotated[list[float], Meta(description="Changes against the control.")]
    y: Annotated[list[float], Meta(description="The density at each.")]


class ReportGuardrail(_View, frozen=True, kw_only=True):
    """A guardrail of a treatment."""

    metric: MetricKey
    variant: VariantKey
    state: Annotated[str, Meta(description="`ok`, `warn`, `throttle`, `kill` or `unknown`, as it acts now.")]
    prob_breach: Annotated[
        MarginsView | None, Meta(description="P(worse than the control by more than each margin).")
    ]
    margins: Annotated[MarginsView, Meta(description="The document's margins.")]
    absolute: Annotated[
        bool, Meta(description="Whether margins and lift are absolute; else relative to the control.")
    ]
    lift: Annotated[IntervalView, Meta(description="The change that the margins are about.")]
    density: Annotated[DensityView | None, Meta(description="The posterior of that change.")]
    units_variant: Annotated[float, Meta(description="Matured units of the variant.")]
    units_control: Annotated[float, Meta(description="Matured units of the control.")]
    reason: Why = None


class ReportCheck(_View, frozen=True, kw_only=True):
    """Something about the trustworthiness of the data."""

    name: Annotated[str, Meta(description="Which check it is; docs/metrics.md lists them.")]
    state: Annotated[str, Meta(description="`ok`, `info`, `warn`, or `reached` of a stop rule.")]
    detail: Annotated[str, Meta(description="The finding, in a sentence.")]
    remedy: Annotated[str | None, Meta(description="What to do about it; null when there is nothing to do.")]


class DayCountView(_View, frozen=True, kw_only=True):
    """Enrolments of a variant on a day."""

    day: Annotated[str, Meta(description="The day, in the store's time zone when the experiment started.")]
    variant: VariantKey
    assigned: Annotated[int, Meta(description="Units assigned that day.")]
    units: Annotated[int, Meta(description="Of these, units with an anchor.")]


class ValueRemainingView(_View, frozen=True, kw_only=True):
    """What another variant may bring more than the leader: the 95th percentile."""

    leader: Annotated[str, Meta(description="The variant with the highest P(best).")]
    per_unit: Annotated[float, Meta(description="Per unit, in the objective's unit.")]
    units_per_week: Annotated[float, Meta(description="Units enrolled in the last seven days.")]
    per_week: Annotated[float, Meta(description="`per_unit` times `units_per_week`.")]


class ReportView(_View, frozen=True, kw_only=True):
    """The analysis of an experiment at one instant."""

    experiment: Annotated[str, Meta(description="The key of the experiment.")]
    state: Annotated[str, Meta(description="Where the experiment is in its life.")]
    currency: Annotated[str, Meta(description="ISO 4217; money is in its minor units.")]
    generated_at: Annotated[str, Meta(description="When it was read.")]
    folded_through: Annotated[str, Meta(description="Every event recorded until then is in it.")]
    policy_version: Annotated[int | None, Meta(description="The policy version that serves now.")]
    unit: Annotated[str, Meta(description="`visitor`, `customer`, `session` or `request`.")]
    anchor: Annotated[str, Meta(description="From when a unit counts: `assignment` or `exposure`.")]
    window: Annotated[str, Meta(description="The attribution window, such as `7d`.")]
    matured: Annotated[bool, Meta(description="Whether only units whose windows have closed count.")]
    from_: Annotated[str | None, Meta(description="First enrolment day asked for.")] = msgspec.field(
        name="from"
    )
    to: Annotated[str | None, Meta(description="Last enrolment day asked for.")]
    segment: Annotated[str | None, Meta(description="The segment asked for.")]
    segments: Annotated[list[str], Meta(description="All segments that have units.")]
    objective: Annotated[str, Meta(description="The metric that decides.")]
    units_assigned: Annotated[int, Meta(description="Units assigned, all variants.")]
    units_exposed: Annotated[int, Meta(description="Of these, units that saw the slot.")]
    variants: Annotated[list[ReportVariant], Meta(description="Every variant, in the document's order.")]
    guardrails: Annotated[list[ReportGuardrail], Meta(description="Every guardrail of every treatment.")]
    checks: Annotated[list[ReportCheck], Meta(description="What to know before trusting the figures.")]
    days: Annotated[list[DayCountView], Meta(description="Enrolments by day and variant.")]
    verdict: Annotated[VerdictView, Meta(description="That of the treatment most probably best.")]
    value_remaining: Annotated[
        ValueRemainingView | None, Meta(description="What is still to be won; null while nothing compares.")
    ]
