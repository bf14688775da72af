"""The domain types: an experiment, its variants and what they offer. Values only, frozen.

A document (what people write, `document.py`) becomes an `Experiment`; everything downstream reads
these types and never the document. Money is integer minor units, windows are `timedelta`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class OfferKind(StrEnum):
    """What an offer is to the shopper; `none` is the absence of an offer."""

    UPSELL = "upsell"
    CROSS_SELL = "cross_sell"
    DOWNSELL = "downsell"
    BUNDLE = "bundle"
    NONE = "none"


class UnitKind(StrEnum):
    """Who is randomised."""

    VISITOR = "visitor"
    CUSTOMER = "customer"
    SESSION = "session"
    REQUEST = "request"


class Anchor(StrEnum):
    """The instant from which a unit's windows run."""

    ASSIGNMENT = "assignment"
    EXPOSURE = "exposure"


class PolicyKind(StrEnum):
    """How shares are set."""

    FIXED = "fixed"
    THOMPSON = "thompson"
    TOP_TWO = "top_two"
    SEGMENT = "segment"
    CONTEXTUAL = "contextual"


class FeatureKind(StrEnum):
    """How a field of the context becomes numbers."""

    NUMBER = "number"
    CATEGORY = "category"


class BreakerAction(StrEnum):
    """What follows when a circuit breaker trips."""

    HOLD = "hold"
    PAUSE = "pause"


class StopAction(StrEnum):
    """What follows when a stop rule is reached."""

    RECOMMEND = "recommend"
    PROMOTE = "promote"


class DelayHandling(StrEnum):
    """Which units the allocator learns from: those whose window is over, or all, corrected for their age."""

    MATURED = "matured"
    MODEL = "model"


class Discounting(StrEnum):
    """From when on old cohorts count less: from the start, or once the drift alarm has been raised."""

    ALWAYS = "always"
    AFTER_DRIFT = "after_drift"


class TotalsModel(StrEnum):
    """The law of money totals per unit: their mean's Student-t, or zeros, signs and sizes apart."""

    STUDENT_T = "student_t"
    HURDLE = "hurdle"


class MetricKind(StrEnum):
    """How a metric is formed from unit totals."""

    PROPORTION = "proportion"
    MEAN = "mean"
    RATIO = "ratio"
    COUNT = "count"
    NPS = "nps"


class Direction(StrEnum):
    """Which way a metric is good."""

    UP = "up"
    DOWN = "down"


class Lifecycle(StrEnum):
    """draft -> running <-> paused -> stopped -> archived."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    ARCHIVED = "archived"


class VariantState(StrEnum):
    """Whether a variant may still be shown; killed is what a guardrail does, retired a person."""

    ACTIVE = "active"
    RETIRED = "retired"
    KILLED = "killed"


class ConditionOp(StrEnum):
    """How a condition compares a field of the request with its value."""

    EQ = "eq"
    NE = "ne"
    IN = "in"
    NOT_IN = "not_in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field of the request; a tuple of them holds when all hold."""

    field: str
    op: ConditionOp
    value: Any


@dataclass(frozen=True, slots=True)
class Offer:
    """What a variant shows. `cost_minor` never leaves for a browser."""

    kind: OfferKind
    sku: str | None = None
    price_minor: int | None = None
    cost_minor: int | None = None
    headline: str | None = None
    benefit: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    category: str | None = None  # of the goods: offers of one category are sent back after like delays


NO_OFFER = Offer(kind=OfferKind.NONE)


@dataclass(frozen=True, slots=True)
class Variant:
    """An alternative; its place in `Experiment.variants` is its arm index and never changes."""

    key: str
    offer: Offer
    is_control: bool = False


@dataclass(frozen=True, slots=True)
class Prior:
    """A prior in place of the default: Beta(alpha, beta), or Normal-inverse-gamma.

    For a proportion give `alpha` and `beta`; for a mean `mean`, `kappa`, `nu`, `scale` (a variance,
    in the metric's unit squared).
    """

    alpha: float | None = None
    beta: float | None = None
    mean: float | None = None
    kappa: float | None = None
    nu: float | None = None
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class CustomMetric:
    """A metric over `custom` events of one name.

    `proportion` = units with the event / units, `mean` = sum of value per unit,
    `ratio` = sum of value / number of events, `count` = number of events per unit. `nps` is over ratings
    instead: 100 x (promoters - detractors) / ratings.
    """

    key: str
    kind: MetricKind
    event: str
    window: timedelta | None = None
    direction: Direction = Direction.UP
    prior: Prior | None = None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """Margins by which a metric may be worse than control: relative, or absolute for ratings."""

    metric: str
    warn: float
    throttle: float
    kill: float


