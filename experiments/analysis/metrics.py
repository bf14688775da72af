"""What each metric is made of: numerator and denominator as integer combinations of unit features.

value = scale * (sum of the numerator) / (sum of the denominator), over units. The kind says how the
posterior is formed: a proportion is a 0/1 numerator among 0/1 denominators, a mean divides by units,
a ratio divides two unit totals that vary together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType

from experiments.metric_keys import (
    METRIC_DIRECTIONS,
    METRIC_KEYS,
    OFFER_ONLY_METRICS,
    metric_kind,
    read_as,
)
from experiments.model import CustomMetric, Direction, Experiment, MetricKind, OfferKind, Prior
from experiments.statistics import FIXED_POINT, custom_features

Terms = Mapping[str, int]
"""An integer linear combination: feature -> coefficient."""

RATING_SCALE = 100.0 / FIXED_POINT


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric of one experiment, ready to be read from moments.

    `capped` is the winsorised numerator where there is one. `horizon` is how long after a unit's
    anchor its total is complete. `absolute` says that a change is measured by difference, because
    the metric can be 0 or negative or has no natural zero. `is_share` marks a ratio of two counts of
    which the numerator is part of the denominator, `is_nps` a score from -100 to 100. `unknown_cost` and
    `unconverted` name the features that count the orders of the metric whose margin or money cannot be
    told: with one there is no figure. `is_prior_in_strata` lets the prior count in figures stratified by
    epoch too, which the default prior does not.
    """

    key: str
    kind: MetricKind
    numerator: Terms
    denominator: Terms
    direction: Direction
    horizon: timedelta
    scale: float = 1.0
    capped: Terms | None = None
    prior: Prior | None = None
    absolute: bool = False
    is_share: bool = False
    unknown_cost: str | None = None
    unconverted: str | None = None
    needs_offer: bool = False
    is_nps: bool = False
    is_prior_in_strata: bool = False

    @property
    def winsorised(self) -> "MetricDefinition":
        """The same metric on capped unit totals; itself where nothing is capped."""
        if self.capped is None:
            return self
        return replace(self, numerator=self.capped, capped=None)

    @property
    def support(self) -> tuple[float, float]:
        """Between which values the metric can lie at all, in its own unit."""
        if self.kind is MetricKind.PROPORTION or self.is_share or self.key == "refund_value_rate":
            return 0.0, 1.0
        if self.is_nps:
            return -100.0, 100.0
        return (0.0, 100.0) if self.key == "rating_mean" else (-math.inf, math.inf)

    @property
    def sign(self) -> int:
        """+1 when higher is better, -1 when lower is."""
        return 1 if self.direction is Direction.UP else -1


def metric_definitions(experiment: Experiment) -> dict[str, MetricDefinition]:
    """Every metric of the experiment's report, built-in ones first, in the order of the wire."""
    built_in = {key: _built_in(key, experiment) for key in METRIC_KEYS}
    return built_in | {metric.key: _custom(metric, experiment) for metric in experiment.metrics}


def lacks_offer(experiment: Experiment, definition: MetricDefinition, variant: str) -> bool:
    """Whether the variant cannot have this metric because it offers nothing to take or click."""
    return definition.needs_offer and experiment.variant(variant).offer.kind is OfferKind.NONE


_UNITS: Terms = MappingProxyType({"units": 1})
_ORDERS: Terms = MappingProxyType({"orders": 1})
_NET: Terms = MappingProxyType({"revenue": 1, "refunded_value": -1})

