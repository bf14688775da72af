"""`rialto verify`: rebuild everything derived from the ledger's rows and ask for equality.

All on one snapshot: every enrolment's total is folded anew, every cell is summed anew from the totals,
every order balance restated. Units and orders still waiting to be folded are counted, not compared.

Sealed units and orders, those with archived events, are taken as they stand: that their totals add up to
their cells is still asked, and that the ledger has kept the key of every event it sealed. With `full` the
archive is read, each file compared with its seal, and they are folded anew like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from experiments.fold import Contribution
from experiments.statistics import Cell
from service.archive.seals import Sealed, archived_order_ids, check_files, check_index, sealed_of
from service.catalogue import LiveExperiment, StoreState, load_store
from service.ledger import schema
from service.ledger.balances import balance_rows
from service.ledger.database import Database
from service.ledger.event_keys import unequal_keys
from service.ledger.facts import read_units
from service.ledger.folds import cell_of, fold_groups, units_of_orders
from service.ledger.links import unequal_links
from service.ledger.marks import pending
from service.ledger.orders import Orders
from service.ledger.statements import chunks, found_by_key
from service.ledger.units import groups_of

DIFFERENCES_SHOWN = 20
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class VerifyReport:
    """What was compared and what differs."""

    stores: int = 0
    units: int = 0
    cells: int = 0
    orders: int = 0
    pending_units: int = 0
    pending_orders: int = 0
    sealed_units: int = 0  # not folded anew, nor the orders
    sealed_orders: int = 0
    archived_events: int = 0
    sealed_through: dict[str, str] = field(default_factory=dict)  # the last sealed day by store
    is_full: bool = False
    differences: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether every stored sum equals its recomputation."""
        return self.differences == 0

    def differ(self, what: str) -> None:
        """Note one difference."""
        self.differences += 1
        if len(self.examples) < DIFFERENCES_SHOWN:
            self.examples.append(what)


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at one store."""

    connection: Connection
    store: StoreState
    report: VerifyReport
    progress: Progress | None
    archive: Path | None  # where archived events are read, in a full look
    sealed: Sealed  # what is taken as it stands: nothing in a full look


def verify(
    database: Database, progress: Progress | None = None, *, full: bool = False, archive: Path | None = None
) -> VerifyReport:
    """Compare every derived row of every store with its recomputation.

    `archive` is a copy of the archive to read in a full look, in place of the one the ledger names.
    """
    report = VerifyReport(is_full=full)
    with database.read() as connection:
        for store_no in connection.execute(select(schema.store.c.store_no)).scalars().all():
            store = load_store(connection, store_no)
            report.stores += 1
            sealed = sealed_of(connection, store_no)
            report.archived_events += sealed.events
            if sealed.through is not None:
                report.sealed_through[store.key] = sealed.through
            left_out = Sealed() if full else sealed
            look = _Look(connection, store, report, progress, archive, left_out)
            _verify_totals(look)
            _verify_cells(connection, store, report)
            _verify_balances(look)
            for difference in check_index(connection, store_no):
                report.differ(f"store {store.key}: {difference}")
        _verify_links(connection, report)
        _verify_keys(connection, report)
        if full:
            for difference in check_files(connection, archive, progress):
                report.differ(difference)
    return report


def _verify_links(connection: Connection, report: VerifyReport) -> None:
    """Every link leads to an event: a row that vanished is a difference even where no sum shows it."""
    link, event, archived = schema.event_unit.c, schema.event.c, schema.archived_event.c
    statement = (
        select(link.event_no, link.unit_no)
        .join_from(schema.event_unit, schema.event, link.event_no == event.event_no, isouter=True)
        .join(schema.archived_event, link.event_no == archived.event_no, isouter=True)
        .where(event.event_no.is_(None), archived.event_no.is_(None))
    )
    for event_no, unit_no in connection.execute(statement):
        report.differ(f"event {event_no} of unit {unit_no} is gone")
    for event_no, unit_no in unequal_links(connection):
        report.differ(f"event {event_no} of unit {unit_no} is not by unit as it is by event")


def _verify_keys(connection: Connection, report: VerifyReport) -> None:
    """Every event is found by its key: else the same event would count once more."""
    for event_no in unequal_keys(connection):
        report.differ(f"event {event_no} is not found by its key, or the key leads elsewhere")


def _verify_totals(look: _Look) -> None:
    """Fold each enrolled unit anew and compare with its stored totals."""
    connection, store, report = look.connection, look.store, look.report
    enrolled = _enrolled_units(connection, store)
    waiting, orders = pending(connection, store.store_no)
    report.pending_units += len(waiting)
    dirty = waiting | units_of_orders(connection, store.store_no, orders)  # an order marks itself alone
    seen = _sealed_groups(look)
    report.sealed_units += len(seen & enrolled)
    for part in chunks(sorted(enrolled - seen), 1000):
        unseen = [unit_no for unit_no in part if unit_no not in seen]
        with found_by_key(connection):
            rows = read_units(connection, unseen, Orders(connection, store.store_no, look.archive))
        members = [member for group in rows.groups for member in group]
        stored = _stored_totals(connection, store, members)
        places: dict[int, list[Any]] = {}
        for place in stored:
            places.setdefault(place[1], []).append(place)
        for group, folded in fold_groups(store, rows):
            seen.update(group)
            report.units += len(group)
            if dirty.intersection(group):
                continue
            fresh = {
                (experiment_no, c.unit_no, c.period): _as_stored(c)
                for experiment_no, c in folded.contributions
            }
            kept = {place: stored[place] for unit_no in group for place in places.get(unit_no, [])}
            _compare(report, f"store {store.key}: total of unit", kept, fresh)
        if look.progress is not None:
            look.progress("units", len(seen & enrolled), len(enrolled))
    orphans = _column(connection, schema.unit_total.c.unit_no, schema.unit_total, None)
    for unit_no in sorted(orphans - enrolled - _enrolled_elsewhere(connection, store)):
        report.differ(f"store {store.key}: a total for unit {unit_no}, which was never assigned")


def _sealed_groups(look: _Look) -> set[int]:
    """Units with archived events, and those that are one with them."""
    groups = groups_of(look.connection, look.sealed.units)
    return {member for group in groups.values() for member in group}


def _enrolled_units(connection: Connection, store: StoreState) -> set[int]:
    numbers = [live.experiment_no for live in store.experiments.values()]
    table = schema.assignment.c
    rows = connection.execute(select(table.unit_no).where(table.experiment_no.in_(numbers)).distinct())
    return set(rows.scalars())


def _enrolled_elsewhere(connection: Connection, store: StoreState) -> set[int]:
    numbers = [live.experiment_no for live in store.experiments.values()]
    table = schema.assignment.c
    rows = connection.execute(select(table.unit_no).where(table.experiment_no.not_in(numbers)).distinct())
    return set(rows.scalars())


def _column(connection: Connection, column: Any, table: Any, store: StoreState | None) -> set[Any]:
    statement = select(column)
    if store is not None:
        statement = statement.where(table.c.store_no == store.store_no)
    return set(connection.execute(statement).scalars())


def _stored_totals(
    connection: Connection, store: StoreState, unit_nos: Iterable[int]
) -> dict[tuple[int, int, int], Any]:
    total, cell = schema.unit_total.c, schema.cell.c
    found: dict[tuple[int, int, int], Any] = {}
    for part in chunks(unit_nos):
        rows = connection.execute(
            select(schema.unit_total, schema.cell)
            .join_from(schema.unit_total, schema.cell, total.cell_no == cell.cell_no, isouter=True)
            .where(total.unit_no.in_(part))
        ).mappings()
        for row in rows:
            live = store.by_no(row[total.experiment_no])
            if live is not None:
                place = (row[total.experiment_no], row[total.unit_no], row[total.period])
                found[place] = _stored_total(live, row)
    return found


def _stored_total(live: LiveExperiment, row: Mapping[Any, Any]) -> Any:
    cell = schema.cell.c
    known = row[cell.cell_no] is not None and row[cell.variant_no] < len(live.experiment.variants)
    key = (
        (live.variant_key(row[cell.variant_no]), row[cell.segment], row[cell.set_no], row[cell.day])
        if known
        else ("no such cell",)
    )
    epoch = row[cell.epoch] if known else None
    return (*key, epoch, dict(row[schema.unit_total.c.vector]), dict(row[schema.unit_total.c.bins]))


def _as_stored(contribution: Contribution) -> Any:
    key = contribution.key
    return (
        key.variant,
        key.segment,
        key.candidate_set,
        key.day.isoformat(),
        key.epoch,
        dict(contribution.vector),
        dict(contribution.bins),
    )


def _verify_cells(connection: Connection, store: StoreState, report: VerifyReport) -> None:
    """Every cell is the sum of the totals that point to it."""
    sets = _candidate_set_members(connection)
    for live in store.experiments.values():
        table = schema.cell
        rows = connection.execute(select(table).where(table.c.experiment_no == live.experiment_no)).all()
        stored = {row.cell_no: cell_of(row, live, frozenset()) for row in rows}
        fresh = {number: Cell(cell.key, frozenset()) for number, cell in stored.items()}
        totals = connection.execute(
            select(schema.unit_total).where(schema.unit_total.c.experiment_no == live.experiment_no)
        )
        for row in totals:
            if row.cell_no in fresh:
                bins = {name: int(number) for name, number in row.bins.items()}
                fresh[row.cell_no].add_unit(row.vector, bins)
        report.cells += len(stored)
        for number, cell in stored.items():
            if cell != fresh[number]:
                report.differ(f"store {store.key}: cell {number} of {live.key} is not the sum of its units")
            if cell.moments and (live.experiment_no, cell.key.candidate_set) not in sets:
                report.differ(f"store {store.key}: cell {number} of {live.key} has no candidate set")


def _candidate_set_members(connection: Connection) -> set[tuple[int, int]]:
    table = schema.candidate_set.c
    return {(e, s) for e, s in connection.execute(select(table.experiment_no, table.set_no))}


def _verify_balances(look: _Look) -> None:
    connection, store, report = look.connection, look.store, look.report
    event, balance = schema.event.c, schema.order_balance
    order_ids = set(
        connection.execute(
            select(event.order_id)
            .where(event.store_no == store.store_no, event.order_id.is_not(None))
            .distinct()
        ).scalars()
    )
    archived = archived_order_ids(connection, store.store_no)
    order_ids |= archived
    _, dirty = pending(connection, store.store_no)
    report.pending_orders += len(dirty)
    stored = {
        row["order_id"]: dict(row)
        for row in connection.execute(select(balance).where(balance.c.store_no == store.store_no)).mappings()
    }
    report.sealed_orders += len(look.sealed.orders)
    for part in chunks(sorted(order_ids - look.sealed.orders), 1000):
        orders = Orders(connection, store.store_no, look.archive)
        fresh = {row["order_id"]: row for row in balance_rows(store, orders, part)}
        clean = [order_id for order_id in part if order_id not in dirty]
        report.orders += len(part)
        for order_id in clean:
            if stored.get(order_id) != fresh.get(order_id):
                report.differ(f"store {store.key}: balance of order {order_id!r} is not what its rows say")
        if look.progress is not None:
            look.progress("orders", report.orders, len(order_ids))
    for order_id in sorted(set(stored) - order_ids):
        report.differ(f"store {store.key}: a balance for order {order_id!r}, which has no rows")


def _compare(report: VerifyReport, what: str, stored: Mapping[Any, Any], fresh: Mapping[Any, Any]) -> None:
    for place in sorted(set(stored) | set(fresh)):
        if stored.get(place) != fresh.get(place):
            report.differ(f"{what} {place[1]} in experiment {place[0]}: {_how(stored, fresh, place)}")


def _how(stored: Mapping[Any, Any], fresh: Mapping[Any, Any], place: Any) -> str:
    if place not in stored:
        return "is missing"
    if place not in fresh:
        return "should not be there"
    return "is not what its rows fold to"
