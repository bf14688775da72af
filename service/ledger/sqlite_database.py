"""A ledger in one SQLite file: WAL with synchronous=FULL, one writer, any number of readers.

What is committed survives a crash of the process and of the machine. Readers see a snapshot and never wait
for the writer.
"""

from __future__ import annotations

import fcntl
import sqlite3
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, TimeoutError

from service.ledger.backend import DatabaseKind, DatabaseUnreachable, DatabaseUnusable, said

CHECKPOINT_PAGES = 4000
"""In the log, before a commit moves them into the file."""
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=10000",
    f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp.cache_size=-16384",  # the links not yet settled fit in, so that no temporary file is written
)
STATEMENTS_KEPT = 512
"""Of each connection, prepared: a table has an INSERT for seven numbers of rows."""
CACHE_KIB = {"BEGIN IMMEDIATE": 32768, "BEGIN": 4096}
"""Of the one connection that writes, and of each that reads."""

_MAY_PASS = ("database is locked", "unable to open database file", "disk I/O error")


class SqliteBackend:
    """The engines of one file, and the lock beside it."""

    kind = DatabaseKind.SQLITE

    def __init__(self, url: URL) -> None:
        if not url.database or url.database == ":memory:":
            raise DatabaseUnusable("--database needs a file, e.g. sqlite:///rialto.db")
        self.path = Path(url.database)
        self.name = str(self.path)
        self.writing = _engine(url, "BEGIN IMMEDIATE")
        self.reading = _engine(url, "BEGIN")
        self._lock_file: IO[str] | None = None

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def prepare(self) -> None:
        """Make the file and its folder: nothing else does, lest a file that is away came back empty."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def keep_services_out(self, connection: Connection) -> None:
        """Take the service's lock, which is held until this process closes the ledger."""
        self.lock_for_serving()

    def lock_for_serving(self) -> None:
        """Hold the right to serve this file; a second service on it is refused."""
        if self._lock_file is not None:
            return
        lock_file = open(f"{self.path}.lock", "w")  # noqa: SIM115 - held until the process ends
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock_file.close()
            raise DatabaseUnusable(
                f"another `rialto serve` is writing {self.path}: stop it, or use another --database"
            ) from error
        self._lock_file = lock_file

    def unusable(self, error: DBAPIError | TimeoutError) -> DatabaseUnusable:
        """A file that is locked, or not mounted, may be there later."""
        line = said(error)
        kind = DatabaseUnreachable if any(sign in line for sign in _MAY_PASS) else DatabaseUnusable
        return kind(f"--database {self.path}: {line}")

    def close(self) -> None:
        """Close every connection and give the lock up."""
        self.writing.dispose()
        self.reading.dispose()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


def _engine(url: URL, begin: str) -> Engine:
    address = f"file:{quote(str(url.database))}?mode=rw"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, check_same_thread=False, cached_statements=STATEMENTS_KEPT)

    engine = create_engine(url, creator=connect)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: pysqlite would begin too late
        for pragma in PRAGMAS:
            connection.execute(pragma)
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB[begin]}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
