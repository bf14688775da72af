"""The folder's work: marked units into totals and cells.

For each marked unit the old contributions are taken out of their cells and the new ones put in; totals,
cells and the dirty marks change in one transaction, so a kill at any instant leaves either the old or
the new state. All arithmetic is on integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from experiments.fold import Contribution, FoldRules, cart_deadlines, fold_unit
from experiments.statistics import Cell, CellKey, Moments
from service.archive.index import units_of_archived_orders
from service.catalogue import LiveExperiment, StoreState
from service.ledger import schema
from service.ledger.facts import UnitRows, facts_for, read_units
from service.ledger.marks import mark
from service.ledger.statements import chunks, upsert


@dataclass(frozen=True, slots=True)
class Folded:
    """What a group contributes, and when one of its carts next counts as abandoned."""

    contributions: list[tuple[int, Contribution]]  # with the experiment_no
    next_cart_due_us: int | None


@dataclass(slots=True)
class _Change:
    """The cells a slice of units touches."""

    cells: dict[tuple[int, CellKey], Cell] = field(default_factory=dict)
    numbers: dict[tuple[int, CellKey], int] = field(default_factory=dict)


def units_of_orders(connection: Connection, store_no: int, order_ids: Iterable[str]) -> set[int]:
    """The units that orders reach: whatever comes later to an order restates them.

    Asked when folding, not when recording: an order and its refund may be recorded by two replicas at once,
    neither of which sees the other's row.
    """
    event, link = schema.event.c, schema.event_unit.c
    found: set[int] = set()
    for part in chunks(order_ids):
        rows = connection.execute(
            select(link.unit_no)
            .join_from(schema.event, schema.event_unit, event.event_no == link.event_no)
            .where(event.store_no == store_no, event.order_id.in_(part), event.type == "order")
        )
        found.update(rows.scalars())
        found |= units_of_archived_orders(connection, store_no, part)
    return found


def mark_all(connection: Connection, store_no: int, experiment_no: int) -> None:
    """Have every unit of an experiment folded again, under rules that have changed."""
    total = schema.unit_total.c
    unit_nos = connection.execute(
        select(total.unit_no).where(total.experiment_no == experiment_no).distinct()
    ).scalars()
    mark(connection, store_no, unit_nos, ())


def fold_units(connection: Connection, store: StoreState, unit_nos: Sequence[int]) -> None:
    """Recompute these units and those that are one with them."""
    rows = read_units(connection, store, unit_nos)
    members = [member for group in rows.groups for member in group]
    folded = {group: fold_group(store, rows, group) for group in rows.groups}
    contributions = [pair for result in folded.values() for pair in result.contributions]
    _replace(connection, store, members, contributions)
    due = [
        {"unit_no": group[0], "store_no": store.store_no, "due_at_us": result.next_cart_due_us}
        for group, result in folded.items()
        if result.next_cart_due_us is not None
    ]
    for part in chunks(members):
        connection.execute(delete(schema.cart_timer).where(schema.cart_timer.c.unit_no.in_(part)))
    upsert(connection, schema.cart_timer, due)


def fold_group(store: StoreState, rows: UnitRows, group: Sequence[int]) -> Folded:
    """What one group of units contributes to each experiment it is enrolled in."""
    entered = {row.experiment_no for unit_no in group for row in rows.assignments.get(unit_no, [])}
    contributions: list[tuple[int, Contribution]] = []
    deadlines: list[int] = []
    for experiment_no in sorted(entered):
        live = store.by_no(experiment_no)
        assert live is not None, f"assignment of an experiment that is not there: {experiment_no}"
        for facts in facts_for(rows, live, group):
            found = fold_unit(rules_of(live), facts)
            contributions += [(experiment_no, contribution) for contribution in found]
            deadlines += cart_deadlines(facts.carts, facts.orders).values()
    return Folded(contributions, min(deadlines, default=None))


def rules_of(live: LiveExperiment) -> FoldRules:
    """The frozen settings a fold of this experiment depends on."""
    caps = {name: (low, high) for name, (low, high) in live.caps.get("caps", {}).items()}
    return FoldRules(live.experiment, live.time_zone, caps)


def _replace(
    connection: Connection,
    store: StoreState,
    members: Sequence[int],
    contributions: Sequence[tuple[int, Contribution]],
) -> None:
    total = schema.unit_total
    old = [
        row
        for part in chunks(members)
        for row in connection.execute(select(total).where(total.c.unit_no.in_(part)))
    ]
    new_rows = {(e, c.unit_no, c.period): (e, c) for e, c in contributions}
    change = _load_cells(connection, store, {row.cell_no for row in old}, contributions)
    by_number = {number: key for key, number in change.numbers.items()}
    for row in old:
        place = by_number[row.cell_no]
        change.cells[place].add_unit(row.vector, _bins(row.bins), sign=-1)
    for part in chunks(members):
        connection.execute(delete(total).where(total.c.unit_no.in_(part)))
    rows: list[dict[str, Any]] = []
    for experiment_no, contribution in new_rows.values():
        place = (experiment_no, contribution.key)
        change.cells[place].add_unit(contribution.vector, contribution.bins)
        live = store.by_no(experiment_no)
        rows.append(
            {
                "experiment_no": experiment_no,
                "unit_no": contribution.unit_no,
                "period": contribution.period,
                "cell_no": change.numbers[place],
                "caps_version": 0 if live is None else live.caps.get("version", 0),
                "vector": contribution.vector,
                "bins": {name: int(b) for name, b in contribution.bins.items()},
            }
        )
    if rows:
        connection.execute(insert(total), rows)
    _save_cells(connection, change)


def _bins(stored: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(number) for name, number in stored.items()}


def _load_cells(
    connection: Connection,
    store: StoreState,
    cell_nos: Iterable[int],
    contributions: Sequence[tuple[int, Contribution]],
) -> _Change:
    change = _Change()
    experiment_nos = {experiment_no for experiment_no, _ in contributions}
    days = {c.key.day.isoformat() for _, c in contributions}
    table = schema.cell
    wanted = [table.c.cell_no.in_(part) for part in chunks(cell_nos)]
    wanted += [table.c.experiment_no.in_(experiment_nos) & table.c.day.in_(part) for part in chunks(days)]
    for condition in wanted:
        for row in connection.execute(select(table).where(condition)):
            live = store.by_no(row.experiment_no)
            assert live is not None
            cell = cell_of(row, live, frozenset())
            change.cells[row.experiment_no, cell.key] = cell
            change.numbers[row.experiment_no, cell.key] = row.cell_no
    for experiment_no, contribution in contributions:
        place = (experiment_no, contribution.key)
        if place not in change.cells:
            live = store.by_no(experiment_no)
            assert live is not None
            change.cells[place] = Cell(contribution.key, frozenset())
            values = _cell_row(live, change.cells[place])
            statement = insert(table).values(values).returning(table.c.cell_no)
            change.numbers[place] = connection.execute(statement).scalar_one()
    return change


def cell_of(row: Any, live: LiveExperiment, candidates: frozenset[str]) -> Cell:
    """A cell row as a value."""
    key = CellKey(
        live.variant_key(row.variant_no), row.segment, row.set_no, date.fromisoformat(row.day), row.epoch
    )
    histograms = {
        name: {int(b): n for b, n in histogram.items()} for name, histogram in row.histograms.items()
    }
    return Cell(key, candidates, Moments(dict(row.sums), dict(row.products)), histograms)


def _cell_row(live: LiveExperiment, cell: Cell) -> dict[str, Any]:
    key = cell.key
    return {
        "experiment_no": live.experiment_no,
        "variant_no": live.variant_no(key.variant),
        "segment": key.segment,
        "set_no": key.candidate_set,
        "day": key.day.isoformat(),
        "epoch": key.epoch,
        **cell_sums(cell),
    }


def cell_sums(cell: Cell) -> dict[str, Any]:
    """The sums of a cell as its columns hold them."""
    histograms = {
        name: {str(b): n for b, n in sorted(histogram.items())} for name, histogram in cell.histograms.items()
    }
    return {"sums": cell.moments.sums, "products": cell.moments.products, "histograms": histograms}


def _save_cells(connection: Connection, change: _Change) -> None:
    table = schema.cell
    for place, cell in change.cells.items():
        connection.execute(
            table.update().where(table.c.cell_no == change.numbers[place]).values(cell_sums(cell))
        )
