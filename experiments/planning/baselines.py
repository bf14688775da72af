"""What is assumed of a unit before a test: the mean of each metric, and how far units differ.

A `Shop` has one order at most per unit; c = conversion, m and v = mean and coefficient of variation of an
order's value, g = margin rate of what is kept, r = share of the orders refunded in full (their goods come
back, so that neither value nor margin is left).

==================  ==================  ==============================================================
metric              mean                variance of a unit's part in the estimate
==================  ==================  ==============================================================
conversion_rate     c                   c (1 - c)
orders_per_unit     c                   c (1 - c)
revenue_per_unit    c m (1 - r)         c m^2 (1 + v^2) (1 - r) - mean^2
margin_per_unit     c m g (1 - r)       c m^2 g^2 (1 + v^2) (1 - r) - mean^2
aov                 m                   (v m)^2 / c      (delta method: only those who order say anything)
refund_rate         r                   r (1 - r) / c
==================  ==================  ==============================================================

The error of a figure of n units is sqrt(variance / n). A change of a metric is one of what it is made of:
of c, of r, or for the three of money of m. Wrong where a unit often orders twice (give the mean and standard
deviation as measured, `Measured`), and where totals are so skewed that no Normal law holds at the sizes
planned: below some hundred orders of each arm.
"""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Protocol

from experiments.metric_keys import METRIC_DIRECTIONS, metric_kind
from experiments.model import Direction, MetricKind

MONEY = ("margin_per_unit", "revenue_per_unit", "aov")
PLANNED = ("conversion_rate", "orders_per_unit", *MONEY, "refund_rate")
"""Metrics that follow from a shop's figures."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A metric of one arm: its mean, and sd / sqrt(units of the arm) the error of its figure."""

    mean: float
    sd: float


class Baseline(Protocol):
    """Anything that knows what its metrics are, and what they would be after a change."""

    def quantity(self, metric: str) -> Quantity | None:
        """The metric; None where nothing is assumed of it."""
        ...

    def changed(self, metric: str, by: float) -> "Baseline":
        """The same with the metric changed by this part of itself (0.05 is 5 % more)."""
        ...

    def sign(self, metric: str) -> int:
        """+1 where more of the metric is better, -1 where less is."""
        ...

    def kind_of(self, metric: str) -> MetricKind:
        """How the metric is formed."""
        ...

    def events(self, metric: str) -> float:
        """How many events a unit brings on which the metric's figure rests: orders, refunds."""
        ...

    def margin(self) -> float | None:
        """Margin per unit in minor units; None where it is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Shop:
    """Who buys, for how much, and what is left of it; money in minor units.

    >>> shop = Shop(conversion=0.05, order_value=8_000, order_value_cv=1.0, margin_rate=0.4)
    >>> shop.quantity("margin_per_unit")
    Quantity(mean=160.0, sd=999.1996797437437)
    >>> shop.changed("conversion_rate", 0.2).conversion
    0.06
    """

    conversion: float
    order_value: float | None = None
    order_value_cv: float = 1.0
    margin_rate: float | None = None
    refund_rate: float = 0.0

    def quantity(self, metric: str) -> Quantity | None:
        """The table of the module; None for a metric of money without an order value, or another metric."""
        c, r = self.conversion, self.refund_rate
        if metric in ("conversion_rate", "orders_per_unit"):
            return Quantity(c, sqrt(c * (1 - c)))
        if metric == "refund_rate":
            return Quantity(r, sqrt(r * (1 - r) / c)) if r > 0 else None
        if self.order_value is None or metric not in MONEY:
            return None
        if metric == "aov":
            return Quantity(self.order_value, self.order_value_cv * self.order_value / sqrt(c))
        part = 1.0 if metric == "revenue_per_unit" else self.margin_rate
        if part is None:
            return None
        kept = self.order_value * part
        mean = c * (1 - r) * kept
        return Quantity(mean, sqrt(c * (1 - r) * kept**2 * (1 + self.order_value_cv**2) - mean**2))

    def changed(self, metric: str, by: float) -> "Shop":
        """The shop with what the metric is made of changed by that part; rates stay below 1."""
        if metric in ("conversion_rate", "orders_per_unit"):
            return replace(self, conversion=min(self.conversion * (1 + by), 1.0))
        if metric == "refund_rate":
            return replace(self, refund_rate=min(self.refund_rate * (1 + by), 1.0))
        return replace(self, order_value=None if self.order_value is None else self.order_value * (1 + by))

    def sign(self, metric: str) -> int:
        """By the metric's direction."""
        return 1 if METRIC_DIRECTIONS[metric] is Direction.UP else -1

    def kind_of(self, metric: str) -> MetricKind:
        """As in the report."""
        return metric_kind(metric)

    def events(self, metric: str) -> float:
        """Orders per unit, of a refund rate refunded ones."""
        return self.conversion * (self.refund_rate if metric == "refund_rate" else 1.0)

    def margin(self) -> float | None:
        """Margin per unit."""
        quantity = self.quantity("margin_per_unit")
        return None if quantity is None else quantity.mean


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric that is known by itself, whatever it is made of; nothing is assumed of any other.

    ==========  ==========================  ================================================================
    kind        mean                        sd
    ==========  ==========================  ================================================================
    proportion  the rate                    not needed: sqrt(mean (1 - mean)), after a change too
    mean        per unit                    of a unit's total; a change moves the mean and leaves it
    ratio       numerator / denominator     of one of the denominator (an order's value), independent of each
                                            other; a unit brings `per_unit` of them on average
    ==========  ==========================  ================================================================

    With `is_margin` the metric is money earned per unit, in minor units.

    >>> Measured("take_rate", MetricKind.PROPORTION, 0.2).quantity("take_rate")
    Quantity(mean=0.2, sd=0.4)
    """

    metric: str
    kind: MetricKind
    mean: float
    sd: float = 0.0
    per_unit: float = 1.0
    direction: Direction = Direction.UP
    is_margin: bool = False

    def quantity(self, metric: str) -> Quantity | None:
        """The metric itself."""
        if metric != self.metric:
            return None
        if self.kind is MetricKind.PROPORTION:
            return Quantity(self.mean, sqrt(self.mean * (1 - self.mean)))
        return Quantity(self.mean, self.sd / sqrt(self.per_unit))

    def changed(self, metric: str, by: float) -> "Measured":
        """The mean changed by that part; a rate stays below 1."""
        if metric != self.metric:
            return self
        mean = self.mean * (1 + by)
        return replace(self, mean=min(mean, 1.0) if self.kind is MetricKind.PROPORTION else mean)

    def sign(self, metric: str) -> int:
        """As stated."""
        return 1 if self.direction is Direction.UP else -1

    def kind_of(self, metric: str) -> MetricKind:
        """As stated."""
        return self.kind

    def events(self, metric: str) -> float:
        """The rarer outcome of a proportion, the denominator of a ratio, 1 for a mean."""
        return min(self.mean, 1 - self.mean) if self.kind is MetricKind.PROPORTION else self.per_unit

    def margin(self) -> float | None:
        """The mean, where it is one of margins."""
        return self.mean if self.is_margin else None
