"""`rialto retain`: old raw events out of the ledger, into sealed files of its archive.

For each file, in this order: it is written under a pending name and read again from disk; in one transaction
its count and checksum are compared with the rows that still stand in the ledger, their keys are noted and the
rows deleted; then the file gets its name. After a kill at any instant an event is in the ledger or in a file
that the ledger has sealed, never in both or neither; a sealed file without its name gets it when it is read.

Nothing but raw events leaves: assignments, totals, cells, order balances, and which units an event reached
stay, so every report is answered without the archive.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from experiments.fold import local_day, micros
from service.archive import manifest as manifests
from service.archive import places, slices
from service.archive.duck import ArchiveUnusable
from service.archive.export import event_partition
from service.archive.late import late_of, note_earlier_files, note_late
from service.archive.manifest import FileEntry, Kind, StoreEntry
from service.archive.parquet import Staging, checksum_of
from service.archive.places import Partition
from service.archive.reading import root_of, whole_file
from service.archive.records import EVENT_COLUMNS, Checksum
from service.catalogue import StoreState
from service.event_content import DEDUPLICATION
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.statements import chunks

FILE_ROWS_MAX = 25_000
"""Events of a file: as many as one short transaction takes out of the ledger."""
Progress = Callable[[str], None]


@dataclass(slots=True)
class Retained:
    """What a run archived."""

    events: int = 0
    files: int = 0


def retain(
    database: Database, out: Path, older_than: timedelta, progress: Progress | None = None
) -> Retained:
    """Archive the events of days that ended longer ago than this. Raises `ArchiveUnusable`.

    The caller has locked the ledger for serving: on SQLite no service runs meanwhile, on PostgreSQL each
    transaction waits for its turn among those of the services.
    """
    require_old_enough(older_than)
    out = out.resolve()
    done = Retained()
    with places.held(out):
        _settle_root(database, out)
        note_earlier_files(database, out)
        for store in slices.stores_of(database):
            _retain_store(database, store, out, older_than, done, progress)
        _write_manifest(database, out)
    return done


def require_old_enough(older_than: timedelta) -> None:
    """Refuse to archive what may still be sent again in the ordinary course of things."""
    if older_than < DEDUPLICATION:
        raise ArchiveUnusable(
            f"--older-than is at least {DEDUPLICATION.days}d: so long an event may be sent again, or another "
            "to its order, and each of those would have to be looked up in the archive"
        )


def _settle_root(database: Database, out: Path) -> None:
    """Where the archive lies; a new place is taken only when every file is there as it was sealed."""
    with database.read() as connection:
        root = root_of(connection)
        files = connection.execute(select(schema.archive_file)).all()
    if root is None and manifests.load(out, Kind.ARCHIVE).files:
        raise ArchiveUnusable(f"{out} is the archive of another ledger: give --out a directory of its own")
    if root == out:
        return
    for file in files:
        try:
            whole_file(out, file)
        except ArchiveUnusable as error:
            raise ArchiveUnusable(
                f"the archive of this ledger lies in {root}: give --out {root}, or copy all of it ({error})"
            ) from error
    with database.write() as connection:
        if root is None:
            connection.execute(insert(schema.archive), {"archive_no": 1, "root": str(out)})
        else:
            connection.execute(update(schema.archive).values(root=str(out)))


def _retain_store(
    database: Database,
    store: StoreState,
    out: Path,
    older_than: timedelta,
    done: Retained,
    progress: Progress | None,
) -> None:
    zone = store.settings.time_zone
    first_kept = local_day(slices.now_us(store) - micros(older_than), zone)
    span = slices.days_span(None, first_kept - timedelta(days=1), zone)
    newest = _newest_event(database)
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=out) as folder:
        staging = Staging(Path(folder), EVENT_COLUMNS, "event_no")
        try:
            for slice_ in slices.event_slices(database, store, span):
                staging.add(
                    [
                        (event_partition(store, row.experiment_no, row.occurred_at_us), record)
                        for row, record in slice_
                        if row.event_no != newest
                    ]
                )
            for place in staging.partitions():
                for keys in chunks(staging.keys(place), FILE_ROWS_MAX):
                    _archive(database, store, out, staging, place, keys)
                    done.events += len(keys)
                    done.files += 1
                    if progress is not None:
                        progress(str(place.folder()))
        finally:
            staging.close()


def _newest_event(database: Database) -> int | None:
    """The newest event of all stays: SQLite numbers a new row after the highest there is."""
    with database.read() as connection:
        return connection.execute(select(func.max(schema.event.c.event_no))).scalar()


def _archive(
    database: Database,
    store: StoreState,
    out: Path,
    staging: Staging,
    place: Partition,
    keys: Sequence[int],
) -> None:
    """One file: written, proved against the ledger, sealed; then its rows go."""
    # Named by its first event, which lies in no other file.
    relative = place.folder() / f"events-{keys[0]:012d}.parquet"
    path = out / relative
    pending = places.pending(path)
    staging.write(place, path, keys[0], keys[-1])
    places.sync(path)
    proved = checksum_of(pending, EVENT_COLUMNS)
    with database.write() as connection:
        rows = list(_rows(connection, keys))
        expected = Checksum()
        expected.add(slices.records_of(connection, rows))
        if (proved.rows, proved.digest()) != (expected.rows, expected.digest()):
            raise ArchiveUnusable(
                f"{path} is not what the ledger holds ({proved.rows} rows of {expected.rows}): nothing of it "
                "was deleted; check the disk, and run this again"
            )
        file_no = connection.execute(
            insert(schema.archive_file)
            .values(
                store_no=store.store_no,
                path=str(relative),
                day=place.day,
                rows=proved.rows,
                checksum=proved.digest(),
                file_bytes=pending.stat().st_size,
                file_hash=places.file_hash(pending),
                sealed_at_us=slices.now_us(store),
            )
            .returning(schema.archive_file.c.file_no)
        ).scalar_one()
        _note(connection, store, file_no, rows)
        for part in chunks(keys):
            connection.execute(delete(schema.event).where(schema.event.c.event_no.in_(part)))
    places.name(path)


def _rows(connection: Connection, keys: Sequence[int]) -> Iterator[Any]:
    table = schema.event
    for part in chunks(keys):
        yield from connection.execute(
            select(table).where(table.c.event_no.in_(part)).order_by(table.c.event_no)
        )


def _note(connection: Connection, store: StoreState, file_no: int, rows: Sequence[Any]) -> None:
    """Keep what is asked of events long after: keys, digests, times, their orders, how late they came."""
    events = [
        {
            "event_no": row.event_no,
            "store_no": store.store_no,
            "event_id": row.event_id,
            "digest": row.digest,
            "occurred_at_us": row.occurred_at_us,
            "experiment_no": row.experiment_no,
            "file_no": file_no,
        }
        for row in rows
    ]
    orders = [
        {
            "store_no": store.store_no,
            "order_id": row.order_id,
            "event_no": row.event_no,
            "digest": row.digest,
            "refund_id": row.refund_id,
            "currency": row.body["currency"] if row.type == "order" else None,
        }
        for row in rows
        if row.order_id is not None
    ]
    connection.execute(insert(schema.archived_event), events)
    times = ((row.event_no, row.type, row.occurred_at_us, row.received_at_us) for row in rows)
    note_late(connection, late_of(store.store_no, times))
    if orders:
        connection.execute(insert(schema.archived_order), orders)


def _write_manifest(database: Database, out: Path) -> None:
    """What the ledger has sealed, for readers of the files; the ledger itself reads its own list."""
    manifest = manifests.load(out, Kind.ARCHIVE)
    stores = {store.store_no: store for store in slices.stores_of(database)}
    with database.read() as connection:
        files = connection.execute(select(schema.archive_file)).all()
    for file in files:
        places.rescue(out / file.path)
        store = stores[file.store_no]
        manifest.stores.setdefault(store.key, StoreEntry(store.settings.time_zone))
        partition = dict(part.split("=", 1) for part in Path(file.path).parent.parts[1:])
        manifest.files[file.path] = FileEntry(file.rows, file.checksum.hex(), partition)
    manifests.save(out, manifest)
