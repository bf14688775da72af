"""The ledger's rows in short reads: no transaction stays open while a file is written.

Rows are asked for by windows of their numbers, so that a read is short whatever it finds.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, or_, select

from service.archive.records import Record, event_record
from service.catalogue import StoreState, load_store
from service.clock import to_micros
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.statements import chunks

WINDOW = 20_000


@dataclass(frozen=True, slots=True)
class Span:
    """Instants from (inclusive) and to (exclusive), in microseconds."""

    from_us: int
    to_us: int


def stores_of(database: Database) -> list[StoreState]:
    """Every store of the ledger."""
    with database.read() as connection:
        numbers = connection.execute(select(schema.store.c.store_no).order_by(schema.store.c.store_no))
        return [load_store(connection, store_no) for store_no in numbers.scalars().all()]


def now_us(store: StoreState) -> int:
    """The time in a store: its simulated one, if it has one."""
    return store.simulated_now_us if store.simulated_now_us is not None else time.time_ns() // 1000


def day_begins_us(day: date, time_zone: str) -> int:
    """The first instant of a day."""
    return to_micros(datetime.combine(day, time_of_day(), ZoneInfo(time_zone)))


def days_span(first: date | None, last: date, time_zone: str) -> Span:
    """From the first day (or ever) through the last."""
    from_us = 0 if first is None else day_begins_us(first, time_zone)
    return Span(from_us, day_begins_us(last + timedelta(days=1), time_zone))


def event_slices(database: Database, store: StoreState, span: Span) -> Iterator[list[tuple[Any, Record]]]:
    """Hot events of a span by number, each with its record."""
    event = schema.event.c
    mine = event.store_no == store.store_no
    with database.read() as connection:
        # An event is recorded after it occurred: what was recorded before the span is not in it.
        first, last = connection.execute(
            select(func.min(event.event_no), func.max(event.event_no)).where(
                mine, event.received_at_us >= span.from_us
            )
        ).one()
    if first is None:
        return
    for start in range(first, last + 1, WINDOW):
        with database.read() as connection:
            rows = connection.execute(
                select(schema.event)
                .where(
                    mine,
                    event.event_no.between(start, start + WINDOW - 1),
                    event.occurred_at_us >= span.from_us,
                    event.occurred_at_us < span.to_us,
                )
                .order_by(event.event_no)
            ).all()
            found = list(zip(rows, records_of(connection, rows), strict=True))
        if found:
            yield found


def records_of(connection: Connection, rows: Sequence[Any]) -> list[Record]:
    """The records of event rows, with the units they reach."""
    link = schema.event_unit.c
    reached: dict[int, list[tuple[int, int]]] = {}
    for part in chunks([row.event_no for row in rows]):
        for pair in connection.execute(
            select(link.event_no, link.unit_no, link.kinds).where(link.event_no.in_(part))
        ):
            reached.setdefault(pair.event_no, []).append((pair.unit_no, pair.kinds))
    return [event_record(row, reached.get(row.event_no, [])) for row in rows]


def assignment_slices(
    database: Database, experiment_nos: Collection[int], span: Span
) -> Iterator[Sequence[Any]]:
    """Assignment rows made in a span, by unit."""
    table = schema.assignment.c
    with database.read() as connection:
        first, last = connection.execute(select(func.min(table.unit_no), func.max(table.unit_no))).one()
    if first is None:
        return
    for start in range(first, last + 1, WINDOW):
        with database.read() as connection:
            rows = connection.execute(
                select(schema.assignment).where(
                    table.unit_no.between(start, start + WINDOW - 1),
                    table.experiment_no.in_(experiment_nos),
                    table.at_us >= span.from_us,
                    table.at_us < span.to_us,
                )
            ).all()
        if rows:
            yield rows


def persons_of_store(database: Database, store: StoreState) -> list[tuple[int, int]]:
    """Who is one with whom (unit_no, person_no) in a store, by the events that made the links.

    Of somebody who is erased there is no unit any more, and the link still stands.
    """
    person, link = schema.person.c, schema.event_unit.c
    linked = [
        person.unit_no.in_(
            select(link.unit_no)
            .join_from(table, schema.event_unit, link.event_no == table.c.event_no)
            .where(table.c.store_no == store.store_no)
        )
        for table in (schema.event, schema.archived_event)
    ]
    with database.read() as connection:
        rows = connection.execute(
            select(person.unit_no, person.person_no).where(or_(*linked)).order_by(person.unit_no)
        )
        return [(row.unit_no, row.person_no) for row in rows]


def candidate_sets(database: Database, experiment_nos: Collection[int]) -> dict[tuple[int, int], list[str]]:
    """Members of candidate sets by experiment_no and set_no."""
    table = schema.candidate_set.c
    with database.read() as connection:
        rows = connection.execute(
            select(table.experiment_no, table.set_no, table.members).where(
                table.experiment_no.in_(experiment_nos)
            )
        )
        return {(row.experiment_no, row.set_no): list(row.members) for row in rows}


def balance_slices(database: Database, store: StoreState) -> Iterator[Sequence[Any]]:
    """Order balances of a store, by order."""
    table = schema.order_balance
    after = ""
    while True:
        with database.read() as connection:
            rows = connection.execute(
                select(table)
                .where(table.c.store_no == store.store_no, table.c.order_id > after)
                .order_by(table.c.order_id)
                .limit(WINDOW)
            ).all()
        if not rows:
            return
        yield rows
        after = rows[-1].order_id


def unit_slices(database: Database, store: StoreState) -> Iterator[Sequence[Any]]:
    """Units of a store that are not erased, by number."""
    table = schema.unit
    after = 0
    while True:
        with database.read() as connection:
            rows = connection.execute(
                select(table)
                .where(table.c.unit_no > after, table.c.store_no == store.store_no)
                .order_by(table.c.unit_no)
                .limit(WINDOW)
            ).all()
        if not rows:
            return
        yield rows
        after = rows[-1].unit_no
