"""The one writer: group commit, isolation of requests and jobs, turns between them, an orderly end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from service.hot.ledger import Round
from service.hot.sqlite import SqliteLedger
from service.hot.sticky import Sticky
from service.hot.writer import Overloaded, Writer, WriterStopped
from service.ledger.database import Database
from service.metrics import Metrics

Mark = Callable[[Connection], str]


@asynccontextmanager
async def running(folder: Path, queue_max: int = 100) -> AsyncGenerator[tuple[Database, Writer]]:
    database = Database(f"sqlite:///{folder}/rialto.db")
    database.migrate()
    with database.write() as connection:
        connection.execute(text("CREATE TABLE note (what TEXT)"))
    writer = Writer(SqliteLedger(database), Sticky(10), Metrics(), queue_max)
    await writer.start()
    try:
        yield database, writer
    finally:
        await writer.stop()
        database.close()


def note(what: str) -> Mark:
    def run(connection: Connection) -> str:
        connection.execute(text("INSERT INTO note VALUES (:what)"), {"what": what})
        return what

    return run


def notes(database: Database) -> list[str]:
    with database.read() as connection:
        return [row[0] for row in connection.execute(text("SELECT what FROM note ORDER BY rowid"))]


async def held(writer: Writer) -> threading.Event:
    """Occupy the writer until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def run(_connection: Connection) -> None:
        begun.set()
        go_on.wait(10)

    task = asyncio.create_task(writer.submit(run))
    assert await asyncio.to_thread(begun.wait, 10)
    task.add_done_callback(lambda done: done.result())
    return go_on


def test_a_job_is_committed_before_its_caller_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as (database, writer):
            assert await writer.submit(note("a")) == "a"
            assert notes(database) == ["a"]

    asyncio.run(scene())


def test_a_failing_job_takes_back_its_own_statements_only(tmp_path: Path) -> None:
    def fails(connection: Connection) -> None:
        note("lost")(connection)
        raise ValueError("broken")

    async def scene() -> None:
        async with running(tmp_path) as (database, writer):
            jobs = [note("before"), fails, note("after")]
            done = await asyncio.gather(*(writer.submit(job) for job in jobs), return_exceptions=True)
            assert [str(found) for found in done] == ["before", "broken", "after"]
            assert notes(database) == ["before", "after"]

    asyncio.run(scene())


def test_what_is_to_follow_a_job_happens_before_the_next_one(tmp_path: Path) -> None:
    async def scene() -> None:
        seen: list[str] = []
        async with running(tmp_path) as (_, writer):
            first = writer.submit(note("first"), after=seen.append)
            second = writer.submit(lambda _: seen.append("second"))
            await asyncio.gather(first, second)
        assert seen == ["first", "second"]

    asyncio.run(scene())


def test_a_change_comes_before_the_next_slice_of_background_work(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as (database, writer):
            go_on = await held(writer)
            slices = [asyncio.create_task(writer.submit(note(f"fold {i}"), background=True)) for i in (1, 2)]
            await asyncio.sleep(0)
            change = asyncio.create_task(writer.submit(note("change")))
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.gather(change, *slices)
            assert notes(database) == ["change", "fold 1", "fold 2"]

    asyncio.run(scene())


def test_too_many_waiting_jobs_are_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path, queue_max=2) as (database, writer):
            go_on = await held(writer)
            two = [asyncio.create_task(writer.submit(note(str(i)))) for i in (1, 2)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await writer.submit(note("3"))
            go_on.set()
            await asyncio.gather(*two)
            assert notes(database) == ["1", "2"]

    asyncio.run(scene())


def test_stopping_finishes_what_is_queued(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as (database, writer):
            jobs = [asyncio.create_task(writer.submit(note(str(i)))) for i in range(50)]
            await asyncio.sleep(0)
            await writer.stop()
            assert [job.result() for job in jobs] == notes(database)
            with pytest.raises(WriterStopped):
                await writer.submit(note("too late"))

    asyncio.run(scene())


def test_numbers_go_on_where_a_job_has_given_some(tmp_path: Path) -> None:
    """A job may insert events by the database's own numbering (abandonments); ours must not collide."""

    def insert(connection: Connection) -> None:
        values = "7, 'x', 'custom', 0, 0, 0, x'00', '{}'"
        columns = "store_no, event_id, type, occurred_at_us, received_at_us, is_clamped, digest, body"
        connection.execute(text(f"INSERT INTO event ({columns}) VALUES ({values})"))

    async def scene() -> None:
        async with running(tmp_path) as (_, writer):
            (first,) = await writer.ledger.event_numbers(1)
            await writer.submit(insert)
            (second,) = await writer.ledger.event_numbers(1)
            assert (first, second) == (1, 2)

    asyncio.run(scene())


def test_a_row_that_cannot_be_written_is_no_trouble_of_the_ledger(tmp_path: Path) -> None:
    """A defect of ours must not look like a database that is away: its batch is taken apart."""

    async def scene() -> Any:
        async with running(tmp_path) as (_, writer):
            batch = Round()
            batch.rows["person"] += [(1, 1), (1, 2)]
            await writer.ledger.commit(batch)

    with pytest.raises(Exception, match="UNIQUE constraint failed"):
        asyncio.run(scene())
