"""What the ledger's folder would hold of simulated customers: rollup cells, kept up to date in arrays.

A batch of customers enters with its variants; from then on only those of whom something new has become known
are folded again, the old vector taken out of their cell and the new one put in, as the service does it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache

import numpy as np

from experiments.allocation.capping import new_caps
from experiments.fold import FoldRules
from experiments.model import Experiment
from experiments.statistics import MONEY_TOTALS, Cell, CellKey, Moments, product_name
from sim.runner.vectors import VECTOR, Known, change_times, part_of
from sim.worlds.cells import Ints
from sim.worlds.customers import Customers
from sim.worlds.outcomes import Outcomes

EXACT = float(1 << 53)
"""Below, sums of floating point products of integers are exact."""


@dataclass(frozen=True, slots=True)
class Group:
    """Where customers of a batch are counted: a variant, and a segment where the experiment asks for it."""

    variant: str
    segment: str
    candidate_set: int
    candidates: frozenset[str]


class Batch:
    """Customers of one day who were assigned under one policy version; those who are settled are let go."""

    def __init__(
        self, day: date, epoch: int, midnight_us: int, customers: Customers, outcomes: Outcomes, group: Ints
    ) -> None:
        self.day, self.epoch, self._midnight_us = day, epoch, midnight_us
        self._arrival_us = customers.arrival_us
        self._pre_margin_minor = customers.pre_margin_minor
        self._outcomes = outcomes
        self._group = group
        times = change_times(outcomes)
        known = times >= 0
        self._who = np.broadcast_to(np.arange(len(customers)), times.shape)[known]
        self._when = times[known] + self._arrival_us[self._who]
        order = np.argsort(self._when, kind="stable")
        self._who, self._when = self._who[order], self._when[order]
        self._at_us = -1
        self._place = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come."""
        return self._place == len(self._when)

    def changes(self, rules: FoldRules, now_us: int) -> "Changes | None":
        """Vectors before and now of those of whom something new is known; `now_us` since 1970."""
        at_us = now_us - self._midnight_us
        end = int(np.searchsorted(self._when, at_us, side="right"))
        rows = np.unique(self._who[self._place : end])
        before_us, self._at_us, self._place = self._at_us, at_us, end
        if not len(rows):
            return None
        return Changes(
            self._group[rows], self._known(rules, rows, before_us), self._known(rules, rows, at_us)
        )

    def folded_again(self, rules: FoldRules, new_rules: FoldRules) -> "Changes | None":
        """Everybody's vectors under other rules (caps that were fixed)."""
        rows = np.unique(self._who[: self._place])
        if not len(rows):
            return None
        old, new = (self._known(one, rows, self._at_us) for one in (rules, new_rules))
        return Changes(self._group[rows], old, new)

    def _known(self, rules: FoldRules, rows: Ints, at_us: int) -> Known:
        arrival = self._arrival_us[rows]
        return Known(
            rules, part_of(self._outcomes, rows), self._pre_margin_minor[rows], arrival, at_us - arrival
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """Some customers of a batch: the group of each, and what was and is known of them."""

    group: Ints
    old: Known
    new: Known


class SimulatedLedger:
    """Rollup cells of an experiment under one world, with their caps."""

    def __init__(self, experiment: Experiment, features: Sequence[str] = VECTOR) -> None:
        self._rules = FoldRules(experiment, "UTC")
        self._features = tuple(features)
        self._batches: list[tuple[Batch, list[Group]]] = []
        self._cells: dict[CellKey, Cell] = {}

    @property
    def cells(self) -> list[Cell]:
        """The cells as of the last `advance`."""
        return list(self._cells.values())

    @property
    def caps(self) -> Mapping[str, tuple[int, int]]:
        """The caps that are fixed."""
        return self._rules.caps

    def enter(self, batch: Batch, groups: Sequence[Group]) -> None:
        """Take in a batch; its customers show in the cells as they arrive."""
        self._batches.append((batch, list(groups)))

    def advance(self, now_us: int) -> list[Cell]:
        """Fold what has become known by now; the cells."""
        for batch, groups in self._batches:
            changes = batch.changes(self._rules, now_us)
            if changes is not None:
                self._apply(batch, groups, changes)
        if self._are_caps_final:
            self._batches = [pair for pair in self._batches if not pair[0].is_settled]
        return self.cells

    def fix_caps(self, now: datetime) -> None:
        """Fix the caps that can be fixed now, and fold everybody again under them."""
        experiment = self._rules.experiment
        found = new_caps(experiment, self.cells, self._rules.caps, time_zone="UTC", now=now)
        if not found:
            return
        rules = replace(self._rules, caps={**self._rules.caps, **found})
        for batch, groups in self._batches:
            changes = batch.folded_again(self._rules, rules)
            if changes is not None:
                self._apply(batch, groups, changes, moments_only=True)
        self._rules = rules

    @property
    def _are_caps_final(self) -> bool:
        return self._rules.experiment.winsorise is None or len(self._rules.caps) == len(MONEY_TOTALS)

    def _apply(
        self, batch: Batch, groups: Sequence[Group], changes: Changes, *, moments_only: bool = False
    ) -> None:
        old, new = (self._matrix(known) for known in (changes.old, changes.new))
        order = np.argsort(changes.group, kind="stable")
        ordered = changes.group[order]
        present, starts = np.unique(ordered, return_index=True)
        cells = {int(g): self._cell(batch, groups[int(g)]) for g in present}
        for g, low, high in zip(present, starts, [*starts[1:], len(ordered)], strict=True):
            rows = order[low:high]
            _add(cells[int(g)].moments, self._features, old[:, rows], new[:, rows])
        if not moments_only:
            for known, sign in ((changes.old, -1), (changes.new, 1)):
                _count(cells, changes.group, known.bins(), sign)

    def _matrix(self, known: Known) -> Ints:
        vectors = known.vectors()
        return np.stack([vectors[name] for name in self._features])

    def _cell(self, batch: Batch, group: Group) -> Cell:
        key = CellKey(group.variant, group.segment, group.candidate_set, batch.day, batch.epoch)
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = Cell(key, group.candidates)
        return found


def _add(moments: Moments, names: tuple[str, ...], old: Ints, new: Ints) -> None:
    """Take the old vectors out and put the new ones in; (features, customers) each."""
    _accumulate(moments.sums, names, (new.sum(axis=1) - old.sum(axis=1)))
    products = _products(new) - _products(old)
    _accumulate(moments.products, _pairs(names), products[np.triu_indices(len(names))])


def _products(vectors: Ints) -> np.ndarray:
    """Sums over customers of all products of features, exact: (features, features).

    Ratings are fixed point, and their squares beyond what floating point holds: such rows go by integers of
    any size, all others by floating point products of integers, which are exact below 2^53.
    """
    size = np.abs(vectors).max(axis=1, initial=0).astype(np.float64)
    is_wide = size * size * vectors.shape[1] >= EXACT
    narrow = np.where(is_wide[:, None], 0, vectors).astype(np.float64)
    products = (narrow @ narrow.T).astype(np.int64).astype(object)
    every = vectors.astype(object) if is_wide.any() else vectors
    for row in np.flatnonzero(is_wide):
        has = np.flatnonzero(vectors[row])
        products[row] = products[:, row] = every[:, has] @ every[row, has]
    return products


def _accumulate(store: dict[str, int], names: Sequence[str], amounts: np.ndarray) -> None:
    for place in np.flatnonzero(amounts).tolist():
        name = names[place]
        value = store.get(name, 0) + int(amounts[place])
        if value:
            store[name] = value
        else:
            del store[name]


@lru_cache(maxsize=16)
def _pairs(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(product_name(one, other) for index, one in enumerate(names) for other in names[index:])


def _count(cells: Mapping[int, Cell], group: Ints, bins: Mapping[str, Ints], sign: int) -> None:
    """Add or remove one unit for each customer's bin in the histograms of its group's cell."""
    for name, values in bins.items():
        has = np.flatnonzero(values)
        if not len(has):
            continue
        pairs, counts = np.unique(np.stack([group[has], values[has]]), axis=1, return_counts=True)
        for g, bin_number, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
            histograms = cells[g].histograms
            histogram = histograms.setdefault(name, {})
            left = histogram.get(bin_number, 0) + sign * count
            if left:
                histogram[bin_number] = left
            else:
                del histogram[bin_number]
            if not histogram:
                del histograms[name]
