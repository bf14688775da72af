"""Driver-level statements, compiled once from the tables: what a batch looks up and what it appends.

SQLAlchemy Core costs more per row than the database does. Its compiler is used here, at import, and the
drivers are handed text and tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

from sqlalchemy import Table, Text, bindparam, cast, literal_column, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import asyncpg as postgres
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.sql.elements import KeyedColumnElement
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
    columns: tuple[str, ...]
    arrays: tuple[str, ...]
    """The type of each column's values on PostgreSQL."""


def _lookup(
    columns: Sequence[KeyedColumnElement[Any]],
    within: KeyedColumnElement[Any],
    *equal: KeyedColumnElement[Any],
) -> Lookup:
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
    names = tuple(column.name for column in columns)
    places = ", ".join("?" for _ in columns)
    return Append(
        table=table.name,
        sqlite=f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})",
        columns=names,
        arrays=tuple(f"{column.type.compile(dialect=_POSTGRES)}[]" for column in columns),
    )


@cache
def appended_at_once(appends: tuple[Append, ...]) -> str:
    """One statement of PostgreSQL that adds rows to all these tables, in this order; an array per column.

    Its parts run last one first: the manual promises no order, so nothing but waiting may depend on it.
    """
    number = count(1)
    parts: list[str] = []
    for append in appends:
        values = ", ".join(f"unnest(${next(number)}::{kind})" for kind in append.arrays)
        names = ", ".join(append.columns)
        parts.append(f"{append.table}_ AS (INSERT INTO {append.table} ({names}) SELECT {values})")
    return f"WITH {', '.join(reversed(parts))} SELECT"


_assignment, _event, _person, _shown = schema.assignment.c, schema.event.c, schema.person.c, schema.shown.c
_archived, _old_order = schema.archived_event.c, schema.archived_order.c
_body = cast(_event.body, Text).label("body")

UNITS_BY_HASH = _lookup(
    [schema.unit_key.c.hash16, schema.unit_key.c.unit_no],
    schema.unit_key.c.hash16,
    schema.unit_key.c.store_no,
)
RAW_IDS = _lookup([schema.unit.c.unit_no, schema.unit.c.raw_id], schema.unit.c.unit_no)
PERSONS = _lookup([_person.unit_no, _person.person_no], _person.unit_no)
MEMBERS = _lookup([_person.unit_no, _person.person_no], _person.person_no)
ASSIGNMENTS = _lookup(list(_assignment), _assignment.unit_no)
DECISIONS = _lookup([_assignment.experiment_no, _assignment.unit_no, _assignment.period], _assignment.unit_no)
SHOWN = _lookup(
    [_shown.unit_no, _shown.experiment_no, _shown.period, _shown.reason, _shown.shown_no], _shown.unit_no
)
CANDIDATE_SETS = _lookup(list(schema.candidate_set.c), schema.candidate_set.c.experiment_no)

# Hot and archived events in one statement: one that is just being archived is in the one or the other.
_keys = union_all(
    select(_event.event_no, _event.store_no, _event.event_id, _event.digest),
    select(_archived.event_no, _archived.store_no, _archived.event_id, _archived.digest),
).subquery("event_key")
EVENT_DIGESTS = _lookup([_keys.c.event_id, _keys.c.digest], _keys.c.event_id, _keys.c.store_no)
DIGESTS_BY_NUMBER = _lookup([_keys.c.event_id, _keys.c.digest], _keys.c.event_no)
EVENTS_BY_KEY = _lookup(
    [schema.event_by_key.c.hash16, schema.event_by_key.c.event_no], schema.event_by_key.c.hash16
)

_orders = union_all(
    select(_event.store_no, _event.type, _event.order_id, _event.refund_id, _event.digest, _body),
    select(
        _old_order.store_no,
        literal_column("CASE WHEN archived_order.currency IS NULL THEN 'change' ELSE 'order' END").label(
            "type"
        ),
        _old_order.order_id,
        _old_order.refund_id,
        _old_order.digest,
        literal_column("""'{"currency":"' || coalesce(archived_order.currency, '') || '"}'""").label("body"),
    ),
).subquery("order_event")
ORDERS = _lookup(
    [_orders.c.type, _orders.c.order_id, _orders.c.refund_id, _orders.c.digest, _orders.c.body],
    _orders.c.order_id,
    _orders.c.store_no,
)

UNIT = _append(schema.unit)
UNIT_KEY = _append(schema.unit_key)
PERSON = _append(schema.person)
CANDIDATE_SET = _append(schema.candidate_set)
ASSIGNMENT = _append(schema.assignment)
DECISION_CONTEXT = _append(schema.decision_context)
ENROLMENT_FEATURES = _append(schema.enrolment_features)
EVENT = _append(schema.event)
EVENT_UNIT = _append(schema.event_unit)
SHOWN_CHANGE = _append(schema.shown, numbered_by="shown_no")
MARK = _append(schema.mark, numbered_by="mark_no")
