"""A batch on SQLite: of any length it is appended whole and in order, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from service.hot import sqlite, statements
from service.hot.ledger import LedgerUnavailable, Round
from service.hot.sqlite import LOOP_ROWS_MAX, SqliteLedger
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.sqlite_database import CHECKPOINT_PAGES
from service.ledger.statements import upsert

LENGTHS = [1, 7, 8, 63, 64, 65, 137, LOOP_ROWS_MAX, LOOP_ROWS_MAX + 1, 1000]
"""Below, at and above what goes into one INSERT, and what is appended on the event loop."""


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[SqliteLedger]:
    database = Database(f"sqlite:///{folder}/rialto.db")
    database.migrate()
    ledger = SqliteLedger(database)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()
        database.close()


def links(first: int, last: int) -> Round:
    """A batch of links, each customer their own."""
    batch = Round()
    batch.rows[statements.PERSON.table] += [(unit_no, unit_no) for unit_no in range(first, last + 1)]
    return batch


async def held(ledger: SqliteLedger, through: int) -> list[int]:
    rows = await ledger.lookup(statements.PERSONS, (), range(through + 2))
    return sorted(unit_no for unit_no, _ in rows)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_row_is_appended_once(tmp_path: Path, length: int) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as ledger:
            await ledger.commit(links(1, length))
            assert await held(ledger, length) == list(range(1, length + 1))

    asyncio.run(scenario())


@pytest.mark.parametrize("length", LENGTHS)
def test_a_batch_whose_last_row_is_refused_leaves_nothing(tmp_path: Path, length: int) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as ledger:
            batch = links(1, length)
            batch.rows[statements.PERSON.table].append((1, 2))  # the unit is somebody's already
            with pytest.raises(sqlite3.IntegrityError):
                await ledger.commit(batch)
            assert await held(ledger, length) == []
            await ledger.commit(links(1, length))
            assert await held(ledger, length) == list(range(1, length + 1))

    asyncio.run(scenario())


@pytest.mark.parametrize("length", [1, 1000])
def test_a_file_that_others_hold_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.2)

    async def scenario() -> None:
        async with opened(tmp_path) as ledger:
            with closing(sqlite3.connect(tmp_path / "rialto.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(LedgerUnavailable):
                    await ledger.commit(links(1, length))
                monkeypatch.setattr(sqlite, "BUSY_S", 10.0)
                waiting = asyncio.create_task(ledger.commit(links(1, length)))
                await asyncio.sleep(0.2)
                assert not waiting.done()  # and the loop is free meanwhile
                other.execute("ROLLBACK")
                await waiting
            assert await held(ledger, length) == list(range(1, length + 1))

    asyncio.run(scenario())


def test_the_log_does_not_grow_with_what_waits_for_no_disk(tmp_path: Path) -> None:
    """As when a whole experiment is folded anew and no request comes: no batch is committed in between."""

    def spread(connection: Connection, number: int) -> None:
        rows = [{"unit_no": number * 1000 + 7_919_003 * i % 999_983, "person_no": 1} for i in range(400)]
        upsert(connection, schema.person, rows)

    async def scenario() -> None:
        async with opened(tmp_path) as ledger:
            sizes: list[int] = []
            for number in range(600):
                await ledger.run_derived(partial(spread, number=number))
                sizes.append((tmp_path / "rialto.db-wal").stat().st_size)
            assert max(sizes) < 2.5 * CHECKPOINT_PAGES * 4096  # were it left to grow, 40 times as much

    asyncio.run(scenario())
