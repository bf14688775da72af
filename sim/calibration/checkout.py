"""A checkout where the truth is known: shoppers of one arm, summed into a rollup cell.

A unit converts with `conversion`, then has 1 + Poisson(`more_orders`) orders of mean `value` and coefficient
of variation `spread` (Gamma, or log-normal where `is_heavy`), times a factor of its own (`unit_spread`), so
that the orders of a unit are alike. Each order is refunded whole with `refunds`; the margin is `MARGIN` of
what was booked less what was refunded. Only the sums are kept, as the ledger's cells keep them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from experiments.model import Experiment, Guardrail, Offer, OfferKind, PolicyKind, PolicySettings, Variant
from experiments.statistics import Cell, CellKey, Moments, product_name

CONTROL = "none"
DAY = date(2026, 3, 2)
MARGIN = 0.4
GUARDRAILS = (
    Guardrail("conversion_rate", 0.01, 0.02, 0.04),
    Guardrail("refund_rate", 0.10, 0.20, 0.40),
)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shoppers:
    """What the units of one arm do; `value` in minor units."""

    conversion: float = 0.6
    value: float = 5000.0
    spread: float = 1.0
    refunds: float = 0.05
    more_orders: float = 0.0
    unit_spread: float = 0.0
    is_heavy: bool = False

    def truth(self) -> dict[str, float]:
        """The expected figure of each metric."""
        orders = self.conversion * (1.0 + self.more_orders)
        return {
            "conversion_rate": self.conversion,
            "aov": self.value,
            "aov_net": self.value * (1.0 - self.refunds),
            "revenue_per_unit": orders * self.value * (1.0 - self.refunds),
            "margin_per_unit": orders * self.value * (MARGIN - self.refunds),
            "refund_rate": self.refunds,
            "refund_value_rate": self.refunds,
        }

    def totals(self, units: int, rng: np.random.Generator) -> dict[str, FloatArray]:
        """Totals of the units that ordered; the others have none."""
        buyers = int(rng.binomial(units, self.conversion))
        orders = np.asarray(1.0 + rng.poisson(self.more_orders, buyers), dtype=np.float64)
        revenue = self._values(orders, rng)
        if self.unit_spread:
            sigma = math.sqrt(math.log1p(self.unit_spread**2))
            revenue = revenue * rng.lognormal(-sigma * sigma / 2.0, sigma, buyers)
        revenue = np.rint(revenue)
        refunded = rng.binomial(orders.astype(np.int64), self.refunds).astype(np.float64)
        lost = np.rint(revenue * refunded / orders)
        return {
            "converted": np.ones(buyers),
            "orders": orders,
            "revenue": revenue,
            "refunded_orders": refunded,
            "refunded_value": lost,
            "margin": np.rint(MARGIN * revenue) - lost,
        }

    def _values(self, orders: FloatArray, rng: np.random.Generator) -> FloatArray:
        if self.is_heavy:
            sigma = math.sqrt(math.log1p(self.spread**2))
            of_orders = rng.lognormal(-sigma * sigma / 2.0, sigma, int(orders.sum()))
            starts = np.concatenate([[0], np.cumsum(orders)[:-1]]).astype(np.int64)
            return self.value * np.add.reduceat(of_orders, starts) if len(orders) else orders
        shape = self.spread**-2.0
        return rng.gamma(shape * orders, self.value / shape)


def cell(
    variant: str,
    totals: dict[str, FloatArray],
    units: int,
    candidates: Sequence[str],
    *,
    number: int = 1,
    segment: str = "",
    caps: tuple[float, float] | None = None,
) -> Cell:
    """The cell of the units: every sum and cross-product, exact; `caps` are those of the margin."""
    low, high = caps or (-np.inf, np.inf)
    columns = totals | {
        "net_revenue_capped": totals["revenue"] - totals["refunded_value"],
        "revenue_capped": totals["revenue"],
        "refunded_value_capped": totals["refunded_value"],
        "margin_capped": np.clip(totals["margin"], low, high),
    }
    names = list(columns)
    matrix = np.column_stack([columns[name] for name in names])
    products = matrix.T @ matrix  # whole numbers below 2^53: exact
    moments = Moments({"assigned": units, "units": units, "exposed": units})
    for one in ("assigned", "units", "exposed"):
        for other in ("assigned", "units", "exposed"):
            moments.products[product_name(one, other)] = units
    for k, name in enumerate(names):
        if total := int(matrix[:, k].sum()):
            moments.sums[name] = total
            moments.products |= {product_name(one, name): total for one in ("assigned", "units", "exposed")}
        for j in range(k, len(names)):
            if product := int(products[k, j]):
                moments.products[product_name(name, names[j])] = product
    return Cell(CellKey(variant, segment, number, DAY, 0), frozenset(candidates), moments)


def experiment(
    treatments: Sequence[str],
    *,
    kind: PolicyKind = PolicyKind.FIXED,
    guardrails: tuple[Guardrail, ...] = GUARDRAILS,
) -> Experiment:
    """An experiment at checkout with these treatments, on margin per visitor."""
    offers = [Variant(key, Offer(OfferKind.CROSS_SELL, sku=key.upper())) for key in treatments]
    return Experiment(
        key="checkout",
        touchpoint="checkout",
        currency="EUR",
        variants=(Variant(CONTROL, Offer(OfferKind.NONE), is_control=True), *offers),
        policy=PolicySettings(kind=kind, objective="margin_per_unit"),
        guardrails=guardrails,
    )
