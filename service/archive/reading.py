"""Archived events read back, by their number: what a fold, a journey or `verify --full` needs of them.

Every file is compared with the hash it was sealed with when this process first opens it, and again when it
has changed on disk. A file that is missing or not as it was sealed is an error, never fewer rows.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from service.archive.duck import ArchiveUnusable, connect
from service.archive.places import file_hash, rescue
from service.archive.records import ARCHIVED_ROW_COLUMNS, ArchivedRow, archived_row
from service.ledger import schema
from service.ledger.statements import chunks

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS_KEPT_MAX = 20_000


def root_of(connection: Connection) -> Path | None:
    """Where the ledger's archive lies; None while nothing is archived."""
    root = connection.execute(select(schema.archive.c.root)).scalar()
    return None if root is None else Path(root)


def read_archived(
    connection: Connection, event_nos: Iterable[int], root: Path | None = None
) -> dict[int, ArchivedRow]:
    """The archived ones of these events, from the ledger's archive or from a copy of it at `root`."""
    wanted: dict[int, list[int]] = {}  # by file_no
    event = schema.archived_event.c
    for part in chunks(event_nos):
        rows = connection.execute(select(event.event_no, event.file_no).where(event.event_no.in_(part)))
        for row in rows:
            wanted.setdefault(row.file_no, []).append(row.event_no)
    found: dict[int, ArchivedRow] = {}
    if not wanted:
        return found
    root = root or root_of(connection)
    assert root is not None, "what is archived lies somewhere"
    table = schema.archive_file
    for part in chunks(wanted):
        for file in connection.execute(select(table).where(table.c.file_no.in_(part))).all():
            found |= _rows.of(root, file, wanted[file.file_no])
    return found


def whole_file(root: Path, file: Any) -> Path:
    """The path of a file (a row of `archive_file`), once it is seen to be as it was sealed."""
    path = root / file.path
    try:
        rescue(path)
        seen = os.stat(path)
        state = (seen.st_size, seen.st_mtime_ns, file.file_hash)
        if _whole.get(path) != state:
            if seen.st_size != file.file_bytes or file_hash(path) != file.file_hash:
                raise ArchiveUnusable(
                    f"{file.path} of the archive {root} is not as it was sealed: restore it from a backup"
                )
            _whole[path] = state
    except OSError as error:
        raise ArchiveUnusable(
            f"{file.path} of the archive {root} cannot be read ({error.strerror or error}): restore it, "
            "or run `rialto retain --out DIR` with where the archive lies now"
        ) from error
    return path


class _Rows:
    """Rows lately read. An archived row never changes, so one that is kept is as good as one read."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, int], ArchivedRow] = OrderedDict()
        self._lock = threading.Lock()
        self._connection: DuckDBPyConnection | None = None

    def of(self, root: Path, file: Any, event_nos: list[int]) -> dict[int, ArchivedRow]:
        """These events of a file."""
        with self._lock:
            kept = {n: self._kept.get((file.file_hash, n)) for n in event_nos}
            missing = [n for n, row in kept.items() if row is None]
            fresh = self._read(whole_file(root, file), missing) if missing else {}
            if len(fresh) != len(missing):
                raise ArchiveUnusable(
                    f"{file.path} of the archive {root} lacks events that the ledger says it has: "
                    "restore ledger and archive from backups of one time"
                )
            for event_no, row in fresh.items():
                self._kept[file.file_hash, event_no] = row
            while len(self._kept) > ROWS_KEPT_MAX:
                self._kept.popitem(last=False)
        return {n: row for n, row in kept.items() if row is not None} | fresh

    def _read(self, path: Path, event_nos: list[int]) -> dict[int, ArchivedRow]:
        if self._connection is None:
            self._connection = connect(threads=1)
        found: dict[int, ArchivedRow] = {}
        for part in chunks(event_nos):
            # Written out, the numbers let DuckDB leave groups of rows unread by their bounds.
            numbers = ", ".join(str(int(event_no)) for event_no in part)
            rows = self._connection.execute(
                f"SELECT {', '.join(ARCHIVED_ROW_COLUMNS)} FROM "
                f"read_parquet($1, hive_partitioning = false) WHERE event_no IN ({numbers})",
                [[str(path)]],
            ).fetchall()
            found |= {row.event_no: row for row in map(archived_row, rows)}
        return found


_rows = _Rows()
_whole: dict[Path, tuple[int, int, bytes]] = {}
