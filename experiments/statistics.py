"""Addable sufficient statistics: integer sums of unit vectors, and the cells they live in.

A *unit vector* maps feature names to integers (the features of one enrolled unit, zeros left out).
`Moments` holds the sums of the vectors of many units and the sums of all pairwise products, as
Python integers: exact whatever their size, so that removing a unit restores the former state bit for
bit and `verify` can ask for equality instead of closeness.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FIXED_POINT = 1 << 32
"""Scale of every feature that is not a count or minor units: value v is kept as round(2^32 v)."""

FEATURES = (
    "assigned",  # 1 for every enrolled unit
    "units",  # 1 once the unit has its anchor: the denominator of every per-unit metric
    "exposed",
    "clicked",  # exposed and clicked
    "took",  # exposed and accepted
    "converted",
    "orders",
    "revenue",  # booked value of the orders, minor units
    "refunded_orders",
    "refunded_value",  # effective refunds, minor units
    "cancelled_orders",
    "margin",  # minor units, over orders of known cost
    "refund_loss",  # refunds less recovered cost, minor units, over the same orders
    "carts",
    "abandoned",
    "rating_sum",  # sum of score/scale, fixed point
    "ratings",
    "pre_margin",  # margin of the 30 days before the anchor as it stood then, minor units
    "buyer_90d",  # ordered within 90 days of the anchor
    "repeat_90d",  # ordered at least twice within 90 days of the anchor
    "ltv_30d",
    "ltv_90d",
    "ltv_180d",
    "unknown_cost_orders",
    "unconverted_orders",
    "ltv_30d_unknown_cost",  # the same two over the orders of each horizon
    "ltv_90d_unknown_cost",
    "ltv_180d_unknown_cost",
    "ltv_30d_unconverted",
    "ltv_90d_unconverted",
    "ltv_180d_unconverted",
    "crossover",  # merged from enrolments of different variants
    "revenue_capped",  # the winsorised copies; equal to the raw totals while there is no cap
    "net_revenue_capped",
    "refunded_value_capped",
    "margin_capped",
)

MONEY_TOTALS = ("revenue", "net_revenue", "refunded_value", "margin")
"""Unit totals of money that have a histogram and a winsorised copy (`<name>_capped`)."""


def custom_features(metric_key: str) -> tuple[str, str, str]:
    """Names of a custom metric's features: had the event (0/1), events, sum of value (fixed point)."""
    return f"{metric_key}:had", f"{metric_key}:count", f"{metric_key}:sum"


OVER_P = "/p"
"""Ends the name of a feature that was divided by the unit's propensity, fixed point."""

DIVIDED = (
    "units",
    "exposed",
    "clicked",
    "took",
    "converted",
    "orders",
    "revenue",
    "refunded_orders",
    "refunded_value",
    "cancelled_orders",
    "margin",
    "carts",
    "abandoned",
    "rating_sum",
    "ratings",
    "revenue_capped",
    "net_revenue_capped",
    "refunded_value_capped",
    "margin_capped",
)
"""What is kept divided too where each context has its own shares: all that metrics of the attribution
window are made of. Objective and guardrails may change at any time, so it does not depend on them; horizons
of months are left out, for a third fewer products."""


def over_propensity(value: int, share: int) -> int:
    """A feature's integer over p = share / 2^32, fixed point: round(2^32 value / p), halves up.

    >>> over_propensity(3, 1 << 30) == 3 * 4 * FIXED_POINT
    True
    """
    return (2 * value * FIXED_POINT * FIXED_POINT + share) // (2 * share)


def product_name(a: str, b: str) -> str:
    """The key of the sum of products of two features, whichever way round they are given."""
    return f"{a}*{b}" if a <= b else f"{b}*{a}"


