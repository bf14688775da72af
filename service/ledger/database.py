"""Connections to the ledger: one URL, one writing transaction at a time, any number of readers."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, TimeoutError

from service.ledger.backend import (
    Backend,
    DatabaseKind,
    DatabaseUnreachable,
    DatabaseUnusable,
    said,
)
from service.ledger.postgres_database import PostgresBackend
from service.ledger.sqlite_database import SqliteBackend

MIGRATIONS = Path(__file__).parent / "migrations"
USES_END_S_MAX = 10.0
"""How long closing waits for reads and writes that still run in their threads."""

_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")


class Database:
    """The engines of one ledger."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._backend = _backend(url)
        self._uses = 0
        self._use_ended = threading.Condition()
        self._is_closed = False

    @property
    def kind(self) -> DatabaseKind:
        """SQLite or PostgreSQL."""
        return self._backend.kind

    @property
    def name(self) -> str:
        """What people are told the ledger is: a file, or an address without its password."""
        return self._backend.name

    @property
    def path(self) -> Path:
        """The file of an SQLite ledger."""
        assert isinstance(self._backend, SqliteBackend), f"{self.name} is no file"
        return self._backend.path

    @property
    def asyncpg_dsn(self) -> str:
        """The address of a PostgreSQL ledger as asyncpg reads it, password included."""
        assert isinstance(self._backend, PostgresBackend), f"{self.name} is not PostgreSQL"
        return self._backend.asyncpg_dsn

    @contextmanager
    def read(self) -> Generator[Connection, None, None]:
        """A connection on a snapshot of what is committed."""
        with self._in_use(), self._backend.reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection, None, None]:
        """One short transaction, which waits for all others that write."""
        with self._in_use(), self._backend.writing.connect() as connection, connection.begin():
            yield connection

    def writing(self) -> Connection:
        """A connection whose transactions wait for all others that write; the caller begins and commits.

        On PostgreSQL take one for each transaction: one that is kept does not outlive the server.
        """
        return self._backend.writing.connect()

    def exists(self) -> bool:
        """Whether there is a ledger. Raises when that cannot be found out."""
        with self._readable(), self._in_use():
            return self._backend.exists()

    def require_current(self) -> None:
        """Raise with the remedy unless the schema is there and at this version's head."""
        if not self.exists():
            raise DatabaseUnusable(
                f"there is no ledger at {self.name}: run `rialto init --database {shown(self.url)}` first"
            )
        with self._readable(), self.read() as connection:
            revision = _revision(connection)
        if revision != _head():
            raise DatabaseUnusable(
                f"the schema of {self.name} is not this version's: "
                f"run `rialto upgrade --database {shown(self.url)}`"
            )

    def migrate(self) -> None:
        """Create the schema, or bring it to this version's head: whole or not at all."""
        self._backend.prepare()
        config = _alembic()
        with self._readable(), self.write() as connection:
            revision = _revision(connection)
            if revision == _head():
                return
            if revision is not None:
                self._backend.keep_services_out(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def lock_for_serving(self) -> None:
        """Hold the right to serve the ledger; on SQLite a second service is refused."""
        self._backend.lock_for_serving()

    def close(self) -> None:
        """Close every connection and give locks up.

        A cancelled task leaves its read running in a thread, or about to begin: its connection would
        outlive the pool.
        """
        with self._use_ended:
            self._use_ended.wait_for(lambda: self._uses == 0, timeout=USES_END_S_MAX)
            self._is_closed = True
        self._backend.close()

    @contextmanager
    def _in_use(self) -> Generator[None, None, None]:
        with self._use_ended:
            self._uses += 1
        try:
            yield
        finally:
            with self._use_ended:
                self._uses -= 1
                self._use_ended.notify_all()
                is_last = self._is_closed and self._uses == 0
            if is_last:  # it came too late to be waited for
                self._backend.close()

    @contextmanager
    def _readable(self) -> Generator[None, None, None]:
        """Whatever the database says when it is opened, as one line that names the remedy."""
        try:
            yield
        except (DBAPIError, TimeoutError) as error:
            raise self._backend.unusable(error) from error


def shown(url: str) -> str:
    """An address as it may be printed: without its password."""
    try:
        return make_url(url).render_as_string()
    except ArgumentError:
        return url


def _backend(url: str) -> Backend:
    parsed = make_url(url)
    if parsed.drivername in _POSTGRES:
        return PostgresBackend(parsed)
    if parsed.get_backend_name() == "sqlite":
        return SqliteBackend(parsed)
    raise DatabaseUnusable(
        f"--database {shown(url)}: write sqlite:///FILE or postgresql://USER@HOST:PORT/NAME"
    )


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _head() -> str | None:
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


__all__ = ["Database", "DatabaseKind", "DatabaseUnreachable", "DatabaseUnusable", "said", "shown"]
