"""The report's types: what the wire promises, as frozen values, and their JSON form.

Values are in wire units: money in minor units, rates in [0, 1], ratings out of 100. A value that
cannot be had is None beside a `reason`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from typing import Any

CI_PROB = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A point with its credible interval."""

    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Sequential:
    """The absolute lift with an interval that holds at every look at once, however often somebody looks.

    `exact` says that it holds for any number of units; otherwise it is asymptotic, or counts units whose
    windows are still open, as `method` tells.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    method: str
    exact: bool
    ci_prob: float = CI_PROB
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """A metric of a variant by one method; lifts and probabilities are against control.

    `sequential` stands beside the lift of a treatment that can be compared.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    lift_abs: Interval
    lift_rel: Interval
    prob_best: float | None
    prob_beats_control: float | None
    expected_loss: float | None
    method: str | None
    reason: str | None = None
    sequential: Sequential | None = None


@dataclass(frozen=True, slots=True)
class AdjustedLift:
    """The absolute lift by an estimator that takes out differences known before the units were enrolled.

    `variance_saved` is 1 - the adjusted lift's variance over the plain one's: the share of units saved.
    """

    lift_abs: Interval
    variance_saved: float | None
    prob_beats_control: float | None
    method: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FinalFigures:
    """A metric as it will be once the refunds that are still to come have come, with its uncertainty.

    `refunds_seen` is the share of the variant's refunds that has come by now, in the metric's own measure.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    lift_abs: Interval
    lift_rel: Interval
    prob_beats_control: float | None
    refunds_seen: float | None
    method: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PriorReport:
    """The prior of a metric's figures: default, flat, expert (of the document) or historic (of `source`).

    `reason` says why the historic one that was asked for cannot be had.
    """

    kind: str
    parameters: Mapping[str, float] | None = None
    source: Mapping[str, str | float] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The lift and P(best) as they would be with another prior; the value is the posterior's mean.

    `lift_rel` stands with the flat prior only, by the delta method: what a Normal read-out reports.
    """

    lift_abs: Interval
    prob_best: float | None
    lift_rel: Interval | None = None


@dataclass(frozen=True, slots=True)
class MetricReport:
    """A metric of a variant: the figures to read, and beside them the naive and the winsorised ones.

    `booked` is money before any refund, `expected_final` after all of them, while some are still to come;
    `without_crossover` leaves out the units seen in two variants, for the objective. `numerator` and
    `denominator` are the variant's own plain sums. `naive` and `aipw` stand only where the figures are
    stratified by epoch, `winsorised` only where a cap changes something. `sensitivity` is the lift with the
    default, a flat and a sceptical prior, `prob_in_rope` the chance that the relative lift does not matter.
    """

    figures: Figures
    numerator: float
    denominator: float
    naive: Figures | None = None
    aipw: Figures | None = None
    winsorised: Figures | None = None
    booked: Figures | None = None
    expected_final: FinalFigures | None = None
    without_crossover: Figures | None = None
    cuped: AdjustedLift | None = None
    post_stratified: AdjustedLift | None = None
    prior: PriorReport | None = None
    sensitivity: Mapping[str, Sensitivity] | None = None
    prob_in_rope: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the figures say of one variant, in one word, one code and one sentence.

    `sentences` are the same in English, Italian and Romanian; `sentence` is the English one.
    """

    variant: str | None
    kind: str
    reason: str
    sentence: str
    sentences: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One variant: how many units, its share, every metric."""

    key: str
    is_control: bool
    share: float | None
    assigned: int
    exposed: int
    units: int
    metrics: Mapping[str, MetricReport]
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Margins:
    """Three margins, or the three probabilities of being beyond them."""

    warn: float
    throttle: float
    kill: float


@dataclass(frozen=True, slots=True)
class Density:
    """A posterior density on a grid."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GuardrailReport:
    """One guardrail of one treatment; the lift is relative, or absolute for metrics without a zero."""

    metric: str
    variant: str
    state: str
    prob_breach: Margins | None
    margins: Margins
    absolute: bool
    lift: Interval
    density: Density | None
    units_variant: float
    units_control: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Something about the data's trustworthiness: ok, info, warn, or reached for a stop rule.

    `remedy` is what to do about it, in a sentence; None where there is nothing to do.
    """

    name: str
    state: str
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class DayCount:
    """Enrolments of one day."""

    day: date
    variant: str
    assigned: int
    units: int


@dataclass(frozen=True, slots=True)
class ValueRemaining:
    """95th percentile of what another arm may hold over the leader."""

    leader: str
    per_unit: float
    units_per_week: float
    per_week: float


@dataclass(frozen=True, slots=True)
class Report:
    """The analysis of one experiment at one instant."""

    experiment: str
    currency: str
    generated_at: datetime
    unit: str
    anchor: str
    window_seconds: float
    matured: bool
    from_day: date | None
    to_day: date | None
    segment: str | None
    objective: str
    units_assigned: int
    units_exposed: int
    variants: tuple[VariantReport, ...]
    guardrails: tuple[GuardrailReport, ...]
    checks: tuple[Check, ...]
    days: tuple[DayCount, ...]
    verdict: Verdict
    value_remaining: ValueRemaining | None

    def variant(self, key: str) -> VariantReport:
        """The report of one variant; KeyError when there is none."""
        for variant in self.variants:
            if variant.key == key:
                return variant
        raise KeyError(key)


_OPTIONAL = frozenset(
    {"reason", "naive", "winsorised", "verdict", "sequential", "parameters", "source", "lift_rel"}
)
"""Left out of the JSON when there is nothing to say; every other None is a null."""


def to_wire(report: Report) -> dict[str, Any]:
    """The report as JSON values, by the wire's names; the service adds what only the ledger knows."""
    document: dict[str, Any] = _plain(report)
    document["from"] = document.pop("from_day")
    document["to"] = document.pop("to_day")
    seconds = document.pop("window_seconds")
    document["window"] = f"{seconds:.0f}s" if seconds % 3600 else _hours(int(seconds // 3600))
    return document


def _hours(hours: int) -> str:
    return f"{hours}h" if hours % 24 else f"{hours // 24}d"


def _plain(value: Any) -> Any:
    if isinstance(value, MetricReport):
        head = _plain(value.figures)
        rest = {field.name: getattr(value, field.name) for field in fields(value) if field.name != "figures"}
        return head | {"ci_prob": CI_PROB} | {k: _plain(v) for k, v in rest.items() if v is not None}
    if is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: _plain(v) for name, v in items if not (v is None and name in _OPTIONAL)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
