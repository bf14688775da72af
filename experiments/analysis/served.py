"""The shares that were served, by epoch: what a cell's units were assigned with.

An epoch is a run of versions with equal shares, so its first version says the propensity of every unit of
its cells, by candidate set (and by segment, where the policy tells segments apart).
"""

from collections.abc import Iterable, Mapping
from functools import cache

from experiments.allocation.caps import WHOLE
from experiments.allocation.published import PolicyVersion
from experiments.statistics import Cell

ServedPlace = tuple[int, frozenset[str], str]
"""(epoch, candidates, segment): where shares are equal for all units."""

EpochShares = Mapping[ServedPlace, Mapping[str, float]]
"""The share of every candidate there, sum 1. A place without an entry is one whose shares are not known."""


def served_place(cell: Cell) -> ServedPlace:
    """Where a cell's units had their shares; the same however its candidate set is numbered."""
    return cell.key.epoch, cell.candidates, cell.key.segment


def epoch_shares(versions: Mapping[int, PolicyVersion], cells: Iterable[Cell]) -> EpochShares:
    """The shares that the units of the cells were assigned with, from the first version of each epoch.

    An epoch without a version, and one in which every context had shares of its own, has no entry.

    >>> from experiments.allocation.published import Cause, SetShares
    >>> half = SetShares({"none": 1 << 31, "socks": 1 << 31})
    >>> version = PolicyVersion(1, 1, 0, Cause.STARTED, "none", {("none", "socks"): half})
    >>> from datetime import date
    >>> from experiments.statistics import CellKey
    >>> cell = Cell(CellKey("socks", "vip", 3, date(2026, 3, 2), 1), frozenset({"none", "socks"}))
    >>> list(epoch_shares({1: version}, [cell]).values())
    [{'none': 0.5, 'socks': 0.5}]
    """

    @cache
    def served(epoch: int, candidates: frozenset[str], segment: str) -> Mapping[str, float] | None:
        version = versions.get(epoch)
        if version is None or version.contextual is not None:
            return None
        shares = version.shares_for(sorted(candidates), segment=segment)
        return {key: share / WHOLE for key, share in shares.items()}

    found = {place: served(*place) for place in dict.fromkeys(map(served_place, cells))}
    return {place: shares for place, shares in found.items() if shares is not None}
