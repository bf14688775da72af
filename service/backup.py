"""`rialto backup`: a ledger as one file, taken beside a running service, and proved.

The file is an SQLite ledger of this version, whichever database it comes from: it can be opened, queried,
verified and served as it is, and `rialto restore` brings it to either database.

SQLite is copied page by page with its own backup call. A snapshot is held meanwhile: without it every write
of the service would start the copy over. PostgreSQL is read in one REPEATABLE READ transaction. So either
way the file holds everything acknowledged before the backup began.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select, text

from service.ledger.database import Database, DatabaseKind
from service.ledger.event_keys import fill_keys
from service.ledger.links import LINKS_SETTLED
from service.ledger.units import UNITS_SETTLED
from service.ledger.verify import verify
from service.restore import Progress, insertion, restore, stored_rows, tables

PAGES = 256
PAUSE_S = 0.002
"""Between steps of a mebibyte, so that the service's own reads and commits find the disk free."""


class BackupFailed(Exception):
    """There is no backup, or it is not what it should be; the message says what to do."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was written."""

    file: str
    bytes: int
    rows: Mapping[str, int]
    seconds: float
    verified: bool


def back_up(database: Database, file: Path, *, is_verified: bool, progress: Progress) -> BackupReport:
    """Write the ledger to a new file, with `is_verified` proved by restoring it. Raises `BackupFailed`."""
    started = time.monotonic()
    if file.exists():
        raise BackupFailed(f"{file} exists: name another file, or move it away")
    if not file.parent.is_dir():
        raise BackupFailed(f"{file.parent} is no directory: make it, or name another --out")
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL, 0o600))  # it holds what identifies people
        copy = _copy_sqlite if database.kind is DatabaseKind.SQLITE else _copy_rows
        rows = copy(database, partial, progress)
        check(partial, rows, is_whole=is_verified)
        if is_verified:
            _prove(partial, rows, progress)
        _settle(partial, file)
    finally:
        for left in file.parent.glob(f"{partial.name}*"):
            left.unlink()
    return BackupReport(str(file), file.stat().st_size, rows, time.monotonic() - started, is_verified)


def check(file: Path, rows: Mapping[str, int], *, is_whole: bool) -> None:
    """Raise unless the file is sound and has so many rows; `is_whole` compares the indexes too."""
    with closing(sqlite3.connect(file)) as connection:
        pragma = "integrity_check" if is_whole else "quick_check"
        (found,) = connection.execute(f"PRAGMA {pragma}(1)").fetchone()
        if found != "ok":
            raise BackupFailed(f"the copy is damaged ({found}): see whether the disk is failing")
        for name, count in rows.items():
            (copied,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()
            if copied != count:
                raise BackupFailed(f"the copy has {copied} rows of {name}, the ledger {count}: try again")


def _copy_sqlite(database: Database, target: Path, progress: Progress) -> dict[str, int]:
    _require_space(database.path, target.parent)
    with (
        closing(sqlite3.connect(f"{database.path.absolute().as_uri()}?mode=rw", uri=True)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.isolation_level = None
        source.execute("PRAGMA busy_timeout=10000")
        source.execute("BEGIN")
        counts = {
            table.name: source.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0]
            for table in tables()
        }

        def step(_status: int, remaining: int, total: int) -> None:
            progress("copy", total - remaining, total)
            time.sleep(PAUSE_S)

        source.backup(copy, pages=PAGES, progress=step)
        source.execute("COMMIT")
        copy.execute("PRAGMA journal_mode=DELETE")  # the whole of it in one file
    return counts


def _copy_rows(database: Database, target: Path, progress: Progress) -> dict[str, int]:
    ledger = Database(f"sqlite:///{target}")
    try:
        ledger.migrate()
    finally:
        ledger.close()
    counts: dict[str, int] = {}
    with database.read() as connection, closing(sqlite3.connect(target, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous=OFF")  # the file is synced as a whole before it gets its name
        copy.execute("BEGIN")
        for table in tables():
            copy.execute(f'DELETE FROM "{table.name}"')
            total = connection.execute(select(func.count()).select_from(table)).scalar_one()
            counts[table.name] = 0
            for rows in stored_rows(connection, table):
                copy.executemany(insertion(table), rows)
                counts[table.name] += len(rows)
                progress(table.name, counts[table.name], total)
        _carry_numbers(connection, copy)
        counts |= _merge_all(copy)
        copy.execute("COMMIT")
        copy.execute("PRAGMA journal_mode=DELETE")
    return counts


def _carry_numbers(connection: Connection, copy: sqlite3.Connection) -> None:
    """Let no number be given twice: not even that of a row that was erased last."""
    for table in tables():
        column = table.autoincrement_column
        if column is None:
            continue
        last = connection.execute(
            text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:table, :column)::regclass)"),
            {"table": table.name, "column": column.name},
        ).scalar()
        if last is not None:
            copy.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (last, table.name))


def _merge_all(copy: sqlite3.Connection) -> dict[str, int]:
    """What SQLite merges in key order is merged: keys of units and of events, and links by unit."""
    columns = "unit_no, event_no, kinds"
    copy.execute(
        f"INSERT INTO unit_event ({columns}) SELECT {columns} FROM event_unit ORDER BY unit_no, event_no"
    )
    marks = (UNITS_SETTLED, "unit_no", "unit_key"), (LINKS_SETTLED, "event_no", "event_unit")
    for name, number, table in marks:
        newest = f"SELECT '{name}', coalesce(max({number}), 0) FROM {table}"
        copy.execute(f"INSERT OR REPLACE INTO progress (name, value) {newest}")
    fill_keys(copy, dict(copy.execute("SELECT store_no, secret FROM store").fetchall()))
    changed = "unit_event", "event_by_key", "progress"
    return {name: copy.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in changed}


def _prove(file: Path, rows: Mapping[str, int], progress: Progress) -> None:
    """Restore the file beside itself, and demand of the result what is demanded of a ledger."""
    _require_space(file, file.parent)
    with tempfile.TemporaryDirectory(prefix=".rialto-restored-", dir=file.parent) as folder:
        url = f"sqlite:///{Path(folder) / 'restored.db'}"
        restore(file, url, progress)
        database = Database(url)
        try:
            database.require_current()
            report = verify(database, progress)
        finally:
            database.close()
        if not report.is_exact:
            raise BackupFailed(
                f"{report.differences} stored sums are not those of the ledger's rows: see `rialto verify`"
            )
        check(Path(folder) / "restored.db", rows, is_whole=True)


def _settle(partial: Path, file: Path) -> None:
    """Onto the disk, and only then under its name."""
    for place in (partial, partial.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == partial:
            partial.rename(file)


def _require_space(source: Path, folder: Path) -> None:
    needed, free = source.stat().st_size, shutil.disk_usage(folder).free
    if free < needed:
        raise BackupFailed(
            f"{folder} has {free >> 20} MiB free, the copy needs {needed >> 20}: make room, or name another"
        )
