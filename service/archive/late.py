"""What stays in the ledger of archived events that came late, for reports to count them by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from service.archive.duck import connect
from service.archive.parquet import read_records
from service.archive.reading import whole_file
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.tables import LATE_US

UNNOTED = "late_unnoted"
"""The row of `progress` with the highest number of a file whose late events are still to be noted: those
sealed by a version that did not; without it there is none."""

LATE_COLUMNS = {
    "event_no": "BIGINT",
    "type": "VARCHAR",
    "occurred_at_us": "BIGINT",
    "received_at_us": "BIGINT",
}


def late_of(store_no: int, rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Of the rows (number, type, occurred, received) those that came late, as the ledger keeps them."""
    return [
        dict(zip(("store_no", *LATE_COLUMNS), (store_no, *row), strict=True))
        for row in rows
        if row[3] - row[2] > LATE_US
    ]


def note_late(connection: Connection, late: list[dict[str, Any]]) -> None:
    """Keep them."""
    if late:
        connection.execute(insert(schema.archived_late), late)


def unnoted_through(connection: Connection) -> int:
    """Files up to this number are not noted; 0 when all are."""
    table = schema.progress.c
    return connection.execute(select(table.value).where(table.name == UNNOTED)).scalar() or 0


def note_earlier_files(database: Database, root: Path) -> None:
    """Note the late events of files that an earlier version sealed, the newest first, one a transaction."""
    file = schema.archive_file
    while True:
        with database.write() as connection:
            last = unnoted_through(connection)
            row = connection.execute(
                select(file).where(file.c.file_no <= last).order_by(file.c.file_no.desc()).limit(1)
            ).first()
            mark = schema.progress.c.name == UNNOTED
            if row is None:
                connection.execute(delete(schema.progress).where(mark))
                return
            for rows in _read(root, row):
                note_late(connection, late_of(row.store_no, rows))
            connection.execute(update(schema.progress).where(mark).values(value=row.file_no - 1))


def _read(root: Path, file: Any) -> Iterator[list[tuple[Any, ...]]]:
    duck = connect(threads=1)
    try:
        yield from read_records(duck, whole_file(root, file), LATE_COLUMNS)
    finally:
        duck.close()