@dataclass(frozen=True, slots=True)
class Feature:
    """A field of the context that a contextual policy learns from, frozen at a unit's enrolment.

    A number counts as (value - center) / scale; of a category the values are told apart, all others are one.
    """

    name: str
    kind: FeatureKind
    center: float = 0.0
    scale: float = 1.0
    values: tuple[str | int | float | bool, ...] = ()


@dataclass(frozen=True, slots=True)
class WarmSource:
    """The variant of an experiment whose results another begins with; a unit of it counts `discount`."""

    experiment: str
    variant: str
    discount: float = 1.0


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What the allocator knows before the first unit (`allocation/warm_start.py`).

    `shares` are an expert's P(best), worth `units` of each variant, `rate` the control's expected rate where
    the objective is a proportion; `variants` begin with what another experiment found.
    """

    shares: Mapping[str, float] | None = None
    units: float | None = None
    rate: float | None = None
    variants: Mapping[str, WarmSource] = field(default_factory=dict[str, WarmSource])


@dataclass(frozen=True, slots=True)
class Ramp:
    """Caps on a new variant's share, one step after the other (`allocation/ramps.py`)."""

    steps: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5)
    every: timedelta = timedelta(days=1)
    units: int = 500
    from_start: bool = False


@dataclass(frozen=True, slots=True)
class Breakers:
    """Limits beyond which the data is not trusted (`allocation/breakers.py`); None is no such breaker."""

    outcomes_below: float | None = 0.1
    exposure_gap: float | None = 0.2
    fallback_above: float | None = 0.2
    action: BreakerAction = BreakerAction.HOLD


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """How shares follow posteriors (statistics: shares of K variants, floor, control share)."""

    kind: PolicyKind = PolicyKind.FIXED
    objective: str = "margin_per_unit"
    control_share: float = 0.10
    floor: float = 0.02
    cadence: timedelta = timedelta(seconds=60)
    burn_in: int = 200
    discount_half_life: timedelta | None = None
    discount: Discounting = Discounting.ALWAYS
    shares: Mapping[str, float] | None = None
    prior: Prior | None = None
    warm_start: WarmStart | None = None
    ramp: Ramp | None = None
    breakers: Breakers = Breakers()
    delay: DelayHandling = DelayHandling.MATURED
    model: TotalsModel = TotalsModel.STUDENT_T
    features: tuple[Feature, ...] = ()
    draws: int = 1000


@dataclass(frozen=True, slots=True)
class Winsorise:
    """Quantiles of the non-zero unit totals beyond which a total is capped."""

    lower: float = 0.001
    upper: float = 0.999


@dataclass(frozen=True, slots=True)
class StopRule:
    """When there is nothing more to learn (`allocation/stopping.py`), and what then follows."""

    value_remaining_below: int | None = None
    loss_below: float | None = None
    prob_best_above: float | None = None
    futility_below: float | None = None
    rope: float = 0.01
    at: datetime | None = None
    action: StopAction = StopAction.RECOMMEND


@dataclass(frozen=True, slots=True)
class VerdictSettings:
    """Thresholds of the verdict (`analysis/verdict.py`), probabilities but `rope`, a relative change.

    `tail` is shared by the treatments: with K variants a lift is sure at 1 - tail / (K - 1).
    """

    tail: float = 0.025
    breach: float = 0.95
    held: float = 0.95
    rope: float = 0.01
    equivalent: float = 0.95
    promising: float = 0.90


@dataclass(frozen=True, slots=True)
class Experiment:
    """A validated experiment: everything a decision, a fold or a report needs to know of it."""

    key: str
    touchpoint: str
    currency: str
    variants: tuple[Variant, ...]
    name: str = ""
    hypothesis: str = ""
    unit: UnitKind = UnitKind.VISITOR
    anchor: Anchor = Anchor.ASSIGNMENT
    attribution_window: timedelta = timedelta(days=7)
    refund_window: timedelta = timedelta(days=30)
    reassign_after: timedelta | None = None
    audience: tuple[Condition, ...] = ()
    policy: PolicySettings = PolicySettings()
    guardrails: tuple[Guardrail, ...] = ()
    metrics: tuple[CustomMetric, ...] = ()
    winsorise: Winsorise | None = Winsorise()
    priority: int = 0
    layer: str | None = None
    stop_rule: StopRule = StopRule()
    salt: str = ""
    verdict: VerdictSettings = VerdictSettings()
    priors: Mapping[str, Prior | WarmSource] = field(default_factory=dict[str, Prior | WarmSource])

    @property
    def control(self) -> Variant:
        """The one control variant."""
        return next(variant for variant in self.variants if variant.is_control)

    def variant(self, key: str) -> Variant:
        """The variant of that key; KeyError when there is none."""
        for variant in self.variants:
            if variant.key == key:
                return variant
        raise KeyError(key)
