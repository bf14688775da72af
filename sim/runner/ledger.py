"""What the ledger's folder would hold of simulated customers: rollup cells, kept up to date in arrays.

A batch of customers enters with its variants; from then on only those of whom something new has become known
are folded again, the old vector taken out of their cell and the new one put in, as the service does it. All
batches are folded together, so that a year of small days costs little more than its customers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from experiments.allocation.capping import new_caps
from experiments.fold import FoldRules
from experiments.model import Experiment, PolicyKind
from experiments.statistics import MONEY_TOTALS, Cell, CellKey
from sim.runner.batch import Batch, in_portions
from sim.runner.contexts import with_contexts
from sim.runner.histograms import count
from sim.runner.moments import EVERYTHING, Kept, put
from sim.runner.vectors import MONTHS, Known, orders_until
from sim.worlds.cells import Ints
from sim.worlds.outcomes import Outcomes

ROWS_MAX = 1 << 14
"""About how many customers are folded at once, so that a day of any size takes bounded memory."""


@dataclass(frozen=True, slots=True)
class Group:
    """Where customers of a batch are counted: a variant, and a segment where the experiment asks for it.

    Under a contextual policy their context, by its name in the vector, and the share they were given, over
    2^32.
    """

    variant: str
    segment: str
    candidate_set: int
    candidates: frozenset[str]
    context: str = ""
    share: int = 0


@dataclass(frozen=True, slots=True)
class _Entered:
    """A batch, its groups, and the number of the first of them among the groups of all batches."""

    batch: Batch
    groups: tuple[Group, ...]
    first: int


class SimulatedLedger:
    """Rollup cells of an experiment under one world, with their caps; `kept` is what they hold."""

    def __init__(self, experiment: Experiment, kept: Kept = EVERYTHING) -> None:
        self._rules = FoldRules(experiment, "UTC")
        self._kept = kept
        self._entered: list[_Entered] = []
        self._groups = 0
        self._cells: dict[CellKey, Cell] = {}
        self._has_contexts = experiment.policy.kind is PolicyKind.CONTEXTUAL

    @property
    def cells(self) -> list[Cell]:
        """The cells as of the last `advance`."""
        return list(self._cells.values())

    @property
    def caps(self) -> Mapping[str, tuple[int, int]]:
        """The caps that are fixed."""
        return self._rules.caps

    def relevant(self, outcomes: Outcomes) -> Outcomes:
        """The outcomes without the later orders that nothing which is kept can show."""
        return outcomes if self._kept.has_any(MONTHS) else orders_until(outcomes, self._rules.window_us)

    def enter(self, batch: Batch, groups: Sequence[Group]) -> None:
        """Take in a batch; its customers show in the cells as they arrive."""
        self._entered.append(_Entered(batch, tuple(groups), self._groups))
        self._groups += len(groups)

    def advance(self, now_us: int) -> list[Cell]:
        """Fold what has become known by now; the cells."""
        found = [one.batch.due(now_us, one.first) for one in self._entered]
        for people in in_portions([one for one in found if one is not None], ROWS_MAX):
            rows, before = people.known_before(self._rules)
            after = people.known(self._rules)
            group = np.concatenate([people.group, people.group[rows]])
            cells = self._cells_of(group)
            self._put(cells, group, after, before)
            count(cells, group, (after, before))
        if self._are_caps_final:
            self._entered = [one for one in self._entered if not one.batch.is_settled]
        return self.cells

    def fix_caps(self, now: datetime) -> None:
        """Fix the caps that can be fixed now, and fold everybody again under them."""
        experiment = self._rules.experiment
        found = new_caps(experiment, self.cells, self._rules.caps, time_zone="UTC", now=now)
        if not found:
            return
        rules = replace(self._rules, caps={**self._rules.caps, **found})
        everybody = [one.batch.all_known(one.first) for one in self._entered]
        for people in in_portions([one for one in everybody if one is not None], ROWS_MAX):
            group = np.concatenate([people.group, people.group])
            self._put(self._cells_of(group), group, people.known(rules), people.known(self._rules))
        self._rules = rules

    @property
    def _are_caps_final(self) -> bool:
        return self._rules.experiment.winsorise is None or len(self._rules.caps) == len(MONEY_TOTALS)

    def _put(self, cells: Mapping[int, Cell], group: Ints, after: Known, before: Known) -> None:
        """Replace the vectors of before by those of after; `group` of both, one after the other."""
        new, old = after.vectors(self._kept.features), before.vectors(self._kept.features)
        vectors = {name: np.concatenate([new[name], old[name]]) for name in new}
        if self._has_contexts:
            numbers, place = np.unique(group, return_inverse=True)
            groups = self._groups_of(numbers.tolist())
            context = np.array([one.context for _, one in groups])[place]
            share = np.array([one.share for _, one in groups])[place]
            vectors = with_contexts(vectors, self._kept.features, context, share)
        sign = np.repeat([1, -1], [len(after.age_us), len(before.age_us)])
        put({number: cell.moments for number, cell in cells.items()}, self._kept, group, vectors, sign)

    def _cells_of(self, group: Ints) -> dict[int, Cell]:
        """The cell of each group that occurs, made where there is none yet."""
        cells: dict[int, Cell] = {}
        numbers: list[int] = np.unique(group).tolist()
        for number, (batch, place) in zip(numbers, self._groups_of(numbers), strict=True):
            key = CellKey(place.variant, place.segment, place.candidate_set, batch.day, batch.epoch)
            cells[number] = self._cells.setdefault(key, Cell(key, place.candidates))
        return cells

    def _groups_of(self, numbers: Sequence[int]) -> list[tuple[Batch, Group]]:
        """The batch and the group of each of the numbers, which rise."""
        entered = iter(self._entered)
        one = next(entered)
        found: list[tuple[Batch, Group]] = []
        for number in numbers:
            while number >= one.first + len(one.groups):
                one = next(entered)
            found.append((one.batch, one.groups[number - one.first]))
        return found
