"""The one writer: group commit, isolation of jobs, turns between requests and background work."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from service.ledger import writer as writer_module
from service.ledger.database import Database
from service.ledger.writer import Overloaded, Writer, WriterStopped


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database, None, None]:
    database = Database(f"sqlite:///{tmp_path}/rialto.db")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE mark (what TEXT)"))
    yield database
    database.close()


@pytest.fixture
def writer(database: Database) -> Generator[Writer, None, None]:
    writer = Writer(database)
    writer.start()
    yield writer
    writer.stop()


def mark(what: str) -> object:
    def run(connection: Connection) -> str:
        connection.execute(text("INSERT INTO mark VALUES (:what)"), {"what": what})
        return what

    return run


def marks(database: Database) -> list[str]:
    with database.read() as connection:
        return [row[0] for row in connection.execute(text("SELECT what FROM mark ORDER BY rowid"))]


def held(writer: Writer) -> tuple[threading.Event, threading.Event]:
    """Occupy the writer until the second event is set."""
    begun, go = threading.Event(), threading.Event()

    def run(_connection: Connection) -> None:
        begun.set()
        go.wait(10)

    writer.enqueue(run)
    assert begun.wait(10)
    return begun, go


def test_a_job_is_committed_before_its_caller_goes_on(database: Database, writer: Writer) -> None:
    assert writer.enqueue(mark("a")).done.result(10) == "a"
    assert marks(database) == ["a"]


def test_a_failing_job_takes_back_its_own_statements_only(database: Database, writer: Writer) -> None:
    def fails(connection: Connection) -> None:
        mark("lost")(connection)
        raise ValueError("broken")

    _, go = held(writer)
    jobs = [writer.enqueue(job) for job in (mark("before"), fails, mark("after"))]
    go.set()
    assert jobs[2].done.result(10) == "after"
    with pytest.raises(ValueError, match="broken"):
        jobs[1].done.result(10)
    assert marks(database) == ["before", "after"]


def test_background_jobs_take_turns_with_requests(database: Database, writer: Writer) -> None:
    """Two slices of folding wait; a request queued after them is written after the first, not the second."""
    _, go = held(writer)
    jobs = [
        writer.enqueue(mark("fold 1"), background=True),
        writer.enqueue(mark("fold 2"), background=True),
        writer.enqueue(mark("request")),
    ]
    go.set()
    for job in jobs:
        job.done.result(10)
    assert marks(database).index("request") <= 1


def test_a_job_can_be_taken_back_until_it_begins(database: Database, writer: Writer) -> None:
    _, go = held(writer)
    job = writer.enqueue(mark("late"))
    assert job.take_back()
    go.set()
    writer.enqueue(mark("next")).done.result(10)
    assert marks(database) == ["next"]


def test_too_many_waiting_jobs_are_refused(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_MAX", 2)
    _, go = held(writer)
    writer.enqueue(mark("1"))
    writer.enqueue(mark("2"))
    with pytest.raises(Overloaded):
        writer.enqueue(mark("3"))
    go.set()


def test_stopping_finishes_what_is_queued(database: Database) -> None:
    writer = Writer(database)
    writer.start()
    jobs = [writer.enqueue(mark(str(number))) for number in range(50)]
    writer.stop()
    assert [job.done.result(0) for job in jobs] == marks(database)
    with pytest.raises(WriterStopped):
        writer.enqueue(mark("too late"))
