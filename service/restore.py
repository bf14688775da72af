"""`rialto restore`: a backup becomes a ledger again, on either database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Table, Text, cast, delete, func, make_url, select, text
from sqlmodel import SQLModel

from experiments.allocation.hashing import unit_hash
from service.ledger import schema
from service.ledger.database import Database, DatabaseKind, DatabaseUnusable, shown
from service.ledger.event_keys import EVENTS_SETTLED
from service.ledger.links import LINKS_SETTLED
from service.ledger.statements import insert_missing
from service.ledger.units import UNITS_SETTLED

ROWS = 5000

Progress = Callable[[str, int, int], None]


class RestoreFailed(Exception):
    """The backup was not restored; the message says what to do."""


def restore(file: Path, url: str, progress: Progress) -> Mapping[str, int]:
    """Make the ledger of a backup anew at `url`; its rows by table. Raises `RestoreFailed`."""
    _require_ledger(file)
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _as_file(file, Path(parsed.database or ""), url)
    database = Database(url)
    try:
        return _as_rows(file, database, progress)
    finally:
        database.close()


def tables() -> list[Table]:
    """Every table of the ledger."""
    return list(SQLModel.metadata.sorted_tables)


def stored_rows(connection: Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a table in parts, JSON as the text it is stored as."""
    columns = [cast(column, Text) if isinstance(column.type, JSON) else column for column in table.columns]
    statement = select(*columns).order_by(*table.primary_key.columns)
    found = connection.execution_options(stream_results=True, yield_per=ROWS).execute(statement)
    for part in found.partitions():
        yield [tuple(row) for row in part]


def insertion(table: Table) -> str:
    """The statement that inserts a whole row of a table into SQLite."""
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join("?" for _ in table.columns)})'


def _require_ledger(file: Path) -> None:
    if not file.is_file():
        raise RestoreFailed(f"{file} is no file: name one that `rialto backup` has written")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise RestoreFailed(f"{file} is no backup of Rialto: {error}") from error


def _as_file(file: Path, target: Path, url: str) -> Mapping[str, int]:
    """A copy, brought to this version's schema; never over what is there."""
    for there in (target, target.with_name(f"{target.name}-wal")):
        if there.exists():
            raise RestoreFailed(f"{there} exists: restore to another file, or move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL, 0o600))
        shutil.copyfile(file, partial)
        with open(partial, "rb") as copied:
            os.fsync(copied.fileno())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    database = Database(url)
    try:
        database.migrate()
        with database.read() as connection:
            return _counts(connection)
    finally:
        database.close()


def _as_rows(file: Path, database: Database, progress: Progress) -> Mapping[str, int]:
    if database.kind is not DatabaseKind.POSTGRES:
        raise DatabaseUnusable(f"{shown(database.url)}: restore to sqlite:///FILE or postgresql://...")
    database.migrate()
    with tempfile.TemporaryDirectory(prefix="rialto-restore-") as folder:
        source = _at_this_version(file, Path(folder))
        try:
            with source.read() as backup, database.write() as connection:
                _require_empty(connection, database)
                counts = {table.name: _load(backup, connection, table, progress) for table in tables()}
                _complete_keys(connection)
                _use_indexes(connection)
                _carry_numbers(backup, connection)
        finally:
            source.close()
    return counts


def _at_this_version(file: Path, folder: Path) -> Database:
    """The backup as a ledger of this version, in a copy: the backup itself stays as it is."""
    url = f"sqlite:///{folder / 'backup.db'}"
    _as_file(file, folder / "backup.db", url)
    return Database(url)


def _require_empty(connection: Connection, database: Database) -> None:
    if connection.execute(select(schema.store.c.store_no).limit(1)).first() is not None:
        raise RestoreFailed(f"{database.name} holds a ledger: restore into an empty database")
    for table in tables():  # what a migration has put in
        connection.execute(table.delete())


def _load(backup: Connection, connection: Connection, table: Table, progress: Progress) -> int:
    """Copy a table by COPY; how many rows."""
    total = backup.execute(select(func.count()).select_from(table)).scalar_one()
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    driver: Any = connection.connection.driver_connection
    loaded = 0
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        for rows in stored_rows(backup, table):
            for row in rows:
                copy.write_row(row)
            loaded += len(rows)
            progress(table.name, loaded, total)
    return loaded


def _complete_keys(connection: Connection) -> None:
    """The keys of the newest units, which SQLite keeps in memory, into their table."""
    stores = connection.execute(select(schema.store.c.store_no, schema.store.c.secret)).all()
    secrets = {store_no: secret for store_no, secret in stores}
    settled = connection.execute(
        select(schema.progress.c.value).where(schema.progress.c.name == UNITS_SETTLED)
    ).scalar()
    units = schema.unit.c
    found = connection.execute(
        select(units.unit_no, units.store_no, units.raw_id).where(units.unit_no > (settled or 0))
    )
    for part in found.partitions(ROWS):
        insert_missing(connection, schema.unit_key, list(_keys(part, secrets)))


def _use_indexes(connection: Connection) -> None:
    """Links by unit and events by id have indexes here, and no tables of their own."""
    connection.execute(delete(schema.unit_event))
    connection.execute(delete(schema.event_by_key))
    marks = LINKS_SETTLED, EVENTS_SETTLED
    connection.execute(delete(schema.progress).where(schema.progress.c.name.in_(marks)))


def _keys(units: Iterable[Any], secrets: Mapping[int, bytes]) -> Iterator[dict[str, Any]]:
    for unit_no, store_no, raw_id in units:
        hash16 = unit_hash(secrets[store_no], raw_id)
        yield {"store_no": store_no, "hash16": hash16, "unit_no": unit_no}


def _carry_numbers(backup: Connection, connection: Connection) -> None:
    """Let counting go on where it was: not even the number of an erased row is given again."""
    last = {name: number for name, number in backup.execute(text("SELECT name, seq FROM sqlite_sequence"))}
    for table in tables():
        column = table.autoincrement_column
        if column is None:
            continue
        highest = connection.execute(select(func.max(column))).scalar() or 0
        number = max(highest, last.get(table.name, 0))
        if number:
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence(:table, :column), :number)"),
                {"table": table.name, "column": column.name, "number": number},
            )


def _counts(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in tables()
    }
