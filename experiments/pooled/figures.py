"""What the stages come to in money, by variant and by segment, each beside the plain figure of the data.

Of a cell, from independent draws of the stages: p conversion, v order value of a buyer, r the part of buyers
with a refund, a the refunded value over v, g margin before refunds over booked value, l what a refunded
amount costs of margin:

    revenue per unit  p v (1 - r a)          margin per unit  p v (g - l r a)

A variant's figure is the mean over its groups, weighed by the units of *all* variants there, so that variants
with another mix compare; a lift is taken over the groups that hold both the variant and the control, with the
same weights for both, and P(best) compares those lifts, the control at 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.pooled.data import BoolArray, IntArray, PooledData
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Moments

CI_PROB = 0.95

METRICS = ("conversion_rate", "order_value", "refund_rate", "revenue_per_unit", "margin_per_unit")
PER_BUYER = ("order_value", "refund_rate")
BEST_BY = ("conversion_rate", "revenue_per_unit", "margin_per_unit")
"""Metrics whose lift is worth choosing by; an order value alone is not."""


@dataclass(frozen=True, slots=True)
class Span:
    """Posterior mean and the equal-tailed 95 % credible interval; `raw` is the plain figure of the data."""

    value: float
    ci_low: float
    ci_high: float
    raw: float | None = None


@dataclass(frozen=True, slots=True)
class Lift:
    """Against the control: absolute, relative where the control's is surely positive, and P(better)."""

    absolute: Span
    relative: Span | None
    prob_beats_control: float


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """Of one variant over all units, or over those of one segment."""

    key: str
    units: float
    metrics: Mapping[str, Span]
    lifts: Mapping[str, Lift]  # none of the control, or where no group holds both
    prob_best: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CellDraws:
    """Draws by cell, shape (draws, cells), money in minor units; `margin` None where costs are unknown."""

    conversion: FloatArray
    value: FloatArray
    refunded: FloatArray
    refund_size: FloatArray
    margin_rate: FloatArray | None
    loss: FloatArray  # (cells,)

    def per_unit(self, metric: str) -> FloatArray:
        """A metric's sum per unit of each cell: its numerator, where it is one per buyer."""
        booked = self.conversion * self.value
        back = self.refunded * self.refund_size
        match metric:
            case "conversion_rate":
                return self.conversion
            case "order_value":
                return booked
            case "refund_rate":
                return self.conversion * self.refunded
            case "revenue_per_unit":
                return booked * (1.0 - back)
            case _:
                assert self.margin_rate is not None, "no margin without costs"
                return booked * (self.margin_rate - self.loss * back)


def figures(data: PooledData, draws: CellDraws, segment: str | None = None) -> list[VariantFigures]:
    """Every variant that has units, the control first; of one segment, or of all."""
    chosen = np.array([segment is None or group.segment == segment for group in data.layout.groups])
    mine = chosen[data.layout.group] & (data.units > 0)
    untold = {"refund_rate"} if not draws.refunded.any() else set[str]()
    untold |= {"margin_per_unit"} if draws.margin_rate is None else set()
    metrics = tuple(metric for metric in METRICS if metric not in untold)
    per_unit = {metric: draws.per_unit(metric) for metric in metrics}
    both = {number: _common(data, mine, number) for number in range(len(data.layout.variants))}
    lifts = {number: _lifts(data, per_unit, cells) for number, cells in both.items() if number and len(cells)}
    found: list[VariantFigures] = []
    for number, key in enumerate(data.layout.variants):
        cells = np.flatnonzero(mine & (data.layout.variant == number))
        if len(cells):
            drawn = _of(data, per_unit, cells)
            raw = _raw(data, cells)
            own = {metric: _span(drawn[metric], raw[metric]) for metric in metrics}
            own_lifts = _told(data, lifts[number], both[number], metrics) if number in lifts else {}
            is_compared = number in lifts or (number == 0 and bool(lifts))
            chosen_by = [metric for metric in BEST_BY if metric in metrics and is_compared]
            best = {metric: _best(number, lifts, metric) for metric in chosen_by}
            found.append(VariantFigures(key, float(data.units[cells].sum()), own, own_lifts, best))
    return found


Pair = tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]]
"""Draws of a variant and of the control over their common groups, by metric."""


def _common(data: PooledData, mine: BoolArray, number: int) -> IntArray:
    """The variant's cells in groups where the control has units too."""
    layout = data.layout
    control = set(layout.group[mine & (layout.variant == 0)].tolist())
    own = mine & (layout.variant == number)
    return np.array(
        [cell for cell in np.flatnonzero(own) if int(layout.group[cell]) in control], dtype=np.int64
    )


