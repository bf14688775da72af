"""Cells as the pooled model reads them: counts and sums by variant within a group, and what is pooled.

A *group* is what shares a baseline: a place (an experiment at its touchpoint), a segment, a candidate set
and, where shares move, a period of enrolment. A *slope* is the effect of a variant at a place in a segment.
So variants are compared within groups only, which holds candidate sets and time apart as the report does.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.histogram import edge
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell, Moments

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

PERIODS_MAX = 6
"""Periods into which the epochs of moving shares are merged; within one, shares count as constant."""


class Group(NamedTuple):
    """What shares a baseline."""

    place: str
    segment: str
    candidate_set: int
    period: int


@dataclass(frozen=True, slots=True)
class Place:
    """An experiment at its touchpoint: its name, and its cells."""

    key: str
    touchpoint: str
    cells: Sequence[Cell]
    is_moving: bool = False  # shares follow outcomes, so that time must be held apart


@dataclass(frozen=True, slots=True)
class Layout:
    """Which cell belongs to which group, variant and slope; all arrays by cell, shape (cells,).

    `variant` is 0 for the control. `slope` is 0 for the control, else 1 + the place of its effect among
    `slopes`, which are (variant, place, segment).
    """

    variants: tuple[str, ...]
    places: tuple[str, ...]
    groups: tuple[Group, ...]
    slopes: tuple[tuple[int, str, str], ...]
    group: IntArray
    variant: IntArray
    slope: IntArray

    @property
    def slope_variant(self) -> IntArray:
        """The treatment (0 for the first) of each slope."""
        return np.array([variant - 1 for variant, _, _ in self.slopes], dtype=np.int64)

    @property
    def slope_place(self) -> IntArray:
        """The place of each slope."""
        return np.array([self.places.index(place) for _, place, _ in self.slopes], dtype=np.int64)

    def of_slope(self, values: FloatArray) -> FloatArray:
        """Sums of the treatments' cells by slope, shape (slopes,)."""
        sums = np.bincount(self.slope, weights=values, minlength=1 + len(self.slopes))[1:]
        return sums.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sums over the n positive totals of each cell: x, x^2, log x and (log x)^2; minor units, (cells,)."""

    n: FloatArray
    x: FloatArray
    xx: FloatArray
    log: FloatArray
    loglog: FloatArray
    bins: tuple[Mapping[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PooledData:
    """What the model is fitted on; arrays have the shape (cells,), `moments` are those of each cell."""

    layout: Layout
    units: FloatArray
    orders: Sizes  # booked value of units that have one
    refunded: FloatArray  # units with a refund
    moments: tuple[Moments, ...] = field(repr=False)

    @property
    def unknown_cost(self) -> int:
        """Orders without cost, which leave the margin untold."""
        return sum(moments.sum("unknown_cost_orders") for moments in self.moments)

    @property
    def unconverted(self) -> int:
        """Orders whose money is not in the experiment's currency."""
        return sum(moments.sum("unconverted_orders") for moments in self.moments)


def pooled_data(places: Iterable[Place], variants: Sequence[str]) -> PooledData:
    """Add the cells up, the control first among the variants; variants of one key are one offer everywhere.

    Cells without units in the denominator, and groups without the control's or any other's, say nothing of
    lifts but still of levels, and stay.

    >>> from datetime import date
    >>> from experiments.statistics import CellKey
    >>> cell = Cell(CellKey("none", "", 1, date(2026, 1, 1), 0), frozenset({"none"}))
    >>> cell.add_unit({"units": 1, "converted": 1, "revenue": 900}, {"revenue": 174})
    >>> pooled_data([Place("a", "cart", [cell])], ["none"]).orders.x
    array([900.])
    """
    rows: dict[tuple[Group, int], Moments] = {}
    bins: dict[tuple[Group, int], tuple[dict[int, int], dict[int, int]]] = {}
    for place in places:
        period_of = _periods(place)
        for cell in place.cells:
            if not cell.moments.sum("units"):
                continue
            key = cell.key
            group = Group(place.key, key.segment, key.candidate_set, period_of[key.epoch])
            row = group, variants.index(key.variant)
            rows.setdefault(row, Moments()).add(cell.moments)
            for total, name in zip(
                bins.setdefault(row, ({}, {})), ("revenue", "refunded_value"), strict=True
            ):
                for number, units in cell.histograms.get(name, {}).items():
                    total[number] = total.get(number, 0) + units
    order = sorted(rows)
    moments = tuple(rows[row] for row in order)
    return PooledData(
        layout_of(order, variants),
        _sums(moments, "units"),
        _sizes(moments, [bins[row][0] for row in order]),
        np.array([float(sum(bins[row][1].values())) for row in order]),
        moments,
    )


def layout_of(rows: Sequence[tuple[Group, int]], variants: Sequence[str]) -> Layout:
    """The layout of cells given as (group, variant)."""
    groups = tuple(sorted({group for group, _ in rows}))
    slopes = tuple(sorted({(v, group.place, group.segment) for group, v in rows if v}))
    at = {slope: number for number, slope in enumerate(slopes, 1)}
    return Layout(
        variants=tuple(variants),
        places=tuple(sorted({group.place for group in groups})),
        groups=groups,
        slopes=slopes,
        group=np.array([groups.index(group) for group, _ in rows], dtype=np.int64),
        variant=np.array([v for _, v in rows], dtype=np.int64),
        slope=np.array([at[v, group.place, group.segment] if v else 0 for group, v in rows], dtype=np.int64),
    )


def _periods(place: Place) -> dict[int, int]:
    """The period of each epoch: runs of epochs with about equally many units."""
    units: dict[int, int] = {}
    for cell in place.cells:
        units[cell.key.epoch] = units.get(cell.key.epoch, 0) + cell.moments.sum("units")
    if not place.is_moving and len(units) <= PERIODS_MAX:
        return {epoch: number for number, epoch in enumerate(sorted(units))}
    total, seen, found = sum(units.values()), 0, dict[int, int]()
    for epoch in sorted(units):
        found[epoch] = PERIODS_MAX * seen // max(1, total)
        seen += units[epoch]
    return found


def _sums(moments: Sequence[Moments], feature: str) -> FloatArray:
    return np.array([float(part.sum(feature)) for part in moments])


def _sizes(moments: Sequence[Moments], bins: Sequence[Mapping[int, int]]) -> Sizes:
    logs = [[(units, _log_middle(number)) for number, units in part.items()] for part in bins]
    return Sizes(
        n=np.array([float(sum(part.values())) for part in bins]),
        x=_sums(moments, "revenue"),
        xx=np.array([float(part.product("revenue", "revenue")) for part in moments]),
        log=np.array([math.fsum(n * log for n, log in part) for part in logs]),
        loglog=np.array([math.fsum(n * log * log for n, log in part) for part in logs]),
        bins=tuple(bins),
    )


@lru_cache(maxsize=4096)
def _log_middle(number: int) -> float:
    """The logarithm of the geometric middle of a bin's values."""
    return 0.5 * math.log((edge(number - 1) + 1) * edge(number))
