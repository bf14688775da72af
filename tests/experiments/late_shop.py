"""A shop whose orders and refunds come late: rollup cells as the folder would hold them at an instant.

Built from arrays, for many units; a test holds it equal to `fold_unit` over the same units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from experiments.ages import BINS, HOURS, REFUNDS, binned
from experiments.statistics import Cell, CellKey

START = date(2026, 3, 2)
HOUR = 3600.0
DAY = 86400.0
EDGES = (np.arange(BINS + 1) / BINS) ** 3


@dataclass(frozen=True, slots=True)
class LateUnits:
    """Units of one variant: instants in seconds since the first midnight, inf for what never comes."""

    variant: str
    anchor: np.ndarray
    ordered: np.ndarray
    refunded: np.ndarray
    revenue: int = 10_000
    cost: int = 4_000


def late_units(
    rng: np.random.Generator,
    variant: str,
    anchor: np.ndarray,
    *,
    rate: float,
    delay: float,
    refund: float = 0.0,
    refund_delay: float = 8 * DAY,
    window: float = 7 * DAY,
) -> LateUnits:
    """Exponential delays (means in seconds) of orders, cut at the window, and of refunds after them."""
    lag = rng.exponential(delay, len(anchor))
    has_order = (rng.random(len(anchor)) < rate) & (lag < window)
    ordered = np.where(has_order, anchor + lag, np.inf)
    has_refund = has_order & (rng.random(len(anchor)) < refund)
    refunded = np.where(has_refund, ordered + rng.exponential(refund_delay, len(anchor)), np.inf)
    return LateUnits(variant, anchor, ordered, refunded)


def instant(seconds: float) -> datetime:
    """The instant so many seconds after the first midnight."""
    return datetime.combine(START, datetime.min.time(), tzinfo=UTC) + timedelta(seconds=seconds)


def cells_at(
    shop: Sequence[LateUnits],
    now: float,
    candidates: Sequence[str],
    *,
    window: float = 7 * DAY,
    refund_window: float = 30 * DAY,
) -> list[Cell]:
    """One cell for each variant and day, with what has come by now; all cost is lost with a refund."""
    cells: list[Cell] = []
    for units in shop:
        days = (units.anchor // DAY).astype(int)
        for day in np.unique(days[units.anchor <= now]):
            mine = (days == day) & (units.anchor <= now)
            anchor, ordered, refunded = (x[mine] for x in (units.anchor, units.ordered, units.refunded))
            bought, back = (ordered <= now).astype(int), (refunded <= now).astype(int)
            key = CellKey(units.variant, "", 1, START + timedelta(days=int(day)), 0)
            cell = Cell(key, frozenset(candidates))
            kinds = [(0, 0), (1, 0), (1, 1)]
            counts = [int(((bought == sold) & (back == gone)).sum()) for sold, gone in kinds]
            cell.moments.add_units([_vector(units, *kind) for kind in kinds], counts)
            hours = np.bincount(((anchor % DAY) // HOUR).astype(int) + 1)
            cell.histograms[HOURS] = {int(h): int(n) for h, n in enumerate(hours) if n}
            _count(cell, ("converted", "orders"), (ordered - anchor)[bought == 1] / window)
            final = (refunded - anchor)[back == 1] / (window + refund_window)
            _count(cell, (REFUNDS,), final[final <= 1.0])
            cells.append(cell)
    return cells


def _vector(units: LateUnits, sold: int, gone: int) -> dict[str, int]:
    revenue, back = sold * units.revenue, gone * units.revenue
    margin = sold * (units.revenue - units.cost) - back
    vector = {
        "assigned": 1,
        "units": 1,
        "converted": sold,
        "orders": sold,
        "revenue": revenue,
        "margin": margin,
        "refunded_orders": gone,
        "refunded_value": back,
        "refund_loss": back,
        "revenue_capped": revenue,
        "net_revenue_capped": revenue - back,
        "refunded_value_capped": back,
        "margin_capped": margin,
    }
    return {name: value for name, value in vector.items() if value}


def _count(cell: Cell, features: Sequence[str], ages: np.ndarray) -> None:
    bins = np.maximum(1, np.searchsorted(EDGES, ages))
    for number, events in zip(*np.unique(bins, return_counts=True), strict=True):
        for feature in features:
            cell.histograms[binned(feature, int(number))] = {1: int(events)}
