"""Connections to the ledger: one URL, one writer, any number of readers.

SQLite runs in WAL with synchronous=FULL: what is committed survives a crash of the process and of the
machine. Readers see a snapshot and never wait for the writer.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url

MIGRATIONS = Path(__file__).parent / "migrations"
SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=10000",
    "PRAGMA cache_size=-65536",
    "PRAGMA foreign_keys=ON",
)


READS_END_S_MAX = 10.0
"""How long closing waits for reads that still run in their threads."""


class DatabaseUnusable(Exception):
    """The database cannot be used as asked; the message says what to do."""


class Database:
    """The engines of one ledger."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            raise DatabaseUnusable(
                f"--database {parsed.render_as_string()}: only sqlite:///FILE is supported in this version"
            )
        if not parsed.database or parsed.database == ":memory:":
            raise DatabaseUnusable("--database needs a file, e.g. sqlite:///rialto.db")
        self.path = Path(parsed.database)
        self.url = url
        self._writing = _engine(url, "BEGIN IMMEDIATE")
        self._reading = _engine(url, "BEGIN")
        self._lock_file: IO[str] | None = None
        self._reads = 0
        self._read_ended = threading.Condition()

    @contextmanager
    def read(self) -> Generator[Connection, None, None]:
        """A connection on a snapshot of what is committed."""
        with self._read_ended:
            self._reads += 1
        try:
            with self._reading.connect() as connection, connection.begin():
                yield connection
        finally:
            with self._read_ended:
                self._reads -= 1
                self._read_ended.notify_all()

    def writing(self) -> Connection:
        """The connection of the one writer; the caller begins and commits."""
        return self._writing.connect()

    @contextmanager
    def write(self) -> Generator[Connection, None, None]:
        """One short transaction, for commands that run without the service."""
        with self._writing.connect() as connection, connection.begin():
            yield connection

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def require_current(self) -> None:
        """Raise with the remedy unless the schema is there and at this version's head."""
        if not self.exists():
            raise DatabaseUnusable(
                f"{self.path} does not exist: run `rialto init --database {self.url}` first"
            )
        if self._revision() != _head():
            raise DatabaseUnusable(
                f"the schema of {self.path} is not this version's: run `rialto upgrade --database {self.url}`"
            )

    def migrate(self) -> None:
        """Create the schema or bring it to this version's head."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._writing.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def lock_for_serving(self) -> None:
        """Hold the right to serve this file; a second service on it is refused."""
        lock_file = open(f"{self.path}.lock", "w")  # noqa: SIM115 - held until the process ends
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock_file.close()
            raise DatabaseUnusable(
                f"another `rialto serve` is writing {self.path}: stop it, or use another --database"
            ) from error
        self._lock_file = lock_file

    def close(self) -> None:
        """Close every connection and give the lock up.

        A cancelled task leaves its read running in a thread; its connection would outlive the pool.
        """
        with self._read_ended:
            self._read_ended.wait_for(lambda: self._reads == 0, timeout=READS_END_S_MAX)
        self._writing.dispose()
        self._reading.dispose()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _revision(self) -> str | None:
        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()


def _head() -> str | None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config).get_current_head()


def _engine(url: str, begin: str) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: pysqlite would begin too late
        for pragma in SQLITE_PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