@dataclass(slots=True)
class Moments:
    """Sums and cross-products of integer unit vectors; adding and subtracting are exact inverses.

    `sums` maps a feature to its sum, `products` a pair (`product_name`) to the sum of the product: of two
    features as they are, or of two that were divided (`OVER_P`); one of each nobody asks for. Zeros are
    never stored, so equal moments are equal dictionaries.
    """

    sums: dict[str, int] = field(default_factory=dict)
    products: dict[str, int] = field(default_factory=dict)

    def sum(self, feature: str) -> int:
        """Sum of one feature over the units."""
        return self.sums.get(feature, 0)

    def product(self, a: str, b: str) -> int:
        """Sum over the units of feature a times feature b."""
        return self.products.get(product_name(a, b), 0)

    def add_unit(self, vector: Mapping[str, int], sign: int = 1) -> None:
        """Add (sign 1) or remove (sign -1) one unit's vector, in place.

        >>> moments = Moments()
        >>> moments.add_unit({"units": 1, "orders": 2})
        >>> moments.product("orders", "orders"), moments.product("units", "orders")
        (4, 2)
        """
        for names in _groups(tuple(sorted(name for name, value in vector.items() if value))):
            values = [vector[name] for name in names]
            signed = values if sign == 1 else [sign * value for value in values]
            _accumulate(self.sums, names, signed)
            products = (a * b for index, a in enumerate(signed) for b in values[index:])
            _accumulate(self.products, _pairs(names), products)

    def add_units(self, vectors: Sequence[Mapping[str, int]], weights: Sequence[int]) -> None:
        """Add (or with negative weights remove) that many units of each vector, in place.

        The same as `add_unit` for one after the other, at a twentieth of the time for fifty.

        >>> moments = Moments()
        >>> moments.add_units([{"units": 1, "orders": 2}, {"units": 1}], [3, -1])
        >>> moments.sum("units"), moments.product("units", "orders")
        (2, 6)
        """
        for names in _groups(tuple(sorted(set[str]().union(*vectors)))):
            self._add_rows(names, [[vector.get(name, 0) for name in names] for vector in vectors], weights)

    def _add_rows(self, names: Sequence[str], rows: Sequence[Sequence[int]], weights: Sequence[int]) -> None:
        matrix, factors = _exact(rows, weights)
        weighted = matrix * factors[:, np.newaxis]
        products = (matrix.T @ weighted).ravel()[_upper(len(names))]
        _accumulate(self.sums, names, weighted.sum(axis=0).tolist())
        _accumulate(self.products, _pairs(names), products.tolist())

    def add(self, other: "Moments", sign: int = 1) -> None:
        """Add (or with sign -1 remove) other moments, in place."""
        for mine, theirs in ((self.sums, other.sums), (self.products, other.products)):
            _accumulate(mine, theirs.keys(), (sign * value for value in theirs.values()))

    def __add__(self, other: "Moments") -> "Moments":
        total = Moments(dict(self.sums), dict(self.products))
        total.add(other)
        return total

    def __bool__(self) -> bool:
        return bool(self.sums or self.products)


def total_of(parts: Iterable[Moments]) -> Moments:
    """The sum of any number of moments."""
    total = Moments()
    for part in parts:
        total.add(part)
    return total


@lru_cache(maxsize=256)
def _groups(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The features as they are, and those that were divided, if any."""
    divided = tuple(name for name in names if name.endswith(OVER_P))
    return (tuple(name for name in names if not name.endswith(OVER_P)), divided) if divided else (names,)


@lru_cache(maxsize=256)  # units have few sets of features between them; one holds 500 names at most
def _pairs(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of all products of these features, which are in order."""
    return tuple(f"{name}*{other}" for index, name in enumerate(names) for other in names[index:])


@lru_cache(maxsize=256)
def _upper(size: int) -> NDArray[np.intp]:
    """Where the products of `_pairs` stand in a matrix of all products, row after row."""
    return np.flatnonzero(np.triu(np.ones((size, size))))


def _exact(rows: Sequence[Sequence[int]], weights: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vectors and weights whose products and sums are exact: machine integers, else those of any size."""
    try:
        matrix, factors = np.array(rows, dtype=np.int64), np.array(weights, dtype=np.int64)
        largest = max(int(matrix.max(initial=0)), -int(matrix.min(initial=0)))
        if largest * largest * max(1, sum(map(abs, weights))) < 1 << 63:
            return matrix, factors
    except OverflowError:
        pass
    return np.array(rows, dtype=np.object_), np.array(weights, dtype=np.object_)


def _accumulate(store: dict[str, int], names: Iterable[str], amounts: Iterable[int]) -> None:
    get = store.get
    for name, amount in zip(names, amounts, strict=True):
        value = get(name, 0) + amount
        if value:
            store[name] = value
        else:
            store.pop(name, None)


class CellKey(NamedTuple):
    """Where a unit's contribution lies within its experiment."""

    variant: str
    segment: str
    candidate_set: int
    day: date  # enrolment day in the store's time zone
    epoch: int


@dataclass(slots=True)
class Cell:
    """The moments of the units of one cell, and histograms of their money totals.

    `histograms` maps a name of `MONEY_TOTALS` to {bin of `histogram.bin_of`: units}.
    """

    key: CellKey
    candidates: frozenset[str]  # variant keys of key.candidate_set
    moments: Moments = field(default_factory=Moments)
    histograms: dict[str, dict[int, int]] = field(default_factory=dict)

    def add_unit(self, vector: Mapping[str, int], totals: Mapping[str, int], sign: int = 1) -> None:
        """Add or remove one unit: its vector and its bins (money total name -> bin, no zero totals)."""
        self.moments.add_unit(vector, sign)
        self._add_bins(totals, sign)

    def add_units(
        self, units: Sequence[tuple[Mapping[str, int], Mapping[str, int]]], weights: Sequence[int]
    ) -> None:
        """Add or remove that many units of each kind: a vector and bins."""
        self.moments.add_units([vector for vector, _ in units], weights)
        for (_, totals), weight in zip(units, weights, strict=True):
            self._add_bins(totals, weight)

    def _add_bins(self, totals: Mapping[str, int], weight: int) -> None:
        for name, bin_number in totals.items():
            histogram = self.histograms.setdefault(name, {})
            count = histogram.get(bin_number, 0) + weight
            if count:
                histogram[bin_number] = count
            else:
                del histogram[bin_number]
            if not histogram:
                del self.histograms[name]
