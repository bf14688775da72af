"""Ledgers to measure on: what they hold, and a real PostgreSQL server of our own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from sqlalchemy import text

from benchmarks.rounds import cpu_seconds_of_all
from benchmarks.wrk import BenchmarkFailed
from service.ledger.database import Database
from tests.postgres import PostgresServer, running_server

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "256MB"}
TABLES = ("assignment", "event", "mark")


def counts(database_url: str) -> dict[str, int]:
    """Rows of the ledger, read beside the running service."""
    database = Database(database_url)
    try:
        with database.read() as connection:
            return {
                table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                for table in TABLES
            }
    finally:
        database.close()


@contextmanager
def mark_watch(database_url: str) -> Generator[Callable[[], bool]]:
    """A function that tells whether any mark waits, and costs whoever is measured next to nothing."""
    database = Database(database_url)
    try:

        def waits() -> bool:
            with database.read() as connection:
                return connection.execute(text("SELECT 1 FROM mark LIMIT 1")).first() is not None

        yield waits
    finally:
        database.close()


def newest_mark(database_url: str) -> int:
    """The number of the newest mark that waits; 0 when none does. Numbers are never used twice."""
    database = Database(database_url)
    try:
        with database.read() as connection:
            return connection.execute(text("SELECT max(mark_no) FROM mark")).scalar_one() or 0
    finally:
        database.close()


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server that commits to disk before it answers."""

    server: PostgresServer
    pid: int

    def new_database(self) -> str:
        """The address of an empty database."""
        return self.server.new_database()

    def version(self) -> str:
        """What the server says of itself."""
        with psycopg.connect(self.server.url("postgres")) as connection:
            (said,) = connection.execute("SHOW server_version").fetchone() or ("unknown",)
            return said

    def cpu_seconds(self) -> float:
        """CPU of all its processes so far."""
        return cpu_seconds_of_all(self.pid)


@contextmanager
def postgres() -> Generator[Postgres]:
    """A new server, as durable as PostgreSQL is by default, until the end."""
    try:
        # Closed by name: else an exception would leave the server's end to the garbage collector.
        with closing(running_server(**DURABLE)) as servers:
            server = next(servers)
            pid = int((server.folder / "data" / "postmaster.pid").read_text("ascii").split()[0])
            yield Postgres(server, pid)
    except pytest.skip.Exception as error:
        raise BenchmarkFailed(str(error)) from error