_PARTS: Mapping[str, tuple[Terms, Terms]] = MappingProxyType(
    {
        "aov": ({"revenue": 1}, _ORDERS),
        "aov_net": (_NET, _ORDERS),
        "take_rate": ({"took": 1}, {"exposed": 1}),
        "click_through_rate": ({"clicked": 1}, {"exposed": 1}),
        "orders_per_unit": ({"orders": 1}, _UNITS),
        "revenue_per_unit": (_NET, _UNITS),
        "margin_per_unit": ({"margin": 1}, _UNITS),
        "margin_rate": ({"margin": 1}, _NET),
        "conversion_rate": ({"converted": 1}, _UNITS),
        "cart_abandonment_rate": ({"abandoned": 1}, {"carts": 1}),
        "refund_rate": ({"refunded_orders": 1}, _ORDERS),
        "refund_value_rate": ({"refunded_value": 1}, {"revenue": 1}),
        "cancel_rate": ({"cancelled_orders": 1}, _ORDERS),
        "rating_mean": ({"rating_sum": 1}, {"ratings": 1}),
        "repeat_rate": ({"repeat_90d": 1}, {"buyer_90d": 1}),
        "ltv_30d": ({"ltv_30d": 1}, _UNITS),
        "ltv_90d": ({"ltv_90d": 1}, _UNITS),
        "ltv_180d": ({"ltv_180d": 1}, _UNITS),
    }
)

_CAPPED: Mapping[str, Terms] = MappingProxyType(
    {
        "aov": {"revenue_capped": 1},
        "aov_net": {"net_revenue_capped": 1},
        "revenue_per_unit": {"net_revenue_capped": 1},
        "margin_per_unit": {"margin_capped": 1},
        "margin_rate": {"margin_capped": 1},
        "refund_value_rate": {"refunded_value_capped": 1},
    }
)

_HORIZON_DAYS: Mapping[str, int] = MappingProxyType(
    {"repeat_rate": 90, "ltv_30d": 30, "ltv_90d": 90, "ltv_180d": 180}
)
_SHARES = frozenset({"cart_abandonment_rate", "refund_rate", "cancel_rate"})
_COST = frozenset({"margin_per_unit", "margin_rate", "ltv_30d", "ltv_90d", "ltv_180d"})
_MONEY = _COST | {"aov", "aov_net", "revenue_per_unit", "refund_value_rate"}
_ABSOLUTE = _COST | {"rating_mean"}


def _built_in(key: str, experiment: Experiment) -> MetricDefinition:
    numerator, denominator = _PARTS[key]
    days = _HORIZON_DAYS.get(key)
    return MetricDefinition(
        key=key,
        kind=metric_kind(key),
        numerator=numerator,
        denominator=denominator,
        direction=METRIC_DIRECTIONS[key],
        horizon=experiment.attribution_window if days is None else timedelta(days=days),
        scale=RATING_SCALE if key == "rating_mean" else 1.0,
        capped=_CAPPED.get(key),
        prior=experiment.policy.prior if key == experiment.policy.objective else None,
        absolute=key in _ABSOLUTE,
        is_share=key in _SHARES,
        unknown_cost=_untold(key, "unknown_cost") if key in _COST else None,
        unconverted=_untold(key, "unconverted") if key in _MONEY else None,
        needs_offer=key in OFFER_ONLY_METRICS,
    )


def _untold(key: str, fault: str) -> str:
    """The feature that counts orders with that fault: those of the window, or of the metric's own horizon."""
    return f"{key}_{fault}" if key in _HORIZON_DAYS else f"{fault}_orders"


def _custom(metric: CustomMetric, experiment: Experiment) -> MetricDefinition:
    had, count, total = custom_features(metric.key)
    is_objective = metric.key == experiment.policy.objective
    parts: dict[MetricKind, tuple[Terms, Terms, float]] = {
        MetricKind.PROPORTION: ({had: 1}, _UNITS, 1.0),
        MetricKind.MEAN: ({total: 1}, _UNITS, 1.0 / FIXED_POINT),
        MetricKind.RATIO: ({total: 1}, {count: 1}, 1.0 / FIXED_POINT),
        MetricKind.COUNT: ({count: 1}, _UNITS, 1.0),
        MetricKind.NPS: ({total: 1}, {count: 1}, 100.0),
    }
    numerator, denominator, scale = parts[metric.kind]
    return MetricDefinition(
        key=metric.key,
        kind=read_as(metric.kind),
        numerator=numerator,
        denominator=denominator,
        direction=metric.direction,
        horizon=metric.window or experiment.attribution_window,
        scale=scale,
        prior=metric.prior or (experiment.policy.prior if is_objective else None),
        absolute=metric.kind not in (MetricKind.PROPORTION, MetricKind.COUNT),
        is_nps=metric.kind is MetricKind.NPS,
    )
