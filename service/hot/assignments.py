"""Assignments of one batch in one store: looked up together, kept current while they are decided."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from experiments.allocation.features import Encoded
from service.catalogue import StoreState
from service.decision_ids import DecisionRef
from service.hot import statements
from service.hot.ledger import HotLedger, Round, Sets, Units, groups_of, json_text, units_of
from service.ledger.shown import OFFER

Place = tuple[int, int]  # experiment_no, unit_no


class Enrolled(NamedTuple):
    """A row of `assignment`, in the order of its columns."""

    unit_no: int
    experiment_no: int
    period: int
    variant_no: int
    share: int
    set_no: int
    policy_version: int
    epoch: int
    segment: str
    is_forced: bool
    at_us: int

    @property
    def ref(self) -> DecisionRef:
        """What its decision id names."""
        return DecisionRef(self.experiment_no, self.unit_no, self.period)


@dataclass(slots=True)
class Assignments:
    """What the requests of one batch touch, and what they add."""

    batch: Round
    store: StoreState
    at_us: int  # the machine's time, for the marks
    units: Units
    groups: Mapping[int, list[int]]  # the units that are one with a unit, where there are others
    rows: dict[Place, list[Enrolled]]
    last_shown: dict[DecisionRef, str]
    sets: dict[int, Sets]  # by experiment_no

    def next_period(self, experiment_no: int, unit_no: int) -> int:
        """The period a new enrolment of the unit would have."""
        return 1 + max((row.period for row in self.rows.get((experiment_no, unit_no), ())), default=-1)

    def set_number(self, experiment_no: int, candidates: tuple[str, ...]) -> int:
        """The number of a candidate set, given when it is first seen."""
        known, new = self.sets[experiment_no], self.batch.sets.setdefault(experiment_no, {})
        number = known.get(candidates) or new.get(candidates)
        if number is None:
            number = new[candidates] = 1 + max((*known.values(), *new.values()), default=0)
            row = (experiment_no, number, json_text(candidates))
            self.batch.add(statements.CANDIDATE_SET, row)
        return number

    def add(
        self,
        row: Enrolled,
        rejected: Mapping[str, str],
        context: Mapping[str, Any],
        features: Encoded | None = None,
    ) -> None:
        """Add an assignment with what explains it, and the features of its context where any are declared."""
        self.rows.setdefault((row.experiment_no, row.unit_no), []).append(row)
        self.batch.add(statements.ASSIGNMENT, row)
        self.batch.add(statements.MARK, (self.store.store_no, row.unit_no, None, self.at_us, None))
        if rejected or context:
            texts = (json_text(rejected), json_text(context))
            self.batch.add(statements.DECISION_CONTEXT, (*row[:3], *texts))
        if features is not None:
            self.batch.add(statements.ENROLMENT_FEATURES, (*row[:3], json_text(features)))

    def note_shown(self, row: Enrolled, at_us: int, what: str, *, is_first: bool = False) -> None:
        """Note what is shown of an assignment, where that has changed; at first it is the offer."""
        if is_first and what == OFFER:
            return
        ref = row.ref
        if self.last_shown.get(ref, OFFER) != what:
            self.last_shown[ref] = what
            self.batch.add(statements.SHOWN_CHANGE, (*row[:3], at_us, what, is_first))


async def read_assignments(
    ledger: HotLedger,
    batch: Round,
    store: StoreState,
    raw_ids: Collection[str],
    experiment_nos: Collection[int],
    at_us: int,
) -> Assignments:
    """The assignments of these units, and of those that are one with them, in these experiments."""
    units = await units_of(ledger, batch, store, raw_ids)
    rows: dict[Place, list[Enrolled]] = {}
    last_shown: dict[DecisionRef, str] = {}
    groups: Mapping[int, list[int]] = {}
    known = set(units.numbers.values())
    if known:
        groups = await groups_of(ledger, known)
        members = known.union(*groups.values())
        for found in await ledger.lookup(statements.ASSIGNMENTS, (), members):
            row = Enrolled(*found)
            if row.experiment_no in experiment_nos:
                rows.setdefault((row.experiment_no, row.unit_no), []).append(row)
        if rows:
            last_shown = await _last_shown(ledger, {unit_no for _, unit_no in rows})
    sets = {experiment_no: await ledger.candidate_sets(experiment_no) for experiment_no in experiment_nos}
    return Assignments(batch, store, at_us, units, groups, rows, last_shown, sets)


async def _last_shown(ledger: HotLedger, unit_nos: Collection[int]) -> dict[DecisionRef, str]:
    newest: dict[DecisionRef, tuple[int, str]] = {}
    rows = await ledger.lookup(statements.SHOWN, (), unit_nos)
    for unit_no, experiment_no, period, reason, shown_no in rows:
        ref = DecisionRef(experiment_no, unit_no, period)
        newest[ref] = max(newest.get(ref, (0, "")), (shown_no, reason))
    return {ref: reason for ref, (_, reason) in newest.items()}
