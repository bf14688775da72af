"""Which events reach which units, found by unit or by event.

Links are appended to `event_unit`, by event: a few rows to a page. An index by unit would have a page
dirtied for each of them, since a busy shop's next event is of anybody. So on SQLite the links up to a mark
stand by unit in `unit_event`, merged in key order, many to a page; later ones are brought, connection by
connection, into a temporary table of the same key, which dirties no page of the ledger. PostgreSQL has an
ordinary index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    MetaData,
    Select,
    Table,
    bindparam,
    func,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.expression import any_

from service.ledger import schema
from service.ledger.statements import ByKeys, Prepared, fetched, upsert

LINKS_SETTLED = "links_settled"
"""The row of `progress` that says up to which event links stand in `unit_event`; none on PostgreSQL."""

_RECENT = Table(
    "recent_link",
    MetaData(),
    Column("unit_no", BigInteger, primary_key=True),
    Column("event_no", BigInteger, primary_key=True),
    Column("kinds", Integer),
)
_TEMPORARY = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS recent_link (unit_no INTEGER NOT NULL, event_no INTEGER NOT NULL, "
    "kinds INTEGER NOT NULL, PRIMARY KEY (unit_no, event_no)) WITHOUT ROWID",
    # Rolled back with the rows, should what fills them fail.
    "CREATE TEMPORARY TABLE IF NOT EXISTS recent_links (settled INTEGER NOT NULL, through INTEGER NOT NULL)",
)
_COLUMNS = "unit_no, event_no, kinds"
_BEYOND_ALL = 1 << 62, 1 << 62
_SETTLED = f"SELECT value FROM progress WHERE name = '{LINKS_SETTLED}'"

Joined = Callable[[FromClause], Select[*tuple[Any, ...]]]
"""A statement about a table of links, whichever it is."""


class Linked:
    """A prepared statement about links, by unit or by event."""

    def __init__(self, joined: Joined) -> None:
        settled, recent, link = schema.unit_event, _RECENT, schema.event_unit
        is_settled = settled.c.event_no <= bindparam("settled")
        self._settled = ByKeys(joined(settled).where(is_settled), settled.c.unit_no)
        self._recent = ByKeys(joined(recent), recent.c.unit_no)
        self._by_event = ByKeys(joined(link), link.c.event_no)
        # First the links, then what is joined, whatever PostgreSQL takes for cheaper.
        self._postgres_by_unit, self._postgres_by_event = (
            Prepared(
                joined(select(link).where(column == any_(_KEYS)).cte("link").prefix_with("MATERIALIZED"))
            )
            for column in (link.c.unit_no, link.c.event_no)
        )

    def of_units(self, connection: Connection, unit_nos: Collection[int]) -> Sequence[Any]:
        """The rows of these units, as the driver makes them."""
        if not unit_nos:
            return ()
        if connection.dialect.name == "postgresql":
            return fetched(self._postgres_by_unit.execute(connection, {"keys": list(unit_nos)}))
        settled, _ = bring_up(connection)
        old = self._settled.rows(connection, unit_nos, settled=settled)
        return [*old, *self._recent.rows(connection, unit_nos)]

    def of_events(self, connection: Connection, event_nos: Collection[int]) -> Sequence[Any]:
        """The rows of these events, one for each unit."""
        if not event_nos:
            return ()
        if connection.dialect.name == "postgresql":
            return fetched(self._postgres_by_event.execute(connection, {"keys": list(event_nos)}))
        return self._by_event.rows(connection, event_nos)


_KEYS = bindparam("keys", type_=ARRAY(BigInteger))


def bring_up(connection: Connection) -> tuple[int, int]:
    """Bring the links that are not settled up to the connection's snapshot, on SQLite.

    The events up to which links are settled, and up to which they are at hand now.
    """
    raw = _raw(connection)
    for statement in _TEMPORARY:
        raw.execute(statement)
    (settled,) = raw.execute(_SETTLED).fetchone() or (0,)
    (newest,) = raw.execute("SELECT max(event_no) FROM event_unit").fetchone()
    row = raw.execute("SELECT settled, through FROM recent_links").fetchone()
    was_settled, through = row or (-1, settled)
    if was_settled != settled:
        raw.execute("DELETE FROM recent_link")  # all, which takes no time; of only the older ones it would
        through = settled
    newest = max(through, newest or 0)
    if newest > through:
        raw.execute(
            f"INSERT INTO recent_link ({_COLUMNS}) SELECT {_COLUMNS} FROM event_unit WHERE event_no > ?",
            (through,),
        )
    if was_settled != settled or newest > through:
        raw.execute("DELETE FROM recent_links")
        raw.execute("INSERT INTO recent_links VALUES (?, ?)", (settled, newest))
    return settled, newest


def reaching(unit_nos: Collection[int]) -> Select[tuple[int]]:
    """The numbers of events that reach units, for a single look: what is not settled is scanned on SQLite."""
    settled, link = schema.unit_event.c, schema.event_unit.c
    through = _through()
    found = union_all(
        select(settled.event_no).where(settled.unit_no.in_(unit_nos), settled.event_no <= through),
        select(link.event_no).where(link.event_no > through, link.unit_no.in_(unit_nos)),
    ).subquery()
    return select(found.c.event_no)


def unequal_links(connection: Connection) -> Iterator[tuple[int, int]]:
    """Events and units whose link up to the mark differs, or is there by event or by unit alone."""
    by_unit, by_event = schema.unit_event.c, schema.event_unit.c
    is_same = (by_unit.unit_no == by_event.unit_no) & (by_unit.event_no == by_event.event_no)
    through = _through()
    statements = (
        select(by_event.event_no, by_event.unit_no)
        .join_from(schema.event_unit, schema.unit_event, is_same, isouter=True)
        .where(by_event.event_no <= through, func.coalesce(by_unit.kinds, -1) != by_event.kinds),
        select(by_unit.event_no, by_unit.unit_no)
        .join_from(schema.unit_event, schema.event_unit, is_same, isouter=True)
        .where(by_unit.event_no <= through, by_event.event_no.is_(None)),
    )
    for statement in statements:
        for row in connection.execute(statement):
            yield row.event_no, row.unit_no


def _through() -> ColumnElement[int]:
    progress = schema.progress.c
    mark = select(progress.value).where(progress.name == LINKS_SETTLED)
    return func.coalesce(mark.scalar_subquery(), 0)


def merge(connection: Connection, after: tuple[int, int], through: int, size: int) -> tuple[int, int] | None:
    """Merge so many of the links up to an event into `unit_event`, in key order, from after a key on.

    The last key, to go on after; None when all are merged. What a merge that was cut short left behind stays.
    """
    bring_up(connection)
    raw = _raw(connection)
    last: tuple[int, int] | None = raw.execute(
        "SELECT unit_no, event_no FROM recent_link WHERE (unit_no, event_no) > (?, ?) "
        "ORDER BY unit_no, event_no LIMIT 1 OFFSET ?",
        (*after, size - 1),
    ).fetchone()
    raw.execute(
        f"INSERT OR IGNORE INTO unit_event ({_COLUMNS}) SELECT {_COLUMNS} FROM recent_link "
        "WHERE (unit_no, event_no) > (?, ?) AND (unit_no, event_no) <= (?, ?) AND event_no <= ? "
        "ORDER BY unit_no, event_no",
        (*after, *(last or _BEYOND_ALL), through),
    )
    return last


def note_settled(connection: Connection, through: int) -> None:
    """All links up to this event are merged."""
    upsert(connection, schema.progress, [{"name": LINKS_SETTLED, "value": through}])


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw
