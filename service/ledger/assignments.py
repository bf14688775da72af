"""Assignments of one batch: read in bulk, kept current while they are decided, written together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select

from service.catalogue import StoreState
from service.decision_ids import DecisionRef
from service.ledger import schema
from service.ledger.marks import mark
from service.ledger.shown import OFFER
from service.ledger.statements import chunks
from service.ledger.units import find_units, get_or_create_units, groups_of

Place = tuple[int, int]  # experiment_no, unit_no


@dataclass(frozen=True, slots=True)
class NewRow:
    """An assignment of this batch, with the columns of its row."""

    experiment_no: int
    unit_no: int
    period: int
    variant_no: int
    share: int
    set_no: int
    policy_version: int
    epoch: int
    segment: str
    is_forced: bool
    at_us: int


@dataclass(slots=True)
class Assignments:
    """What the requests of one batch touch, and what they add.

    A unit without a row has a provisional, negative number until `write` numbers the new ones together.
    """

    units: dict[str, int]  # by raw id
    groups: Mapping[int, list[int]]  # the units that are one with a unit
    rows: dict[Place, list[Any]]
    last_shown: dict[DecisionRef, str]
    sets: dict[tuple[int, tuple[str, ...]], int] = field(default_factory=dict)
    added: list[NewRow] = field(default_factory=list)
    contexts: list[tuple[DecisionRef, dict[str, Any]]] = field(default_factory=list)
    shown: list[tuple[DecisionRef, dict[str, Any]]] = field(default_factory=list)

    def number(self, raw_id: str) -> int:
        """The unit's number; a provisional one when it has no row yet."""
        return self.units.setdefault(raw_id, -1 - len(self.units))

    def next_period(self, experiment_no: int, unit_no: int) -> int:
        """The period a new enrolment of the unit would have."""
        return 1 + max((row.period for row in self.rows.get((experiment_no, unit_no), [])), default=-1)

    def add(self, row: NewRow, rejected: Mapping[str, str], context: Mapping[str, Any]) -> DecisionRef:
        """Add an assignment with what explains it."""
        ref = DecisionRef(row.experiment_no, row.unit_no, row.period)
        self.added.append(row)
        self.rows.setdefault((row.experiment_no, row.unit_no), []).append(row)
        if rejected or context:
            self.contexts.append((ref, {"rejected": dict(rejected), "context": dict(context)}))
        return ref

    def note_shown(self, ref: DecisionRef, at_us: int, what: str, *, is_first: bool = False) -> None:
        """Note what is shown of an assignment, where that has changed; at first it is the offer."""
        if self.last_shown.get(ref, OFFER) != what:
            self.last_shown[ref] = what
            self.shown.append((ref, {"at_us": at_us, "reason": what, "is_first": is_first}))


def read(
    connection: Connection, store: StoreState, raw_ids: Iterable[str], experiment_nos: Collection[int]
) -> Assignments:
    """The assignments of these units, and of those that are one with them, in these experiments."""
    units = find_units(connection, store, raw_ids)
    groups = groups_of(connection, units.values())
    members = {member for group in groups.values() for member in group}
    rows: dict[Place, list[Any]] = {}
    table = schema.assignment.c
    for part in chunks(members):
        found = connection.execute(
            select(schema.assignment).where(table.experiment_no.in_(experiment_nos), table.unit_no.in_(part))
        )
        for row in found:
            rows.setdefault((row.experiment_no, row.unit_no), []).append(row)
    last_shown = _last_shown(connection, experiment_nos, {unit_no for _, unit_no in rows})
    return Assignments(units, groups, rows, last_shown)


def write(connection: Connection, store: StoreState, batch: Assignments) -> dict[int, int]:
    """Write what the batch added; the numbers that provisional ones have become."""
    new = {raw_id: number for raw_id, number in batch.units.items() if number < 0}
    made = get_or_create_units(connection, store, new)
    numbers = {number: made[raw_id] for raw_id, number in new.items()}
    assignments = [
        {name: getattr(row, name) for name in NewRow.__slots__}
        | {"unit_no": numbers.get(row.unit_no, row.unit_no)}
        for row in batch.added
    ]
    if assignments:
        connection.execute(insert(schema.assignment), assignments)
        dirty = {row["unit_no"] for row in assignments}
        mark(connection, store.store_no, dirty, ())
    for table, parts in ((schema.decision_context, batch.contexts), (schema.shown, batch.shown)):
        if parts:
            connection.execute(insert(table), [_place(ref, numbers) | values for ref, values in parts])
    return numbers


def set_number(
    connection: Connection, batch: Assignments, experiment_no: int, candidates: tuple[str, ...]
) -> int:
    """The number of a candidate set, given when it is first seen."""
    known = batch.sets.get((experiment_no, candidates))
    if known is not None:
        return known
    table = schema.candidate_set
    rows = connection.execute(select(table).where(table.c.experiment_no == experiment_no)).all()
    batch.sets |= {(experiment_no, tuple(row.members)): row.set_no for row in rows}
    if (experiment_no, candidates) not in batch.sets:
        set_no = 1 + max((row.set_no for row in rows), default=0)
        values = {"experiment_no": experiment_no, "set_no": set_no, "members": list(candidates)}
        connection.execute(insert(table), values)
        batch.sets[experiment_no, candidates] = set_no
    return batch.sets[experiment_no, candidates]


def _last_shown(
    connection: Connection, experiment_nos: Collection[int], unit_nos: set[int]
) -> dict[DecisionRef, str]:
    shown = schema.shown.c
    last: dict[DecisionRef, str] = {}
    for part in chunks(unit_nos):
        newest = (
            select(func.max(shown.shown_no))
            .where(shown.experiment_no.in_(experiment_nos), shown.unit_no.in_(part))
            .group_by(shown.experiment_no, shown.unit_no, shown.period)
        )
        for row in connection.execute(select(schema.shown).where(shown.shown_no.in_(newest))):
            last[DecisionRef(row.experiment_no, row.unit_no, row.period)] = row.reason
    return last


def _place(ref: DecisionRef, numbers: Mapping[int, int]) -> dict[str, Any]:
    unit_no = numbers.get(ref.unit_no, ref.unit_no)
    return {"experiment_no": ref.experiment_no, "unit_no": unit_no, "period": ref.period}
