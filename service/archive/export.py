"""`rialto export`: closed days of events and assignments as Parquet, for a warehouse.

A day is one file, replaced whole when late events have changed it and left alone when nothing has, so a
second run over the same ledger writes nothing. What was archived is part of an export like what is hot.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from experiments.fold import local_day, micros
from service.archive import manifest as manifests
from service.archive import places, slices
from service.archive.duck import ArchiveUnusable, connect
from service.archive.manifest import FileEntry, Kind, Manifest, StoreEntry
from service.archive.parquet import Staging, checksum_of, read_records
from service.archive.places import Partition
from service.archive.reading import root_of, whole_file
from service.archive.records import (
    ASSIGNMENT_COLUMNS,
    EVENT_COLUMNS,
    NO_EXPERIMENT,
    PERSON_COLUMNS,
    Record,
    assignment_record,
)
from service.archive.slices import Span
from service.catalogue import LiveExperiment, StoreState
from service.event_content import CLOCK_SKEW
from service.ledger import schema
from service.ledger.database import Database

DATA_FILE = "data.parquet"
Progress = Callable[[str], None]

_OCCURRED, _EXPERIMENT = (list(EVENT_COLUMNS).index(name) for name in ("occurred_at_us", "experiment_no"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which closed days (both ends included) of which experiment; None is all."""

    experiment: str | None = None
    first: date | None = None
    last: date | None = None


@dataclass(slots=True)
class Exported:
    """What an export did."""

    written: int = 0
    unchanged: int = 0
    rows: int = 0


def export(database: Database, out: Path, wanted: Wanted, progress: Progress | None = None) -> Exported:
    """Write the closed days that are wanted, below `out`. Raises `ArchiveUnusable`."""
    stores = slices.stores_of(database)
    _require_known(stores, wanted.experiment)
    out = out.resolve()
    with database.read() as connection:
        is_archive = root_of(connection) == out
    if is_archive:
        raise ArchiveUnusable(f"{out} is the ledger's archive: export into another directory")
    done = Exported()
    with places.held(out):
        manifest = manifests.load(out, Kind.EXPORT)
        for store in stores:
            _check_time_zone(manifest, store, out)
            _export_store(database, _Target(out, manifest, done), store, wanted, progress)
        manifests.save(out, manifest)
    return done


@dataclass(frozen=True, slots=True)
class _Target:
    out: Path
    manifest: Manifest
    done: Exported


@dataclass(frozen=True, slots=True)
class _Days:
    wanted: Wanted
    now_us: int  # once for a store: every dataset ends on the same day

    def span(self, time_zone: str) -> Span:
        """From the first day wanted through the last that is wanted and closed."""
        through = closed_through(self.now_us, time_zone)
        last = through if self.wanted.last is None else min(through, self.wanted.last)
        return slices.days_span(self.wanted.first, last, time_zone)


def event_partition(store: StoreState, experiment_no: int | None, occurred_at_us: int) -> Partition:
    """Where an event lies: with the decision it names, else with no experiment; on its own day."""
    live = None if experiment_no is None else store.by_no(experiment_no)
    day = local_day(occurred_at_us, store.settings.time_zone)
    return Partition("events", store.key, NO_EXPERIMENT if live is None else live.key, day.isoformat())


def closed_through(now_us: int, time_zone: str) -> date:
    """The last day that is over, clocks being apart by as much as the wire allows."""
    return local_day(now_us - micros(CLOCK_SKEW), time_zone) - timedelta(days=1)


def _require_known(stores: list[StoreState], experiment: str | None) -> None:
    if experiment is not None and not any(experiment in store.experiments for store in stores):
        known = ", ".join(sorted({key for store in stores for key in store.experiments})) or "none"
        raise ArchiveUnusable(f"--experiment {experiment}: there is none of that key; there are: {known}")


def _check_time_zone(manifest: Manifest, store: StoreState, out: Path) -> None:
    zone = store.settings.time_zone
    entry = manifest.stores.setdefault(store.key, StoreEntry(zone))
    if entry.time_zone != zone:
        raise ArchiveUnusable(
            f"{out} has its days in {entry.time_zone}, and store {store.key} is now in {zone}: "
            "export into another directory"
        )


def _export_store(
    database: Database,
    target: _Target,
    store: StoreState,
    wanted: Wanted,
    progress: Progress | None,
) -> None:
    days = _Days(wanted, slices.now_us(store))
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=target.out) as folder:
        for columns, order, fill in (
            (EVENT_COLUMNS, "event_no", _stage_events),
            (ASSIGNMENT_COLUMNS, "unit_no, experiment_no, period", _stage_assignments),
        ):
            room = Path(folder) / fill.__name__
            room.mkdir()
            staging = Staging(room, columns, order)
            try:
                fill(database, staging, store, days)
                for place in staging.partitions():
                    if progress is not None:
                        progress(str(place.folder()))
                    _write(target, staging, place, columns)
            finally:
                staging.close()
        _write_persons(database, target, store, Path(folder))
    through = closed_through(days.now_us, store.settings.time_zone)
    target.manifest.stores[store.key].closed_through = through.isoformat()


