"""The built-in metrics' keys (the wire's names), which way each is good and how it is formed."""

from types import MappingProxyType

from experiments.model import Direction, MetricKind

_UP, _DOWN = Direction.UP, Direction.DOWN

METRIC_DIRECTIONS = MappingProxyType(
    {
        "aov": _UP,
        "aov_net": _UP,
        "take_rate": _UP,
        "click_through_rate": _UP,
        "orders_per_unit": _UP,
        "revenue_per_unit": _UP,
        "margin_per_unit": _UP,
        "margin_rate": _UP,
        "conversion_rate": _UP,
        "cart_abandonment_rate": _DOWN,
        "refund_rate": _DOWN,
        "refund_value_rate": _DOWN,
        "cancel_rate": _DOWN,
        "rating_mean": _UP,
        "repeat_rate": _UP,
        "ltv_30d": _UP,
        "ltv_90d": _UP,
        "ltv_180d": _UP,
    }
)
"""Metric key -> the way that is good for the shop."""

METRIC_KEYS = tuple(METRIC_DIRECTIONS)
"""Every built-in metric key, in the order of the report."""

OFFER_ONLY_METRICS = frozenset({"take_rate", "click_through_rate"})
"""Metrics that a variant without an offer cannot have."""

_PROPORTIONS = OFFER_ONLY_METRICS | {"conversion_rate", "repeat_rate"}
_MEANS = frozenset(
    {"orders_per_unit", "revenue_per_unit", "margin_per_unit", "ltv_30d", "ltv_90d", "ltv_180d"}
)
_READ_AS = MappingProxyType({MetricKind.COUNT: MetricKind.MEAN, MetricKind.NPS: MetricKind.RATIO})


def metric_kind(key: str) -> MetricKind:
    """How a built-in metric is formed; KeyError when there is none of that key.

    >>> metric_kind("conversion_rate").value, metric_kind("aov").value
    ('proportion', 'ratio')
    """
    if key not in METRIC_DIRECTIONS:
        raise KeyError(key)
    if key in _PROPORTIONS:
        return MetricKind.PROPORTION
    return MetricKind.MEAN if key in _MEANS else MetricKind.RATIO


def read_as(kind: MetricKind) -> MetricKind:
    """Which of proportion, mean and ratio a custom metric's posterior is formed as.

    A count is a mean of whole numbers: its Student-t holds however unevenly events fall on units, where a
    Poisson law would be too sure. An NPS is a ratio of two unit totals that vary together.

    >>> read_as(MetricKind.COUNT).value, read_as(MetricKind.PROPORTION).value
    ('mean', 'proportion')
    """
    return _READ_AS.get(kind, kind)
