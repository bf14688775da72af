"""Ledgers with millions of assignments, filled in order of arrival through the product's own tables."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Table, insert, select
from sqlalchemy.dialects import sqlite

from benchmarks import shop
from benchmarks.servers import initialise, serving
from experiments.allocation.hashing import unit_hash
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.units import UNITS_SETTLED

DAY_US = 86_400_000_000
TABLES = ("unit", "unit_key", "assignment")
MakeId = Callable[[int], str]


def random_id(number: int) -> str:
    """The id of a unit whose ids have no order, 16 characters."""
    return blake2b(number.to_bytes(8, "big"), digest_size=8).hexdigest()


def ordered_id(number: int) -> str:
    """The id of a unit whose ids grow with time, 16 characters."""
    return f"00{number:014x}"


def filled(folder: Path, rows: int, make_id: MakeId) -> tuple[dict[str, str], dict[str, int]]:
    """A ledger with so many assigned units: its address and keys, and the bytes of each table's pages.

    What is left out are the contexts of decisions and the folder's totals, which are appended to alike.
    """
    keys = initialise(folder)
    with serving(folder, keys) as server, server.http() as http:
        shop.set_up(http)
        shop.enrol(http, ["first-unit"])  # its candidate set is everybody's
        server.wait_until_folded()
    database = Database(keys["database"])
    with database.read() as connection:
        store = connection.execute(select(schema.store)).one()
        first = connection.execute(select(schema.assignment)).one()
    database.close()
    path = folder / "ledger.db"
    sizes: dict[str, int] = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("synchronous=OFF", "journal_mode=OFF", "cache_size=-400000"):
            connection.execute(f"PRAGMA {pragma}")
        for table, fill in (("unit", _units), ("unit_key", _unit_keys), ("assignment", _assignments)):
            before = _pages(connection)
            connection.execute("BEGIN")
            fill(connection, rows, make_id, store, first)
            connection.execute("COMMIT")
            sizes[table] = _pages(connection) - before
        connection.execute(
            "INSERT INTO progress (name, value) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value",
            (UNITS_SETTLED, first.unit_no + rows),
        )
        connection.execute("PRAGMA journal_mode=WAL")
    return keys, sizes


def _units(connection: sqlite3.Connection, rows: int, make_id: MakeId, store: Any, first: Any) -> None:
    numbers = range(first.unit_no + 1, first.unit_no + rows + 1)
    _fill(
        connection,
        schema.unit,
        {"unit_no": None, "store_no": None, "raw_id": None},
        ((number, store.store_no, make_id(number)) for number in numbers),
    )


def _unit_keys(connection: sqlite3.Connection, rows: int, make_id: MakeId, store: Any, first: Any) -> None:
    ids = chain(["first-unit"], map(make_id, range(first.unit_no + 1, first.unit_no + rows + 1)))
    # The first unit's key was not settled when its process ended.
    hashes = b"".join(unit_hash(store.secret, raw_id) for raw_id in ids)
    halves = np.frombuffer(hashes, dtype=">u8").reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0])).tolist()
    connection.execute("DELETE FROM unit_key")
    _fill(
        connection,
        schema.unit_key,
        {"store_no": None, "hash16": None, "unit_no": None},
        ((store.store_no, hashes[16 * at : 16 * at + 16], first.unit_no + at) for at in order),
    )


def _assignments(connection: sqlite3.Connection, rows: int, make_id: MakeId, store: Any, first: Any) -> None:
    values = dict(first._mapping)
    start_us = time.time_ns() // 1000 - 30 * DAY_US
    step_us = 30 * DAY_US // rows
    at, number_at = list(values).index("at_us"), list(values).index("unit_no")
    variant_at = list(values).index("variant_no")

    def row(number: int) -> tuple[Any, ...]:
        made = list(values.values())
        made[number_at] = first.unit_no + number
        made[variant_at] = number % len(shop.EXPERIMENT["variants"])
        made[at] = start_us + number * step_us
        return tuple(made)

    _fill(connection, schema.assignment, values, (row(number) for number in range(1, rows + 1)))


def _fill(
    connection: sqlite3.Connection, table: Table, columns: Mapping[str, Any], rows: Iterator[tuple[Any, ...]]
) -> None:
    statement = insert(table).values(dict.fromkeys(columns, 0)).compile(dialect=sqlite.dialect())
    # The compiler orders columns as the table does; so must the values be.
    order = [list(columns).index(name) for name in statement.positiontup or ()]
    connection.executemany(str(statement), (tuple(row[i] for i in order) for row in rows))


def _pages(connection: sqlite3.Connection) -> int:
    """Bytes of all pages in use."""
    (pages,), (free,), (size,) = (
        connection.execute(f"PRAGMA {name}").fetchone()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
