"""Seals: what of a ledger is archived, and whether index and files are as they were sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from service.archive.duck import ArchiveUnusable, connect
from service.archive.late import LATE_COLUMNS, late_of, unnoted_through
from service.archive.parquet import read_records
from service.archive.reading import root_of, whole_file
from service.archive.records import EVENT_COLUMNS, Checksum
from service.ledger import schema

Progress = Callable[[str, int, int], None]

_NUMBER, _EVENT_ID, _DIGEST = (list(EVENT_COLUMNS).index(name) for name in ("event_no", "event_id", "digest"))
_LATE = [list(EVENT_COLUMNS).index(name) for name in LATE_COLUMNS]


@dataclass(slots=True)
class Sealed:
    """What of a store cannot be folded anew without its archive."""

    units: set[int] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    events: int = 0
    through: str | None = None  # the last day of which events are archived


def sealed_of(connection: Connection, store_no: int) -> Sealed:
    """What is sealed of a store: units and orders with archived events."""
    archived, link, event = schema.archived_event.c, schema.event_unit.c, schema.event.c
    file, order = schema.archive_file.c, schema.archived_order.c
    events, through = connection.execute(
        select(func.sum(file.rows), func.max(file.day)).where(file.store_no == store_no)
    ).one()
    if not events:
        return Sealed()
    of_events = (
        select(link.unit_no)
        .join_from(schema.archived_event, schema.event_unit, archived.event_no == link.event_no)
        .where(archived.store_no == store_no)
    )
    # An order may have come after its refund was archived.
    of_orders = (
        select(link.unit_no)
        .join_from(schema.archived_order, schema.event, order.order_id == event.order_id)
        .join(schema.event_unit, event.event_no == link.event_no)
        .where(order.store_no == store_no, event.store_no == store_no, event.type == "order")
    )
    units = {unit_no for query in (of_events, of_orders) for unit_no in connection.execute(query).scalars()}
    return Sealed(units, archived_order_ids(connection, store_no), int(events), through)


def archived_order_ids(connection: Connection, store_no: int) -> set[str]:
    """Orders of which some event is archived."""
    order = schema.archived_order.c
    rows = connection.execute(select(order.order_id).where(order.store_no == store_no).distinct())
    return set(rows.scalars())


def check_index(connection: Connection, store_no: int) -> Iterator[str]:
    """What differs between the files a store has sealed and the keys it has kept of their events."""
    file, event = schema.archive_file.c, schema.archived_event.c
    counted = (
        select(event.file_no, func.count().label("kept"))
        .where(event.store_no == store_no)
        .group_by(event.file_no)
        .subquery()
    )
    statement = (
        select(file.path, file.rows, func.coalesce(counted.c.kept, 0))
        .join_from(schema.archive_file, counted, file.file_no == counted.c.file_no, isouter=True)
        .where(file.store_no == store_no, func.coalesce(counted.c.kept, 0) != file.rows)
    )
    for path, rows, kept in connection.execute(statement):
        yield f"{rows} events are sealed in {path}, and the keys of {kept} are kept"


def check_files(connection: Connection, archive: Path | None, progress: Progress | None) -> Iterator[str]:
    """What differs between every file and its seal, row by row. Raises when a file is not whole."""
    root = archive or root_of(connection)
    files = connection.execute(select(schema.archive_file).order_by(schema.archive_file.c.file_no)).all()
    if not files:
        return
    if root is None:
        raise ArchiveUnusable("the ledger has sealed files and does not say where: give --archive DIR")
    duck, unnoted = connect(), unnoted_through(connection)
    try:
        for number, file in enumerate(files, 1):
            found = Checksum()
            keys: dict[int, tuple[str, str]] = {}
            late: list[dict[str, Any]] = []
            for records in read_records(duck, whole_file(root.resolve(), file), EVENT_COLUMNS):
                found.add(records)
                keys.update({r[_NUMBER]: (r[_EVENT_ID], r[_DIGEST]) for r in records})
                late += late_of(file.store_no, ([record[place] for place in _LATE] for record in records))
            if (found.rows, found.digest()) != (file.rows, file.checksum):
                yield f"the rows of {file.path} are not those that were sealed"
            if keys != _kept_keys(connection, file):
                yield f"the keys kept of {file.path} are not those of its events"
            if file.file_no > unnoted and late != _kept_late(connection, file):
                yield f"the late events kept of {file.path} are not those in it"
            if progress is not None:
                progress("archive", number, len(files))
    finally:
        duck.close()


def _kept_keys(connection: Connection, file: Any) -> dict[int, tuple[str, str]]:
    table = schema.archived_event.c
    rows = connection.execute(
        select(table.event_no, table.event_id, table.digest).where(table.file_no == file.file_no)
    )
    return {row.event_no: (row.event_id, row.digest.hex()) for row in rows}


def _kept_late(connection: Connection, file: Any) -> list[dict[str, Any]]:
    late, event = schema.archived_late, schema.archived_event
    rows = connection.execute(
        select(late)
        .join(event, event.c.event_no == late.c.event_no)
        .where(event.c.file_no == file.file_no)
        .order_by(late.c.event_no)
    )
    return [dict(row) for row in rows.mappings()]
