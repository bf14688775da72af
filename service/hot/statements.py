"""Driver-level statements, compiled once from the tables: what a batch looks up and what it appends.

SQLAlchemy Core costs more per row than the database does. Its compiler is used here, at import, and the
drivers are handed text and tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import asyncpg as postgres
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.sql.expression import any_

from service.ledger import schema

_SQLITE = pysqlite.dialect(paramstyle="qmark")
_POSTGRES = postgres.dialect()


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows where a column is one of many keys; the keys come last among the parameters."""

    sqlite: str  # up to the opening parenthesis of the list of keys
    postgres: str


@dataclass(frozen=True, slots=True)
class Append:
    """Rows added to a table, as tuples in the order of its columns."""

    table: str
    sqlite: str
    postgres: str


def _lookup(columns: Sequence[Column[Any]], within: Column[Any], *equal: Column[Any]) -> Lookup:
    wanted = [column == bindparam(f"equal_{i}", type_=column.type) for i, column in enumerate(equal)]
    plain = str(select(*columns).where(*wanted).compile(dialect=_SQLITE))
    link = "AND" if equal else "WHERE"
    keys = bindparam("keys", type_=ARRAY(within.type))
    arrays = select(*columns).where(*wanted, within == any_(keys))
    return Lookup(
        sqlite=f"{plain} {link} {within.table.name}.{within.name} IN (",
        postgres=str(arrays.compile(dialect=_POSTGRES)),
    )


def _append(table: Table, *, numbered_by: str | None = None) -> Append:
    """An append of whole rows, but for the column the database numbers them by."""
    columns = [column for column in table.columns if column.name != numbered_by]
    types = (column.type.compile(dialect=_POSTGRES) for column in columns)
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))
    names = ", ".join(column.name for column in columns)
    places = ", ".join("?" for _ in columns)
    return Append(
        table=table.name,
        sqlite=f"INSERT INTO {table.name} ({names}) VALUES ({places})",
        # A row that is there already is one that another replica has just written: the count tells.
        postgres=f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING",
    )


_assignment, _event, _person, _shown = schema.assignment.c, schema.event.c, schema.person.c, schema.shown.c

UNITS_BY_HASH = _lookup(
    [schema.unit_key.c.hash16, schema.unit_key.c.unit_no],
    schema.unit_key.c.hash16,
    schema.unit_key.c.store_no,
)
RAW_IDS = _lookup([schema.unit.c.unit_no, schema.unit.c.raw_id], schema.unit.c.unit_no)
PERSONS = _lookup([_person.unit_no, _person.person_no], _person.unit_no)
MEMBERS = _lookup([_person.unit_no, _person.person_no], _person.person_no)
ASSIGNMENTS = _lookup(list(_assignment), _assignment.unit_no)
SHOWN = _lookup(
    [_shown.unit_no, _shown.experiment_no, _shown.period, _shown.reason, _shown.shown_no], _shown.unit_no
)
CANDIDATE_SETS = _lookup(list(schema.candidate_set.c), schema.candidate_set.c.experiment_no)
EVENT_DIGESTS = _lookup([_event.event_id, _event.digest], _event.event_id, _event.store_no)
ORDERS = _lookup(
    [_event.type, _event.order_id, _event.refund_id, _event.digest, _event.body],
    _event.order_id,
    _event.store_no,
)

UNIT = _append(schema.unit)
UNIT_KEY = _append(schema.unit_key)
PERSON = _append(schema.person)
CANDIDATE_SET = _append(schema.candidate_set)
ASSIGNMENT = _append(schema.assignment)
DECISION_CONTEXT = _append(schema.decision_context)
EVENT = _append(schema.event)
EVENT_UNIT = _append(schema.event_unit)
SHOWN_CHANGE = _append(schema.shown, numbered_by="shown_no")
MARK = _append(schema.mark, numbered_by="mark_no")
