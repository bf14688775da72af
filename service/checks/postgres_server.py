"""A PostgreSQL server: whether what it acknowledges is kept, and whether it has room for us."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

from service.checks.finding import Finding, bad, ok, warn
from service.ledger.postgres_database import LEADING, LOCKS, SERVING

VERSION_MIN = 130000
CONNECTIONS_LEFT = 20
"""What one more service may open."""


def postgres_server(connection: Connection) -> Iterator[Finding]:
    """Check the server behind a connection."""
    version = int(_setting(connection, "server_version_num"))
    shown = _setting(connection, "server_version")
    if version < VERSION_MIN:
        yield bad("postgresql", shown, "upgrade to PostgreSQL 13 or later")
    else:
        yield ok("postgresql", shown)
    yield durability(
        _setting(connection, "fsync"),
        _setting(connection, "full_page_writes"),
        _setting(connection, "synchronous_commit"),
    )
    yield _connections(connection)
    yield _indexes(connection)
    yield _leader(connection)


def durability(fsync: str, full_page_writes: str, synchronous_commit: str) -> Finding:
    """Check that what is acknowledged survives a crash of the machine."""
    found = f"fsync={fsync}, full_page_writes={full_page_writes}, synchronous_commit={synchronous_commit}"
    if "off" in (fsync, full_page_writes):
        return bad("durability", found, "set fsync and full_page_writes to on: a crash can ruin the database")
    if synchronous_commit == "off":
        return bad("durability", found, "set synchronous_commit to on: a crash loses what was acknowledged")
    return ok("durability", found)


def _connections(connection: Connection) -> Finding:
    most = int(_setting(connection, "max_connections"))
    used = connection.execute(text("SELECT count(*) FROM pg_stat_activity")).scalar_one()
    found = f"{used} of {most} in use"
    if most - used < CONNECTIONS_LEFT:
        return warn("connections", found, "raise max_connections, or run fewer workers")
    return ok("connections", found)


def _indexes(connection: Connection) -> Finding:
    there = inspect(connection)
    missing = [
        f"{index.name} of {table.name}"
        for table in SQLModel.metadata.sorted_tables
        for index in table.indexes
        if index.name not in {found["name"] for found in there.get_indexes(table.name)}
    ]
    invalid = connection.execute(
        text("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
    ).scalars()
    wrong = [*missing, *invalid]
    if wrong:
        return bad("indexes", f"missing or invalid: {', '.join(wrong)}", "REINDEX them, or restore a backup")
    return ok("indexes", "all there")


def _leader(connection: Connection) -> Finding:
    leading, serving = (
        connection.execute(
            text(
                "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database "
                "WHERE datname = current_database() AND locktype = 'advisory' AND granted "
                "AND classid = :ours AND objid = :which"
            ),
            {"ours": LOCKS, "which": which},
        ).scalar_one()
        for which in (LEADING, SERVING)
    )
    found = f"{serving} services, {leading} of them leading"
    if serving and not leading:
        return bad("leader", found, "look at the services' logs: one takes the lead within a second or two")
    if not serving:
        return warn("leader", "no service runs", "start `rialto serve`: nothing is folded meanwhile")
    return ok("leader", found)


def _setting(connection: Connection, name: str) -> str:
    return connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar_one()
