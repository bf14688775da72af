"""Sums and products of unit vectors of many customers at once, put into their cells; exact integers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.statistics import Moments, product_name
from sim.runner.vectors import VECTOR
from sim.worlds.cells import Ints

ROOM = float(1 << 62)
"""Sums of absolute values below it fit into 64 bits."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What cells hold: the sums of these features, and these products of two of them."""

    features: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    def has_any(self, features: Sequence[str]) -> bool:
        """Whether one of the features is kept."""
        return not set(features).isdisjoint(self.features)


def all_pairs(features: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every product of two of the features, squares included.

    >>> all_pairs(("a", "b"))
    (('a', 'a'), ('a', 'b'), ('b', 'b'))
    """
    return tuple((one, other) for index, one in enumerate(features) for other in features[index:])


EVERYTHING = Kept(VECTOR, all_pairs(VECTOR))
"""All that the service keeps of a world's customers."""


def put(
    moments: Mapping[int, Moments], kept: Kept, group: Ints, vectors: Mapping[str, Ints], sign: Ints
) -> None:
    """Add each customer's vector (sign 1) to the moments of its group, or take it out (sign -1).

    `group`, `sign` and every vector of shape (n,); `moments` has every group that occurs.
    """
    order = np.argsort(group, kind="stable")
    ordered, signs = group[order], sign[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    of_group = [moments[number] for number in ordered[starts].tolist()]
    columns = {name: vectors[name][order] for name in kept.features}
    signed = {name: column * signs for name, column in columns.items()}
    sums = np.stack([np.add.reduceat(signed[name], starts) for name in kept.features])
    _accumulate([one.sums for one in of_group], kept.features, sums)
    largest = {name: float(np.abs(column).max()) for name, column in columns.items()}
    names: list[str] = []
    products: list[np.ndarray] = []
    for one, other in kept.pairs:
        room = largest[one] * largest[other] * len(group)
        if room:
            names.append(product_name(one, other))
            products.append(_products(signed[one], columns[other], starts, is_wide=room >= ROOM))
    if names:
        _accumulate([one.products for one in of_group], names, np.stack(products))


def _products(one: Ints, other: Ints, starts: Ints, *, is_wide: bool) -> np.ndarray:
    """Sums of the products of two columns from each start to the next.

    Ratings are fixed point, and their squares beyond what 64 bits hold: those go by integers of any size.
    """
    if not is_wide:
        return np.add.reduceat(one * other, starts)
    product = np.zeros(len(one), dtype=object)
    has = np.flatnonzero((one != 0) & (other != 0))
    product[has] = one[has].astype(object) * other[has].astype(object)
    return np.add.reduceat(product, starts)


def _accumulate(stores: Sequence[dict[str, int]], names: Sequence[str], amounts: np.ndarray) -> None:
    """Add amounts (names, stores); zeros are never stored."""
    by_store = amounts.T
    where, places = np.nonzero(by_store)
    for index, place, amount in zip(
        where.tolist(), places.tolist(), by_store[where, places].tolist(), strict=True
    ):
        store, name = stores[index], names[place]
        value = store.get(name, 0) + amount
        if value:
            store[name] = value
        else:
            del store[name]
