"""The file's own numbers: units and metrics per variant, from the rows alone.

Definitions are those of the report (attribution window from the unit's assignment, refunds whenever they
come); the arithmetic is a plain pass over units, so that agreement with the service means something.
Intervals are the textbook ones: Wilson for proportions, normal for means, delta method for ratios.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import NormalDist
from typing import Any

from experiments.model import Experiment, MetricKind
from sim.replay.actions import Assign, Event

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric: numerator / denominator, with a 95 % interval where the data allow one."""

    numerator: float
    denominator: float
    low: float | None = None
    high: float | None = None

    @property
    def value(self) -> float | None:
        """The plain figure; None without a denominator."""
        return self.numerator / self.denominator if self.denominator else None


@dataclass(frozen=True, slots=True)
class VariantNumbers:
    """What the file says of one variant."""

    units: int
    metrics: Mapping[str, Figure]


@dataclass(slots=True)
class _Unit:
    """The totals of one unit."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    slots: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Order:
    unit: str
    amount: int
    refunds: list[int | None] = field(default_factory=list)


def tally(
    assigns: Iterable[Assign], events: Iterable[Event], experiment: Experiment
) -> dict[str, VariantNumbers]:
    """Per variant of the experiment: units, and each metric the events can tell of."""
    enrolled = {assign.unit: assign for assign in assigns}
    units = {unit: _Unit() for unit in enrolled}
    orders: dict[str, _Order] = {}
    kinds: set[str] = set()
    for event in sorted(events, key=lambda event: event.body["type"] != "order"):
        kinds.add(event.body["type"])
        assign = enrolled.get(event.unit)
        if assign is not None:
            _add(event, event.at - assign.at, units[event.unit], orders, experiment)
    for order in orders.values():
        _add_order(order, units[order.unit].sums)
    members: dict[str, list[_Unit]] = {variant.key: [] for variant in experiment.variants}
    for unit, assign in enrolled.items():
        members[assign.variant].append(units[unit])
    metrics = _metrics(kinds, experiment)
    return {
        key: VariantNumbers(len(units_of), {m: _figure(units_of, *spec) for m, spec in metrics.items()})
        for key, units_of in members.items()
    }


def _add(
    event: Event, age: timedelta, unit: _Unit, orders: dict[str, _Order], experiment: Experiment
) -> None:
    body = event.body
    is_inside = timedelta(0) <= age < experiment.attribution_window
    match body["type"]:
        case "order" if is_inside:
            orders[body["order_id"]] = _Order(event.unit, body["amount"])
        case "refund" | "cancel" if body["order_id"] in orders:
            orders[body["order_id"]].refunds.append(body.get("amount"))
        case "exposure" | "click" | "accept" if is_inside:
            unit.slots.add(body["type"])
        case "custom":
            _add_custom(body, age, unit.sums, experiment)
        case _:
            pass


def _add_custom(
    body: Mapping[str, Any], age: timedelta, sums: dict[str, float], experiment: Experiment
) -> None:
    for metric in experiment.metrics:
        window = metric.window or experiment.attribution_window
        if metric.event == body["name"] and timedelta(0) <= age < window:
            sums[f"{metric.key}:had"] = 1
            sums[f"{metric.key}:count"] += 1
            sums[f"{metric.key}:sum"] += body.get("value", 0.0)


def _add_order(order: _Order, sums: dict[str, float]) -> None:
    stated = sum(amount for amount in order.refunds if amount is not None)
    takes_rest = any(amount is None for amount in order.refunds)
    refunded = order.amount if takes_rest else min(stated, order.amount)
    sums["converted"] = 1
    sums["orders"] += 1
    sums["revenue"] += order.amount
    sums["net"] += order.amount - refunded
    sums["refunded"] += refunded
    sums["refunded_orders"] += bool(order.refunds)


_Spec = tuple[MetricKind, str, str]


def _metrics(kinds: set[str], experiment: Experiment) -> dict[str, _Spec]:
    """The metrics to compare: kind, numerator, denominator ("" = one per unit)."""
    metrics: dict[str, _Spec] = {}
    for metric in experiment.metrics:
        match metric.kind:
            case MetricKind.PROPORTION:
                metrics[metric.key] = (metric.kind, f"{metric.key}:had", "")
            case MetricKind.MEAN:
                metrics[metric.key] = (metric.kind, f"{metric.key}:sum", "")
            case MetricKind.RATIO:
                metrics[metric.key] = (metric.kind, f"{metric.key}:sum", f"{metric.key}:count")
            case MetricKind.COUNT:
                metrics[metric.key] = (MetricKind.MEAN, f"{metric.key}:count", "")
            case MetricKind.NPS:
                pass  # ratings are not tallied, as rating_mean is not
    if "order" in kinds:
        metrics["conversion_rate"] = (MetricKind.PROPORTION, "converted", "")
        metrics["revenue_per_unit"] = (MetricKind.MEAN, "net", "")
        metrics["aov"] = (MetricKind.RATIO, "revenue", "orders")
    if "order" in kinds and kinds & {"refund", "cancel"}:
        metrics["refund_rate"] = (MetricKind.RATIO, "refunded_orders", "orders")
        metrics["refund_value_rate"] = (MetricKind.RATIO, "refunded", "revenue")
    if "exposure" in kinds:
        for key, slot in (("click_through_rate", "click"), ("take_rate", "accept")):
            if slot in kinds:
                metrics[key] = (MetricKind.PROPORTION, f"slot:{slot}", "slot:exposure")
    return metrics


def _figure(units: list[_Unit], kind: MetricKind, numerator: str, denominator: str) -> Figure:
    pairs = [(_total(unit, numerator), _total(unit, denominator)) for unit in units]
    top = math.fsum(x for x, _ in pairs)
    bottom = math.fsum(y for _, y in pairs)
    if not bottom:
        return Figure(top, bottom)
    if kind is MetricKind.PROPORTION:
        return Figure(top, bottom, *wilson(top, bottom))
    ratio = top / bottom
    n = len(units)
    if n < 2:
        return Figure(top, bottom)
    squares = math.fsum((x - ratio * y) ** 2 for x, y in pairs)
    error = Z95 * math.sqrt(squares / (n - 1) * n) / bottom
    return Figure(top, bottom, ratio - error, ratio + error)


def _total(unit: _Unit, name: str) -> float:
    """A unit's total; a click or an accept counts only with its exposure."""
    if not name:
        return 1.0
    if name.startswith("slot:"):
        return float({"exposure", name.removeprefix("slot:")} <= unit.slots)
    return unit.sums.get(name, 0.0)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The Wilson score interval of a proportion at 95 %.

    Published: 0 of 10 gives (0, 0.2775) (Wilson 1927; Newcombe 1998).

    >>> [round(bound, 4) for bound in wilson(0, 10)]
    [0.0, 0.2775]
    """
    share = successes / n
    scale = 1 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
