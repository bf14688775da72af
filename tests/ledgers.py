"""Empty ledgers for tests, on either database, and which database a run of the tests is about.

RIALTO_TEST_DATABASE=postgresql runs every test that takes the fixture `ledgers` (a service in this process,
or `rialto serve`) on PostgreSQL instead of SQLite; `both` runs them on both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import pytest

from service.ledger.database import Database, DatabaseKind
from tests.postgres import PostgresServer

ON_BOTH = (
    "test_lifecycle",
    "test_definitions",
    "test_postgres_database",
    "test_free_text",
    "test_archive_wire",
    "test_old_ledger",
)
"""Modules whose tests run on both databases in every run: changes of experiments, what is counted, and what
the databases take differently."""


class Ledgers(Protocol):
    """Where new ledgers come from."""

    kind: DatabaseKind

    def new(self, folder: Path, name: str) -> str:
        """The address of a ledger with the schema and no rows; if a file, of this name in the folder."""
        ...

    def absent(self, folder: Path, name: str) -> str:
        """An address where `rialto init` can make a ledger."""
        ...

    def remove(self, url: str) -> None:
        """Remove a ledger that nobody needs any more."""
        ...


class SqliteLedgers:
    """Copies of an empty file."""

    kind = DatabaseKind.SQLITE

    def __init__(self, empty: bytes) -> None:
        self._empty = empty

    def new(self, folder: Path, name: str) -> str:
        (folder / f"{name}.db").write_bytes(self._empty)
        return self.absent(folder, name)

    def absent(self, folder: Path, name: str) -> str:
        return f"sqlite:///{folder / name}.db"

    def remove(self, url: str) -> None:
        """Files go with their folder."""


class PostgresLedgers:
    """Databases of one server, copied from a template."""

    kind = DatabaseKind.POSTGRES

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template

    def new(self, folder: Path, name: str) -> str:
        return self._server.new_database(self._template)

    def absent(self, folder: Path, name: str) -> str:
        return self._server.new_database()

    def remove(self, url: str) -> None:
        self._server.drop_database(url)


def kinds_for(metafunc: pytest.Metafunc) -> list[DatabaseKind]:
    """The databases a test runs on; one marked `postgresql_only` on that, whatever is wanted."""
    if metafunc.definition.get_closest_marker("postgresql_only"):
        return [DatabaseKind.POSTGRES]
    wanted = os.environ.get("RIALTO_TEST_DATABASE", "sqlite")
    if wanted == "both" or (wanted == "sqlite" and metafunc.module.__name__.endswith(ON_BOTH)):
        return list(DatabaseKind)
    return [DatabaseKind(wanted)]


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a migrated SQLite ledger without rows: migrating is slow, copying is not."""
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()  # the last connection to close writes the log back into the file
    assert not path.with_name("empty.db-wal").exists()
    return path.read_bytes()


@pytest.fixture(scope="session")
def ledgers(request: pytest.FixtureRequest) -> Ledgers:
    """Ledgers on the database that the test runs on."""
    if request.param is DatabaseKind.POSTGRES:
        server = request.getfixturevalue("postgres_server")
        return PostgresLedgers(server, request.getfixturevalue("postgres_template"))
    return SqliteLedgers(request.getfixturevalue("empty_ledger"))