def _stage_events(database: Database, staging: Staging, store: StoreState, days: _Days) -> None:
    span, wanted = days.span(store.settings.time_zone), days.wanted
    before = {file.file_no for file in _archived_files(database, store)}
    for slice_ in slices.event_slices(database, store, span):
        staging.add(list(_placed(store, wanted, span, (record for _, record in slice_))))
    connection = connect()
    try:
        for root, file in _archived_paths(database, store):
            for records in read_records(connection, whole_file(root, file), EVENT_COLUMNS):
                placed = list(_placed(store, wanted, span, records))
                if file.file_no not in before:  # archived just now: some were read while they were hot
                    staging.remove([record[0] for _, record in placed])
                staging.add(placed)
    finally:
        connection.close()


def _placed(
    store: StoreState, wanted: Wanted, span: Span, records: Iterable[Record]
) -> Iterator[tuple[Partition, Record]]:
    for record in records:
        occurred_at_us = record[_OCCURRED]
        if span.from_us <= occurred_at_us < span.to_us:
            place = event_partition(store, record[_EXPERIMENT], occurred_at_us)
            if wanted.experiment in (None, place.experiment):
                yield place, record


def _archived_files(database: Database, store: StoreState) -> Sequence[Any]:
    table = schema.archive_file
    with database.read() as connection:
        return connection.execute(
            select(table).where(table.c.store_no == store.store_no).order_by(table.c.file_no)
        ).all()


def _archived_paths(database: Database, store: StoreState) -> list[tuple[Path, Any]]:
    files = _archived_files(database, store)
    with database.read() as connection:
        root = root_of(connection)
    return [] if root is None else [(root, file) for file in files]


def _stage_assignments(database: Database, staging: Staging, store: StoreState, days: _Days) -> None:
    """By the experiment's own time zone: a partition is a cohort day of the report."""
    zones: dict[str, list[LiveExperiment]] = {}
    for live in store.experiments.values():
        if days.wanted.experiment in (None, live.key):
            zones.setdefault(live.time_zone, []).append(live)
    for zone, experiments in zones.items():
        by_no = {live.experiment_no: live for live in experiments}
        for rows in slices.assignment_slices(database, list(by_no), days.span(zone)):
            # After the rows: a set is there before the assignment that names it.
            sets = slices.candidate_sets(database, list(by_no))
            staging.add([_placed_assignment(store, by_no[row.experiment_no], row, sets) for row in rows])


def _placed_assignment(
    store: StoreState, live: LiveExperiment, row: Any, sets: Mapping[tuple[int, int], list[str]]
) -> tuple[Partition, Record]:
    day = local_day(row.at_us, live.time_zone).isoformat()
    place = Partition("assignments", store.key, live.key, day)
    return place, assignment_record(row, live, sets[row.experiment_no, row.set_no])


def _write_persons(database: Database, target: _Target, store: StoreState, folder: Path) -> None:
    """Who is one with whom, as it is now: a link made today joins what was assigned long ago."""
    records = slices.persons_of_store(database, store)
    place = Partition("persons", store.key, "", "")
    staging = Staging(folder, PERSON_COLUMNS, "unit_no")
    try:
        staging.add([(place, record) for record in records])
        if records:
            path = Path("persons", place.folder().parts[1], DATA_FILE)
            _write_file(target, staging, place, path, PERSON_COLUMNS, {"store": store.key})
    finally:
        staging.close()


def _write(target: _Target, staging: Staging, place: Partition, columns: Mapping[str, str]) -> None:
    partition = {"store": place.store, "experiment": place.experiment, "day": place.day}
    _write_file(target, staging, place, place.folder() / DATA_FILE, columns, partition)


def _write_file(
    target: _Target,
    staging: Staging,
    place: Partition,
    relative: Path,
    columns: Mapping[str, str],
    partition: dict[str, str],
) -> None:
    path = target.out / relative
    staging.write(place, path)
    proved = checksum_of(places.pending(path), columns)
    staged = staging.count(place)
    if proved.rows != staged:
        raise ArchiveUnusable(f"{path}: {proved.rows} rows read back of {staged} written: check the disk")
    entry = FileEntry(proved.rows, proved.digest().hex(), partition)
    target.done.rows += entry.rows
    if path.exists() and target.manifest.files.get(str(relative)) == entry:
        places.pending(path).unlink()
        target.done.unchanged += 1
        return
    places.settle(path)
    target.manifest.files[str(relative)] = entry
    target.done.written += 1
