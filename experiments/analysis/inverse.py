"""Sums of one metric over units, each unit divided by the propensity of the variant it got.

A unit of arm w adds x / p and y / p, where p is the probability that its first assignment had given it w:
then the sums speak of *all* units of the place, whichever arm they got. Where shares are equal within an
epoch they are the plain sums over the share; where each context has its own, the ledger keeps them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.analysis.estimates import SetEpoch
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.served import EpochShares, served_place
from experiments.analysis.strata import Table
from experiments.analysis.sums import WEIGHT_ONE, Atom, atom_of, products_of
from experiments.statistics import DIVIDED, FIXED_POINT, OVER_P, Cell

Sums = tuple[float, ...]
"""(n, sum 1/p, x/p, y/p, 1/p^2, x/p^2, y/p^2, x^2/p^2, xy/p^2, y^2/p^2): the order of `FIELDS`."""

FIELDS = 10


@dataclass(frozen=True, slots=True)
class Inverse:
    """The sums by (variant, set, epoch), and the share of every variant at a place where all had the same.

    `shares` has no entry for a place whose units had shares of their own context. `is_known` is False where
    some units' propensities are on no record: then nothing can be said.
    """

    sums: Mapping[Atom, Sums]
    shares: Mapping[SetEpoch, Mapping[str, float]]
    is_known: bool = True


def by_shares(table: Table, shares: Mapping[SetEpoch, Mapping[str, float]]) -> Inverse:
    """The sums from the shares of each place; an arm's units where its share is 0 are left out."""
    sums: dict[Atom, Sums] = {}
    is_known = True
    for atom, own in table.sums.items():
        there = shares.get(atom[1:])
        is_known = is_known and there is not None
        share = 0.0 if there is None else there.get(atom[0], 0.0)
        if share <= 0.0:
            continue
        scale, p2 = table.definition.scale, share * share
        n, x, y = own.n / WEIGHT_ONE, own.x / WEIGHT_ONE * scale, own.y / WEIGHT_ONE
        xx, xy, yy = (value / WEIGHT_ONE for value in (own.xx, own.xy, own.yy))
        second = (xx * scale * scale / p2, xy * scale / p2, yy / p2)
        sums[atom] = (n, n / share, x / share, y / share, n / p2, x / p2, y / p2, *second)
    return Inverse(sums, shares, is_known)


def is_kept(definition: MetricDefinition) -> bool:
    """Whether the ledger keeps what the metric is made of over propensities, where shares go by context."""
    features = (*definition.numerator, *definition.denominator)
    return all(name in DIVIDED or ":" in name for name in features)  # a colon: of a custom metric


def by_context(cells: Iterable[Cell], definition: MetricDefinition) -> Inverse:
    """The sums as the ledger keeps them: of units whose shares were those of their own context."""
    one, x, y = (
        {name + OVER_P: factor for name, factor in terms.items()}
        for terms in ({"units": 1}, definition.numerator, definition.denominator)
    )
    first = [tuple(terms.items()) for terms in (one, x, y)]
    second = [products_of(*pair) for pair in ((one, one), (x, one), (y, one), (x, x), (x, y), (y, y))]
    totals: dict[Atom, list[int]] = {}
    is_known = True
    for cell in cells:
        sums, products = cell.moments.sums, cell.moments.products
        found = [sum(c * sums.get(name, 0) for name, c in terms) for terms in first]
        found += [sum(c * products.get(name, 0) for name, c in terms) for terms in second]
        units = cell.moments.sum("units")
        is_known = is_known and (not units or found[0] > 0)
        total = totals.setdefault(atom_of(cell.key), [0] * FIELDS)
        for index, value in enumerate((units, *found)):
            total[index] += value
    return Inverse({atom: _in_units(total, definition.scale) for atom, total in totals.items()}, {}, is_known)


def _in_units(total: Sequence[int], scale: float) -> Sums:
    """Sums of fixed-point integers in the metric's unit."""
    first, second = 1.0 / FIXED_POINT, 1.0 / (FIXED_POINT * FIXED_POINT)
    factors = (1.0, first, first * scale, first, second, second * scale, second)
    return tuple(
        value * factor
        for value, factor in zip(
            total, (*factors, second * scale * scale, second * scale, second), strict=True
        )
    )


def shares_by_place(cells: Iterable[Cell], served: EpochShares) -> dict[SetEpoch, Mapping[str, float]]:
    """The shares at each (set, epoch) of the cells; none where they are unknown for some of its units."""
    found: dict[SetEpoch, Mapping[str, float] | None] = {}
    for cell in cells:
        place = cell.key.candidate_set, cell.key.epoch
        shares = served.get(served_place(cell))
        # Segments that had different shares are no one place: `strata.by_segment` tells them apart.
        found[place] = shares if found.get(place, shares) == shares else None
    return {place: shares for place, shares in found.items() if shares is not None}
