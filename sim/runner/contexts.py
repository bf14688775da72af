"""What a contextual policy knows of simulated customers: their segment, and the share each was given.

A request of a simulated customer says its segment and nothing else, so a segment is a context, and all
customers of a segment that got a variant under one version had the same share. What the fold keeps of both
(counts by context, and every figure over the propensity) is therefore known of a whole group.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.contextual import Row
from experiments.allocation.features import Columns
from experiments.eligibility import RequestContext
from experiments.model import Experiment, PolicyKind
from experiments.statistics import DIVIDED, OVER_P, over_propensity
from sim.runner.errors import NotSimulated
from sim.worlds.cells import Ints
from sim.worlds.world import World


class Contexts:
    """The contexts of a world's segments under the features of an experiment."""

    def __init__(self, experiment: Experiment, world: World) -> None:
        self._columns = Columns(experiment.policy.features)
        self._encoded = [self._columns.encoded(RequestContext(), one.key) for one in world.segments]

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The columns of each segment."""
        return [self._columns.row(encoded) for encoded in self._encoded]

    @cached_property
    def names(self) -> Sequence[str]:
        """The feature that counts the units of each segment's context."""
        return [name for encoded in self._encoded for name in self._columns.vector_of(encoded)]


def contexts_of(experiment: Experiment, world: World) -> Contexts | None:
    """The contexts where the policy has any; NotSimulated where they are not segments alone."""
    if experiment.policy.kind is not PolicyKind.CONTEXTUAL:
        return None
    names = sorted({one.name for one in experiment.policy.features})
    if names != ["segment"] or not Columns(experiment.policy.features).is_grouped:
        raise NotSimulated(
            f"policy contextual with the features {', '.join(names) or '(none)'}",
            "a simulated customer's context is its segment: declare {name: segment, kind: category}",
        )
    return Contexts(experiment, world)


def over_shares(values: Ints, shares: Ints) -> np.ndarray:
    """`over_propensity` of each value and share over 2^32, (n,): integers of any size.

    >>> over_shares(np.array([3, 0]), np.array([1 << 30, 0])).tolist() == [3 * 4 << 32, 0]
    True
    """
    found = np.zeros(len(values), dtype=object)
    has = np.flatnonzero((values != 0) & (shares != 0))
    pairs = zip(values[has].tolist(), shares[has].tolist(), strict=True)
    found[has] = np.array([over_propensity(*pair) for pair in pairs], dtype=object)
    return found


def with_contexts(
    vectors: Mapping[str, Ints], features: Sequence[str], context: NDArray[np.str_], share: Ints
) -> dict[str, np.ndarray]:
    """The vectors with what is kept of contexts and propensities; `context` and `share` of each customer."""
    found: dict[str, np.ndarray] = dict(vectors)
    for name in features:
        if name.endswith(OVER_P):
            found[name] = over_shares(vectors[name.removesuffix(OVER_P)], share)
        elif name not in vectors:
            found[name] = np.where(context == name, vectors["units"], 0)
    return found


def divided(features: Sequence[str]) -> tuple[str, ...]:
    """Of these features those the ledger keeps over the propensity too, named so."""
    return tuple(name + OVER_P for name in features if name in DIVIDED)
