"""Figures and metric names in plain English, for the verdict's sentence."""

from experiments.analysis.metrics import MetricDefinition
from experiments.model import MetricKind, UnitKind
from experiments.money import exponent

_WORDS = {
    "aov": "average order value",
    "aov_net": "average order value after refunds",
    "take_rate": "take rate",
    "click_through_rate": "click-through rate",
    "revenue_per_unit": "revenue per {unit}",
    "margin_per_unit": "margin per {unit}",
    "conversion_rate": "conversion rate",
    "cart_abandonment_rate": "cart abandonment",
    "refund_rate": "refund rate",
    "refund_value_rate": "share of value refunded",
    "cancel_rate": "cancellation rate",
    "rating_mean": "rating",
    "repeat_rate": "repeat rate",
    "ltv_30d": "30-day margin per {unit}",
    "ltv_90d": "90-day margin per {unit}",
    "ltv_180d": "180-day margin per {unit}",
}

_MONEY = frozenset(
    {"aov", "aov_net", "revenue_per_unit", "margin_per_unit", "ltv_30d", "ltv_90d", "ltv_180d"}
)


def metric_in_words(key: str, unit: UnitKind) -> str:
    """A metric's name as a person says it; a custom metric keeps its own.

    >>> metric_in_words("margin_per_unit", UnitKind.VISITOR)
    'margin per visitor'
    """
    return _WORDS.get(key, key).format(unit=unit.value) if key in _WORDS else key


def change_in_words(
    definition: MetricDefinition, currency: str, value: float, low: float, high: float
) -> str:
    """A change with its 95 % credible interval: money in the currency, rates in percentage points."""
    figures = [_amount(definition, currency, figure) for figure in (value, low, high)]
    suffix = _suffix(definition, currency)
    return f"{figures[0]}{suffix} (95 % credible interval {figures[1]} to {figures[2]})"


def _amount(definition: MetricDefinition, currency: str, value: float) -> str:
    if definition.key in _MONEY:
        places = exponent(currency)
        return f"{value / 10**places:+.{places}f}"
    if _is_rate(definition):
        return f"{100.0 * value:+.2f}"
    return f"{value:+.3g}"


def _suffix(definition: MetricDefinition, currency: str) -> str:
    if definition.key in _MONEY:
        return f" {currency}"
    return " percentage points" if _is_rate(definition) else ""


def _is_rate(definition: MetricDefinition) -> bool:
    is_proportion = definition.kind is MetricKind.PROPORTION
    return is_proportion or definition.is_share or definition.key == "refund_value_rate"
