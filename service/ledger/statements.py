"""Statements several writers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import BigInteger, BindParameter, Connection, Table, UpdateBase, literal
from sqlalchemy.dialects import postgresql, sqlite

Value = TypeVar("Value")
CHUNK = 5000  # SQLite takes at most 32,766 parameters a statement, PostgreSQL 65,535


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those whose key exists already stay as they are."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), list(rows))


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or replace those with the same primary key."""
    if not rows:
        return
    connection.execute(_replacing(connection, table), list(rows))


def upsert_encoded(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """The same for rows whose JSON is text already."""
    execute_encoded(connection, _replacing(connection, table), rows)


def execute_encoded(connection: Connection, statement: UpdateBase, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run a statement for rows whose values are as the driver takes them, JSON as text."""
    if not rows:
        return
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(rows[0]))
    if compiled.positiontup is not None:
        values: Any = [tuple(row[name] for name in compiled.positiontup) for row in rows]
    else:
        values = list(rows)
    connection.exec_driver_sql(str(compiled), values)


def comparable(text: str) -> str:
    """A text from outside, as all databases can compare it; one that no row may hold still finds none."""
    return text.replace("\x00", "\ufffd")  # PostgreSQL knows no U+0000, and refuses to look for it


def number(value: int) -> BindParameter[int]:
    """A number from outside, which may be beyond those of the column it is compared with."""
    return literal(value, BigInteger)


def chunks(values: Iterable[Value], size: int = CHUNK) -> Iterator[list[Value]]:
    """The values in lists short enough for one statement."""
    everything = list(values)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


def _replacing(connection: Connection, table: Table) -> UpdateBase:
    keys = [column.name for column in table.primary_key]
    statement = _insert(connection, table)
    changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, which either dialect spells in a class of its own."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
