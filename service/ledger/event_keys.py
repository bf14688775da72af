"""Whether an event is on record, by its key: the keyed hash of its id.

Ids of events are random, and so would each row of an index of them dirty a page of its own. On SQLite the
keys of the newest events are in memory (`hot/key_index.py`); up to a mark they stand in `event_by_key`,
merged in key order, many to a page. PostgreSQL has an ordinary unique index. Our own events, whose ids
nobody else may use, have no key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

from sqlalchemy import Connection, select

from service.ledger import schema
from service.ledger.sqlite_rows import insert_rows
from service.ledger.statements import upsert

EVENTS_SETTLED = "events_settled"
"""The row of `progress` that says up to which event keys stand in `event_by_key`; none on PostgreSQL."""
RESERVED_EVENT_ID = "rialto:"
"""How the ids of our own events begin; a caller's may not."""
TAIL_SLICE = 50_000
_TABLES = schema.event, schema.archived_event
_IS_CALLERS = f"substr(event_id, 1, {len(RESERVED_EVENT_ID)}) <> '{RESERVED_EVENT_ID}'"  # LIKE ignores case


def event_key(secret: bytes, event_id: str) -> bytes:
    """The 16 bytes an event is known by: BLAKE2b-128 of its id in UTF-8, keyed with the store's secret."""
    return blake2b(event_id.encode(), digest_size=16, key=secret, person=b"event").digest()


def events_settled(connection: Connection) -> int:
    """The last event whose key stands in `event_by_key`; of later ones some may."""
    table = schema.progress.c
    return connection.execute(select(table.value).where(table.name == EVENTS_SETTLED)).scalar() or 0


def keys_after(connection: Connection, event_no: int) -> Iterator[list[tuple[bytes, int]]]:
    """The keys of callers' events with higher numbers, and those, archived or not, in parts."""
    secrets = secrets_of(connection)
    for table in _TABLES:
        columns, after = table.c, event_no
        while True:
            rows = connection.execute(
                select(columns.event_no, columns.store_no, columns.event_id)
                .where(columns.event_no > after)
                .order_by(columns.event_no)
                .limit(TAIL_SLICE)
            ).all()
            if not rows:
                break
            after = rows[-1].event_no
            callers = [row for row in rows if not row.event_id.startswith(RESERVED_EVENT_ID)]
            yield [(event_key(secrets[row.store_no], row.event_id), row.event_no) for row in callers]


def merge_keys(connection: Connection, keys: Sequence[tuple[bytes, int]]) -> None:
    """Keys and events into their table, in key order; those that a merge cut short left behind stay."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    insert_rows(raw, "INSERT OR IGNORE INTO event_by_key (hash16, event_no) VALUES (?, ?)", keys)


def note_events_settled(connection: Connection, through: int) -> None:
    """All keys up to this event are merged."""
    upsert(connection, schema.progress, [{"name": EVENTS_SETTLED, "value": through}])


def fill_keys(raw: sqlite3.Connection, secrets: Mapping[int, bytes]) -> None:
    """The keys of all events into their table, and the mark."""
    _know_keys(raw, secrets)
    events = " UNION ALL ".join(
        f"SELECT event_key(store_no, event_id), event_no FROM {table.name} WHERE {_IS_CALLERS}"
        for table in _TABLES
    )
    raw.execute(f"INSERT INTO event_by_key (hash16, event_no) {events} ORDER BY 1")
    newest = " UNION ALL ".join(f"SELECT max(event_no) AS newest FROM {table.name}" for table in _TABLES)
    raw.execute(
        f"INSERT OR REPLACE INTO progress (name, value) SELECT '{EVENTS_SETTLED}', coalesce(max(newest), 0) "
        f"FROM ({newest})"
    )


def unequal_keys(connection: Connection) -> Iterator[int]:
    """Events up to the mark that are not found by their key, and those found that are none, on SQLite."""
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        return
    _know_keys(raw, secrets_of(connection))
    through = events_settled(connection)
    for table in _TABLES:
        yield from (
            event_no
            for (event_no,) in raw.execute(
                f"SELECT e.event_no FROM {table.name} e LEFT JOIN event_by_key k "
                f"ON k.hash16 = event_key(e.store_no, e.event_id) "
                f"WHERE e.event_no <= ? AND {_IS_CALLERS} AND k.event_no IS NOT e.event_no",
                (through,),
            )
        )
    yield from (
        event_no
        for (event_no,) in raw.execute(
            "SELECT k.event_no FROM event_by_key k LEFT JOIN event e ON e.event_no = k.event_no "
            "LEFT JOIN archived_event a ON a.event_no = k.event_no "
            "WHERE k.event_no <= ? AND e.event_no IS NULL AND a.event_no IS NULL",
            (through,),
        )
    )


def secrets_of(connection: Connection) -> dict[int, bytes]:
    """The secret of each store."""
    stores = connection.execute(select(schema.store.c.store_no, schema.store.c.secret))
    return {row.store_no: row.secret for row in stores}


def _know_keys(raw: sqlite3.Connection, secrets: Mapping[int, bytes]) -> None:
    def keyed(store_no: int, event_id: str) -> bytes:
        return event_key(secrets[store_no], event_id)

    raw.create_function("event_key", 2, keyed, deterministic=True)
