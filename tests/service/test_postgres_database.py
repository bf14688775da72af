"""A ledger on PostgreSQL: how it is addressed, what it says when it cannot be used, and what it promises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from psycopg import sql
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from service.errors import to_problem
from service.ledger import postgres_database, schema
from service.ledger.database import Database, DatabaseKind, DatabaseUnreachable, DatabaseUnusable
from service.ledger.postgres_database import CONNECTIONS_MAX, LOCKS, SERVING
from tests.ledgers import Ledgers
from tests.postgres import GUARDED, PostgresServer, running_server
from tests.processes import free_port
from tests.service.conftest import new_stores, rialto_here

PASSWORD = "hunter2"


@pytest.fixture
def database(postgres_url: str) -> Generator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


def failure(url: str) -> DatabaseUnusable:
    database = Database(url)
    try:
        with pytest.raises(DatabaseUnusable) as caught:
            database.require_current()
    finally:
        database.close()
    return caught.value


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_opens_the_ledger(postgres_url: str, scheme: str) -> None:
    database = Database(f"{scheme}://{postgres_url.partition('://')[2]}")
    assert database.kind is DatabaseKind.POSTGRES
    database.require_current()
    database.close()


def test_a_ledger_is_made_and_checked_by_the_servers_socket(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    by_socket = postgres_server.socket_url(url.rpartition("/")[2])
    made = rialto_here("init", "--database", by_socket)
    assert made.returncode == 0, made.stderr
    told = rialto_here("verify", "--database", by_socket)
    assert (told.returncode, told.stdout.startswith("exact: ")) == (0, True), told.stderr
    postgres_server.drop_database(url)


def test_what_cannot_be_opened_says_why_in_one_line_with_the_remedy(postgres_server: PostgresServer) -> None:
    postgres_server.administer(sql.SQL(f"CREATE ROLE {GUARDED} LOGIN PASSWORD 'another'"))
    here = f"127.0.0.1:{postgres_server.port}"
    said = {
        f"postgresql://u:{PASSWORD}@127.0.0.1:{free_port()}/shop": "start it, or correct --database",
        f"postgresql://u:{PASSWORD}@/shop?host=/nowhere": "start it, or correct --database",
        f"postgresql://u:{PASSWORD}@nowhere.invalid/shop": "start it, or correct --database",
        f"postgresql://rialto:{PASSWORD}@{here}/nothing": "create it (createdb)",
        f"postgresql://nobody:{PASSWORD}@{here}/postgres": "correct user and password",
        f"postgresql://{GUARDED}:{PASSWORD}@{here}/postgres": "correct user and password",
        f"postgresql://{GUARDED}@{here}/postgres": "correct user and password",
        f"postgresql://rialto:{PASSWORD}@{here}/postgres": "rialto init --database postgresql://",
    }
    for url, remedy in said.items():
        error = failure(url)
        assert remedy in str(error), url
        assert "\n" not in str(error)
        assert PASSWORD not in str(error)
        assert isinstance(error, DatabaseUnreachable) == ("start it" in remedy), url


def test_no_command_prints_the_password(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    secret = url.replace("rialto@", f"rialto:{PASSWORD}@")
    for command in ("verify", "init", "init", "upgrade", "verify"):
        told = rialto_here(command, "--database", secret)
        assert PASSWORD not in told.stdout + told.stderr
    assert (told.returncode, "***" in told.stderr) == (0, False)
    for wrong in (f"mysql://u:{PASSWORD}@h/d", f"postgresql+asyncpg://u:{PASSWORD}@h/d"):
        told = rialto_here("init", "--database", wrong)
        assert (told.returncode, PASSWORD in told.stderr) == (1, False)
        assert "postgresql://USER@HOST:PORT/NAME" in told.stderr
    postgres_server.drop_database(url)


def test_without_the_extra_the_remedy_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_database, "find_spec", lambda _name: None)
    told = rialto_here("init", "--database", "postgresql://localhost/shop")
    assert told.returncode == 1
    assert told.stderr == (
        "error: --database postgresql://...: install the extra for it: pip install 'rialto[postgres]'\n"
    )


def test_asyncpg_gets_the_parameters_it_knows(postgres_url: str) -> None:
    database = Database(f"{postgres_url}?connect_timeout=7&sslmode=disable&application_name=mine")

    async def name() -> str | None:
        connection = await asyncpg.connect(database.asyncpg_dsn)
        try:
            return await connection.fetchval("SHOW application_name")
        finally:
            await connection.close()

    assert asyncio.run(name()) == "mine"
    database.close()


def test_a_read_is_one_snapshot_and_cannot_write(database: Database) -> None:
    count = select(schema.store.c.store_no)
    with database.read() as connection:
        assert connection.execute(count).all() == []
        new_stores(database, is_simulated=False)
        assert connection.execute(count).all() == []
    with database.read() as connection:
        assert len(connection.execute(count).all()) == 2
    with pytest.raises(DBAPIError, match="read-only"), database.read() as connection:
        connection.execute(text("DELETE FROM store"))


def test_those_who_write_wait_for_one_another_whatever_process_they_are_of(
    database: Database, postgres_url: str
) -> None:
    """Each adds one to what it has read: without turns, additions would be lost."""
    new_stores(database, is_simulated=False)
    others = [Database(postgres_url) for _ in range(3)]
    table = schema.store.c

    def add(other: Database) -> None:
        for _ in range(10):
            with other.write() as connection:
                read = connection.execute(select(table.version).where(table.store_no == 1)).scalar_one()
                changed = schema.store.update().where(table.store_no == 1).values(version=read + 1)
                connection.execute(changed)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(add, others))
    with database.read() as connection:
        version = connection.execute(select(table.version).where(table.store_no == 1)).scalar_one()
    assert version == 1 + 30
    for other in others:
        other.close()


def test_a_ledger_is_made_once_however_many_make_it(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    databases = [Database(url) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(Database.migrate, databases))
    for database in databases:
        database.require_current()
        database.close()
    postgres_server.drop_database(url)


def test_no_schema_is_changed_under_a_running_service(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with database.read() as serving:
        serving.execute(text(f"SELECT pg_advisory_lock_shared({LOCKS}, {SERVING})"))
        with pytest.raises(DatabaseUnusable, match="stop every service of it first"):
            database.migrate()
        serving.execute(text("SELECT pg_advisory_unlock_all()"))


@pytest.fixture
def own_server() -> Generator[PostgresServer]:
    yield from running_server()


def test_a_restarted_server_is_used_again_without_a_restart_of_ours(own_server: PostgresServer) -> None:
    database = Database(own_server.new_database())
    database.migrate()
    new_stores(database, is_simulated=False)
    count = select(schema.store.c.store_no)
    for mode in ("fast", "immediate"):
        own_server.stop(mode)
        with pytest.raises(OperationalError), database.read() as connection:
            connection.execute(count)
        with pytest.raises(DatabaseUnreachable):
            database.require_current()
        own_server.start()
        with database.read() as connection:
            assert len(connection.execute(count).all()) >= 2
        new_stores(database, is_simulated=False)
    own_server.stop("immediate")
    own_server.start()
    new_stores(database, is_simulated=False)  # the first to come is served by a new connection at once
    database.close()


def test_a_process_takes_no_more_connections_than_it_may(database: Database) -> None:
    kept, besides = CONNECTIONS_MAX["reading"]
    all_in = threading.Barrier(kept + besides + 1)
    asked = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'rialto reading'"
    )

    def read(is_counting: bool) -> int:
        with database.read() as connection:
            if is_counting:
                all_in.wait(20)
            return connection.execute(asked).scalar_one()

    with ThreadPoolExecutor(kept + besides + 6) as threads:
        counting = [threads.submit(read, True) for _ in range(kept + besides)]
        waiting = [threads.submit(read, False) for _ in range(6)]
        all_in.wait(20)
        found = [done.result(20) for done in (*counting, *waiting)]
    assert max(found) == kept + besides


def test_who_gets_no_connection_in_time_is_asked_to_come_back(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "POOL_WAIT_S", 0.05)
    monkeypatch.setitem(postgres_database.CONNECTIONS_MAX, "reading", (1, 0))
    database = Database(postgres_url)
    with database.read(), pytest.raises(NoConnectionFree) as caught, database.read():
        pass
    problem = to_problem(caught.value)
    assert (problem.status, problem.code) == (503, "database_unavailable")
    assert "Retry-After" in dict(problem.headers or {})
    database.close()


def test_closing_leaves_no_connection_behind(postgres_server: PostgresServer, postgres_url: str) -> None:
    database = Database(postgres_url)
    new_stores(database, is_simulated=False)
    database.require_current()
    database.close()
    with database.read() as connection:  # begun too late to be waited for: it closes what it opened
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    watching = Database(postgres_server.url("postgres"))
    mine = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name")
    with watching.read() as connection:
        assert connection.execute(mine, {"name": postgres_url.rpartition("/")[2]}).scalar_one() == 0
    watching.close()


@pytest.fixture
def on_either(ledgers: Ledgers, tmp_path: Path) -> Generator[Database]:
    url = ledgers.new(tmp_path, "values")
    database = Database(url)
    yield database
    database.close()
    ledgers.remove(url)


def test_documents_come_back_as_they_went(on_either: Database) -> None:
    """Second moments pass 64 bits; people write what they like; keys keep their order."""
    new_stores(on_either, is_simulated=False)
    numbers = {"z": 2**200, "a": -(2**64) - 1, "é": [1.5, 0.1, 1e-300]}
    stored = {**numbers, "nul": "a\x00b", "": {"b": 1, "a": None}}
    table = schema.store
    with on_either.write() as connection:
        connection.execute(table.update().where(table.c.store_no == 1).values(settings=stored))
    with on_either.read() as connection:
        found = connection.execute(select(table.c.settings).where(table.c.store_no == 1)).scalar_one()
    assert found == stored
    assert list(found) == list(stored)
    assert all(type(found[name]) is int for name in ("z", "a"))
