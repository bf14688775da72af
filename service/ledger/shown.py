"""What was shown of assignments and when: the rows of changes, and the offer they began with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from service.decision_ids import DecisionRef
from service.ledger import schema
from service.ledger.statements import chunks

OFFER = "offer"
"""What is shown of an assignment as long as no row says otherwise."""


@dataclass(frozen=True, slots=True)
class Step:
    """From this instant on a unit was shown the offer, or nothing and why."""

    ref: DecisionRef
    at_us: int
    what: str


def steps_of(connection: Connection, assignments: Sequence[Any]) -> list[Step]:
    """What was shown of these assignment rows, each in time order."""
    changes = _changes(connection, {row.unit_no for row in assignments})
    steps: list[Step] = []
    for row in assignments:
        ref = DecisionRef(row.experiment_no, row.unit_no, row.period)
        found = changes.get(ref, [])
        if not any(change.is_first for change in found):
            steps.append(Step(ref, row.at_us, OFFER))
        steps += [Step(ref, change.at_us, change.reason) for change in found]
    return steps


def _changes(connection: Connection, unit_nos: Iterable[int]) -> dict[DecisionRef, list[Any]]:
    found: dict[DecisionRef, list[Any]] = {}
    table = schema.shown
    for part in chunks(unit_nos):
        rows = connection.execute(
            select(table).where(table.c.unit_no.in_(part)).order_by(~table.c.is_first, table.c.shown_no)
        )
        for row in rows:
            found.setdefault(DecisionRef(row.experiment_no, row.unit_no, row.period), []).append(row)
    return found
