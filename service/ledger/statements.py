"""Statements several writers share."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from msgspec.json import encode
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    CursorResult,
    Delete,
    Dialect,
    Select,
    Table,
    Text,
    UpdateBase,
    bindparam,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY, psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.sql.elements import KeyedColumnElement
from sqlalchemy.sql.expression import any_

from service.ledger.sqlite_rows import insert_rows

Value = TypeVar("Value")
_Statement = Select[*tuple[Any, ...]] | UpdateBase
_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": pysqlite.dialect(paramstyle="qmark"),
    "postgresql": psycopg.dialect(paramstyle="format"),
}
CHUNK = 5000  # SQLite takes at most 32,766 parameters a statement, PostgreSQL 65,535


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those whose key exists already stay as they are."""
    if rows:
        connection.execute(_insert(connection.dialect, table).on_conflict_do_nothing(), list(rows))


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or replace those with the same primary key."""
    if rows:
        connection.execute(_replacing(connection.dialect, table), list(rows))


def add_up(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of counts, or add them to those with the same primary key."""
    if rows:
        keys = [column.name for column in table.primary_key]
        statement = _insert(connection.dialect, table)
        added = {c.name: c + statement.excluded[c.name] for c in table.columns if c.name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=added), list(rows))


def upsert_tuples(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """The same for whole rows in the order of the table's columns, as the driver takes them, JSON as text."""
    text = _replacing_text(connection.dialect.name, table)
    raw = connection.connection.driver_connection
    if isinstance(raw, sqlite3.Connection):
        insert_rows(raw, text, rows)
    elif rows:
        connection.exec_driver_sql(text, list(rows))


class Prepared:
    """A statement as the drivers take it, compiled once for each: values and rows are theirs, JSON is text.

    SQLAlchemy costs more for each value and row than the databases do.
    """

    def __init__(self, sqlite: _Statement, postgresql: _Statement | None = None) -> None:
        """The same statement for both databases, unless there is one for PostgreSQL."""
        self._compiled = {
            "sqlite": _Compiled("sqlite", sqlite),
            "postgresql": _Compiled("postgresql", sqlite if postgresql is None else postgresql),
        }

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Execute it with these parameters."""
        compiled = self._compiled[connection.dialect.name]
        given = {**compiled.values, **values}
        return connection.exec_driver_sql(compiled.text, tuple(given[name] for name in compiled.names))


class ByKeys:
    """A prepared statement about the rows where a column is one of many keys, which are one parameter."""

    def __init__(self, statement: Select[*tuple[Any, ...]] | Delete, column: KeyedColumnElement[Any]) -> None:
        listed = func.json_each(bindparam("keys", type_=Text())).table_valued("value")
        array = bindparam("keys", type_=ARRAY(column.type))
        self._prepared = Prepared(
            statement.where(column.in_(select(listed.c.value))), statement.where(column == any_(array))
        )

    def rows(self, connection: Connection, keys: Collection[Any], **equal: Any) -> Sequence[Any]:
        """The rows of these keys, as the driver makes them; `equal` are the statement's own parameters."""
        return fetched(self._execute(connection, keys, equal)) if keys else ()

    def count(self, connection: Connection, keys: Collection[Any]) -> int:
        """Execute it; how many rows it concerned."""
        return self._execute(connection, keys, {}).rowcount if keys else 0

    def _execute(
        self, connection: Connection, keys: Collection[Any], equal: Mapping[str, Any]
    ) -> CursorResult[Any]:
        is_array = connection.dialect.name == "postgresql"
        wanted = list(keys) if is_array else encode(list(keys)).decode()
        return self._prepared.execute(connection, {**equal, "keys": wanted})


@contextmanager
def found_by_key(connection: Connection) -> Generator[None]:
    """Have rows found by their keys meanwhile, whatever PostgreSQL's statistics say.

    Many keys at once, and a table that has grown since it was last looked at, make it read whole tables: for
    a thousand units the events of all, slice after slice.
    """
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres:
        connection.exec_driver_sql("; ".join(f"SET LOCAL {name} TO {value}" for name, value in _BY_KEY))
    yield
    if is_postgres:  # had it failed, all this transaction has set would be gone with it
        connection.exec_driver_sql("; ".join(f"SET LOCAL {name} TO DEFAULT" for name, _ in _BY_KEY))


_BY_KEY = (
    *((f"enable_{plan}", "off") for plan in ("seqscan", "hashjoin", "mergejoin")),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
)


def fetched(result: CursorResult[*tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    """All rows as the driver makes them: SQLAlchemy's own take longer to make and to take apart."""
    assert result.cursor is not None
    rows = result.cursor.fetchall()
    result.close()
    return rows


class _Compiled:
    """A statement's text, the values it brings itself, and its parameters in order."""

    def __init__(self, kind: str, statement: _Statement) -> None:
        compiled = statement.compile(dialect=_DIALECTS[kind])
        self.text = str(compiled)
        self.values: dict[str, Any] = dict(compiled.params)
        self.names: Sequence[str] = getattr(compiled, "positiontup")  # noqa: B009 - of SQL compilers alone


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


def _replacing(dialect: Dialect, table: Table) -> UpdateBase:
    keys = [column.name for column in table.primary_key]
    statement = _insert(dialect, table)
    changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


@lru_cache
def _replacing_text(kind: str, table: Table) -> str:
    dialect = _DIALECTS[kind]
    return str(_replacing(dialect, table).compile(dialect=dialect))


def _insert(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, which either dialect spells in a class of its own."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)
