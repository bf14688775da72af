"""A planned shop as something to draw from: every unit of an arm has one of some thirty outcomes.

Nothing, or an order of one of twelve values, kept or refunded in full. The values and their chances are the
Gauss-Hermite rule of a log-normal law with the shop's mean and coefficient of variation, so that both are
kept (to the rounding of a minor unit) and the right tail is as heavy as that of orders. An epoch of any size
costs one multinomial draw, and the truth is a sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.planning.baselines import Shop
from experiments.statistics import Moments

NODES = 12
UNIT = {"assigned": 1, "units": 1, "exposed": 1}


@dataclass(frozen=True, slots=True)
class Arm:
    """Outcomes of a unit: their chances, and the unit vector of each."""

    chances: Sequence[float]
    vectors: Sequence[Mapping[str, int]]

    def mean(self, feature: str) -> float:
        """The expected value of one feature."""
        return sum(
            chance * vector.get(feature, 0) for chance, vector in zip(self.chances, self.vectors, strict=True)
        )

    def drawn(self, n: int, rng: np.random.Generator) -> Moments:
        """The sums of n units."""
        moments = Moments()
        counts = rng.multinomial(n, self.chances).tolist()
        kept = [(vector, count) for vector, count in zip(self.vectors, counts, strict=True) if count]
        moments.add_units([vector for vector, _ in kept], [count for _, count in kept])
        return moments


def arm_of(shop: Shop) -> Arm:
    """The arm of a shop; without an order value orders are worth 100 minor units, and earn as much.

    >>> from experiments.planning.baselines import Shop
    >>> arm = arm_of(Shop(0.05, 8_000, 1.2, 0.4, 0.1))
    >>> round(arm.mean("margin"), 1), round(arm.mean("converted"), 4)
    (144.0, 0.05)
    """
    value = 100.0 if shop.order_value is None else shop.order_value
    rate = 1.0 if shop.margin_rate is None else shop.margin_rate
    chances, vectors = [1.0 - shop.conversion], [dict(UNIT)]
    for part, size in _sizes(shop.order_value_cv):
        order = max(1, round(value * size))
        for is_refunded in (False, True):
            chance = shop.refund_rate if is_refunded else 1.0 - shop.refund_rate
            if chance > 0.0:
                chances.append(shop.conversion * part * chance)
                vectors.append(_order(order, round(order * rate), is_refunded=is_refunded))
    total = math.fsum(chances)
    return Arm([chance / total for chance in chances], vectors)


def _sizes(cv: float) -> list[tuple[float, float]]:
    """Chances and sizes, mean 1, of a log-normal of this coefficient of variation."""
    if cv == 0.0:
        return [(1.0, 1.0)]
    sigma2 = math.log1p(cv * cv)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    sizes = np.exp(math.sqrt(sigma2) * nodes - sigma2 / 2.0)
    parts = weights / weights.sum()
    return list(zip(parts.tolist(), sizes.tolist(), strict=True))


def _order(value: int, margin: int, *, is_refunded: bool) -> dict[str, int]:
    left, net = (0, 0) if is_refunded else (margin, value)
    vector = UNIT | {"converted": 1, "orders": 1, "revenue": value, "revenue_capped": value}
    vector |= {"margin": left, "margin_capped": left, "net_revenue_capped": net}
    if is_refunded:
        vector |= {"refunded_orders": 1, "refunded_value": value, "refunded_value_capped": value}
    return vector