def _controls(data: PooledData, cells: IntArray) -> IntArray:
    """The control's cells in the same groups, in the same order."""
    layout = data.layout
    at = {int(layout.group[cell]): int(cell) for cell in np.flatnonzero(layout.variant == 0)}
    return np.array([at[int(layout.group[cell])] for cell in cells], dtype=np.int64)


def _lifts(data: PooledData, per_unit: Mapping[str, FloatArray], cells: IntArray) -> Pair:
    return _of(data, per_unit, cells), _of(data, per_unit, _controls(data, cells))


def _weights(data: PooledData, cells: IntArray) -> FloatArray:
    """The part of all variants' units that each cell's group holds, of those named."""
    by_group = np.bincount(data.layout.group, weights=data.units, minlength=len(data.layout.groups))
    units = by_group[data.layout.group[cells]]
    return units / units.sum()


def _of(data: PooledData, per_unit: Mapping[str, FloatArray], cells: IntArray) -> dict[str, FloatArray]:
    """Draws of every metric over these cells of one variant, shape (draws,)."""
    weights = _weights(data, cells)
    drawn = {metric: values[:, cells] @ weights for metric, values in per_unit.items()}
    for metric in drawn.keys() & set(PER_BUYER):
        drawn[metric] = drawn[metric] / drawn["conversion_rate"]
    return drawn


def _told(data: PooledData, pair: Pair, cells: IntArray, metrics: Sequence[str]) -> dict[str, Lift]:
    treated, control = pair
    raw, raw_control = _standardised(data, cells), _standardised(data, _controls(data, cells))
    found: dict[str, Lift] = {}
    for metric in metrics:
        ours, theirs = treated[metric], control[metric]
        mine, other = raw[metric], raw_control[metric]
        sign = -1.0 if metric == "refund_rate" else 1.0
        relative = None
        if float(np.quantile(theirs, (1.0 - CI_PROB) / 2.0)) > 0.0:
            relative = _span(ours / theirs - 1.0, mine / other - 1.0 if mine is not None and other else None)
        difference = None if mine is None or other is None else mine - other
        absolute = _span(ours - theirs, difference)
        found[metric] = Lift(absolute, relative, float((sign * (ours - theirs) > 0.0).mean()))
    return found


def _best(number: int, lifts: Mapping[int, Pair], metric: str) -> float:
    """P(best) of a variant: how often its lift is the largest, the control's being 0."""
    order = sorted(lifts)
    gains = np.stack([lifts[k][0][metric] - lifts[k][1][metric] for k in order], axis=1)
    best = np.where(gains.max(axis=1) > 0.0, np.array(order)[gains.argmax(axis=1)], 0)
    return float((best == number).mean())


def _span(draws: FloatArray, raw: float | None) -> Span:
    low, high = np.quantile(draws, [(1.0 - CI_PROB) / 2.0, (1.0 + CI_PROB) / 2.0])
    return Span(float(draws.mean()), float(low), float(high), raw)


def _standardised(data: PooledData, cells: IntArray) -> dict[str, float | None]:
    """Plain figures of the cells, weighed as the model's are."""
    weights = _weights(data, cells)
    parts = [_raw(data, np.array([cell])) for cell in cells]
    sums: dict[str, float] = {}
    for metric in METRICS:
        per_buyer = metric in PER_BUYER
        values = [
            (part[metric] or 0.0) * ((part["conversion_rate"] or 0.0) if per_buyer else 1.0) for part in parts
        ]
        sums[metric] = float(weights @ np.array(values))
    buyers = sums["conversion_rate"]
    return {m: (s / buyers if buyers else None) if m in PER_BUYER else s for m, s in sums.items()}


def _raw(data: PooledData, cells: IntArray) -> dict[str, float | None]:
    """Plain figures of cells taken together."""
    units, buyers = float(data.units[cells].sum()), float(data.orders.n[cells].sum())
    total = Moments()
    for cell in cells:
        total.add(data.moments[cell])
    booked = total.sum("revenue")
    return {
        "conversion_rate": buyers / units,
        "order_value": booked / buyers if buyers else None,
        "refund_rate": float(data.refunded[cells].sum()) / buyers if buyers else None,
        "revenue_per_unit": (booked - total.sum("refunded_value")) / units,
        "margin_per_unit": total.sum("margin") / units,
    }
