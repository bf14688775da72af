"""The one writer: group commit in a thread of its own.

A job is a function of the connection. The thread takes what is queued (no fixed window), runs each job
in its savepoint, commits once, and only then lets the callers go on: what a caller was told is on disk.
A job that raises takes back its own statements and nobody else's.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection

from service.ledger.database import Database

BATCH_MAX = 1024
QUEUE_MAX = 8192

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Overloaded(Exception):
    """The queue is full: try again in a moment."""


class WriterStopped(Exception):
    """The service is shutting down."""


class Job:
    """A queued job; it can be taken back until the writer has begun it."""

    def __init__(self, run: Callable[[Connection], Any]) -> None:
        self.run = run
        self.done: Future[Any] = Future()

    def take_back(self) -> bool:
        """True when the job will never run; False when it runs or has run."""
        return self.done.cancel()


class Writer:
    """Runs jobs on one connection, many to a commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[Job] = deque()
        self._background: deque[Job] = deque()
        self._is_background_turn = False
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued, then stop."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Jobs queued."""
        return len(self._queue) + len(self._background)

    def enqueue(self, run: Callable[[Connection], Any], *, background: bool = False) -> Job:
        """Queue a job. Raises `Overloaded` when too many wait already."""
        job = Job(run)
        with self._wake:
            if self._stopping:
                raise WriterStopped("the service is shutting down")
            queue = self._background if background else self._queue
            if len(queue) >= QUEUE_MAX:
                raise Overloaded("too many writes are waiting")
            queue.append(job)
            self._wake.notify()
        return job

    async def submit(self, run: Callable[[Connection], Result], *, background: bool = False) -> Result:
        """Queue a job and wait until it is committed; its exception is raised here."""
        return await asyncio.wrap_future(self.enqueue(run, background=background).done)

    def _work(self) -> None:
        connection = self._database.writing()
        try:
            while (batch := self._next_batch()) is not None:
                self._commit(connection, batch)
        finally:
            connection.close()

    def _next_batch(self) -> list[Job] | None:
        with self._wake:
            while not self._queue and not self._background:
                if self._stopping:
                    return None
                self._wake.wait()
            if self._background and (self._is_background_turn or not self._queue):
                taken = [self._background.popleft()]
            else:
                taken = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            self._is_background_turn = not self._is_background_turn
        return [job for job in taken if job.done.set_running_or_notify_cancel()]

    def _commit(self, connection: Connection, batch: list[Job]) -> None:
        outcomes: list[tuple[Job, Any, BaseException | None]] = []
        try:
            with connection.begin():
                for job in batch:
                    outcomes.append((job, *_in_savepoint(connection, job)))
        except Exception as error:  # the commit itself failed: nothing of the batch is on disk
            log.exception("commit failed")
            outcomes = [(job, None, error) for job in batch]
        for job, result, error in outcomes:
            if error is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(error)


def _in_savepoint(connection: Connection, job: Job) -> tuple[Any, BaseException | None]:
    connection.exec_driver_sql("SAVEPOINT job")
    try:
        result = job.run(connection)
    except Exception as error:
        connection.exec_driver_sql("ROLLBACK TO job")
        connection.exec_driver_sql("RELEASE job")
        return None, error
    connection.exec_driver_sql("RELEASE job")
    return result, None
