"""Slices of folding: computed on a snapshot, wherever there is time; each written in one short transaction.

Cells are written as values, so nobody else may have folded between the snapshot and the write. A slice says
how many slices of its store had been written when it is its turn; of two that say the same the second is not
written, nor those computed with it. So contributions are taken out exactly as they were put in, whoever
folds, and slices may be computed in another process.

Many units are chosen at once, so that one that waits often is folded once, and written a few at a time. The
marks of all of them go with the last slice: what is cut short before is folded again, and found as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Text, bindparam, cast, delete, select, update

from experiments.fold import Contribution
from service.catalogue import StoreState, load_store
from service.ledger import marks, schema
from service.ledger.balances import balance_rows
from service.ledger.facts import read_units
from service.ledger.folds import Folded, all_rules, caps_versions, fold_groups, units_of_orders
from service.ledger.kept_units import KeptUnits
from service.ledger.orders import Orders
from service.ledger.slice_cells import CellChange, Contributed, SliceCells, write_cells
from service.ledger.statements import (
    ByKeys,
    Prepared,
    chunks,
    found_by_key,
    insert_missing,
    upsert_tuples,
)
from service.ledger.unit_rows import UnitRows

Enrolled = tuple[int, int, int]  # unit_no, experiment_no, period


READ_AT_ONCE = 4000
"""Units whose rows are read together: a slice is a part of them."""


class FoldedElsewhere(Exception):
    """Somebody else has folded meanwhile."""


class Total(NamedTuple):
    """What one enrolment contributes: a row of `unit_total`, but for the number of its cell."""

    unit_no: int
    experiment_no: int
    period: int
    cell: int  # index in the slice
    caps_version: int
    vector: str
    bins: str


class Slice(msgspec.Struct):
    """What folding some units comes to: all that changes."""

    store_no: int
    turn: int  # slices of the store to be written before it
    marks: list[int] = []
    is_all: bool = False  # nothing else waited
    cells: dict[int, CellChange] = {}
    totals: list[Total] = []
    gone: list[Enrolled] = []  # totals that are no more
    timers: list[tuple[int, int, int]] = []  # rows of `cart_timer`
    timers_gone: list[int] = []  # unit_nos
    balances: list[tuple[Any, ...]] = []  # rows of `order_balance`


def prepare(
    connection: Connection, store_no: int, units: int, per_slice: int, kept: KeptUnits | None = None
) -> list[Slice]:
    """Compute slices of so many units and orders of a store, those that have waited longest. Reads only.

    `kept` are the units that the caller's earlier calls have folded.
    """
    with found_by_key(connection):
        return _prepared(connection, store_no, units, per_slice, kept)


def _prepared(
    connection: Connection, store_no: int, units: int, per_slice: int, kept: KeptUnits | None
) -> list[Slice]:
    found = marks.oldest(connection, store_no, units)
    if not found.numbers:
        return []
    # Loaded here, not from the catalogue: the rules must be those of the snapshot.
    store = load_store(connection, store_no)
    orders = Orders(connection, store_no)
    cells = SliceCells(connection, store)
    turn = _turn(connection, store_no)
    if kept is not None:
        kept.begin(connection, orders, found, _basis(store, turn))
    slices: list[Slice] = []
    folded: set[int] = set()
    for some in chunks(
        sorted(found.unit_nos | units_of_orders(connection, store_no, found.order_ids)), READ_AT_ONCE
    ):
        # Those who are one are folded together, with the first of them.
        rows = read_units(connection, [unit_no for unit_no in some if unit_no not in folded], orders, kept)
        folded.update(member for group in rows.groups for member in group)
        slices += _fold(connection, store, rows, cells, turn + len(slices), per_slice)
    last = slices[-1] if slices else Slice(store_no, turn)
    last.marks, last.is_all = found.numbers, found.is_all
    balances = balance_rows(store, orders, found.order_ids)
    last.balances = [tuple(row[name] for name in _BALANCE) for row in balances]
    slices = slices or [last]
    if kept is not None:
        kept.end(store_no, _basis(store, turn + len(slices)))
    return slices


def write(connection: Connection, part: Slice) -> None:
    """Write a slice. Raises `FoldedElsewhere` when it is not its turn: another has been written."""
    with found_by_key(connection):
        _write(connection, part)


def _write(connection: Connection, part: Slice) -> None:
    _take_turn(connection, part)
    taken = marks.take_away(connection, part.marks)
    assert taken == len(part.marks), "only slices take marks away"
    numbers = write_cells(connection, part.cells)
    total = schema.unit_total.c
    for unit_no, experiment_no, period in part.gone:
        place = total.unit_no == unit_no, total.experiment_no == experiment_no, total.period == period
        connection.execute(delete(schema.unit_total).where(*place))
    rows = [(*total[:3], numbers[total.cell], *total[4:]) for total in part.totals]
    upsert_tuples(connection, schema.unit_total, rows)
    _TIMERS_GONE.count(connection, part.timers_gone)
    upsert_tuples(connection, schema.cart_timer, part.timers)
    upsert_tuples(connection, schema.order_balance, part.balances)


def _basis(store: StoreState, turn: int) -> object:
    """What folds depend on besides facts, after so many slices: one that was not written is not counted."""
    return turn, all_rules(store), caps_versions(store)


def _turn(connection: Connection, store_no: int) -> int:
    table = schema.progress.c
    return connection.execute(select(table.value).where(table.name == _turn_name(store_no))).scalar() or 0


def _take_turn(connection: Connection, part: Slice) -> None:
    name = _turn_name(part.store_no)
    if part.turn == 0:
        insert_missing(connection, schema.progress, [{"name": name, "value": 0}])
    taken = _TURN.execute(connection, {"of": name, "turn": part.turn, "next": part.turn + 1})
    if taken.rowcount != 1:
        raise FoldedElsewhere


def _turn_name(store_no: int) -> str:
    """Under which name of `progress` the count of a store's slices stands."""
    return f"slices_folded:{store_no}"


def _fold(
    connection: Connection, store: StoreState, rows: UnitRows, cells: SliceCells, turn: int, per_slice: int
) -> list[Slice]:
    members = [member for group in rows.groups for member in group]
    folded = list(fold_groups(store, rows))
    totals = _TOTALS.rows(connection, members)
    places = {(experiment_no, one.key) for _, result in folded for experiment_no, one in result.contributions}
    cells.load({cell_no for _, _, _, cell_no, *_ in totals}, places)
    was: dict[int, list[Total]] = {}
    for unit_no, experiment_no, period, cell_no, *rest in totals:
        total = Total(unit_no, experiment_no, period, cells.numbered(cell_no), *rest)
        was.setdefault(unit_no, []).append(total)
    timers = {unit_no: due_at_us for unit_no, due_at_us in _TIMERS.rows(connection, members)}
    slices: list[Slice] = []
    for some in chunks(folded, per_slice):
        part = Slice(store.store_no, turn + len(slices))
        old = {total[:3]: total for group, _ in some for member in group for total in was.get(member, ())}
        _compare(store, cells, old, [pair for _, result in some for pair in result.contributions], part)
        _set_timers(timers, some, part)
        slices.append(part)
    return slices


def _compare(
    store: StoreState,
    cells: SliceCells,
    old: dict[Enrolled, Total],
    new: list[tuple[int, Contribution]],
    part: Slice,
) -> None:
    """Note the totals that change, and what that does to their cells."""
    versions = caps_versions(store)
    units: Counter[Contributed] = Counter()
    for experiment_no, one in new:
        total = Total(
            one.unit_no,
            experiment_no,
            one.period,
            cells.index((experiment_no, one.key)),
            versions[experiment_no],
            msgspec.json.encode(one.vector).decode(),
            msgspec.json.encode(one.bins).decode(),
        )
        was = old.pop(total[:3], None)
        if was != total:
            part.totals.append(total)
            units[total.cell, total.vector, total.bins] += 1
            if was is not None:
                units[was.cell, was.vector, was.bins] -= 1
    for place, was in old.items():
        part.gone.append(place)
        units[was.cell, was.vector, was.bins] -= 1
    part.cells = cells.changes({total.cell for total in part.totals}, units)


def _set_timers(
    old: Mapping[int, int], folded: Sequence[tuple[tuple[int, ...], Folded]], part: Slice
) -> None:
    """Note when the next cart of each group is given up, where that has changed; `old` is by unit_no."""
    new = {group[0]: due for group, result in folded if (due := result.next_cart_due_us) is not None}
    part.timers = [(unit_no, part.store_no, due) for unit_no, due in new.items() if old.get(unit_no) != due]
    members = (member for group, _ in folded for member in group)
    part.timers_gone = [unit_no for unit_no in members if unit_no in old and unit_no not in new]


_progress = schema.progress.c
_TURN = Prepared(
    update(schema.progress)
    .where(_progress.name == bindparam("of"), _progress.value == bindparam("turn"))
    .values(value=bindparam("next"))
)
_total, _timer = schema.unit_total.c, schema.cart_timer.c
_BALANCE = [column.name for column in schema.order_balance.columns]
_TOTALS = ByKeys(
    select(
        _total.unit_no,
        _total.experiment_no,
        _total.period,
        _total.cell_no,
        _total.caps_version,
        cast(_total.vector, Text).label("vector"),
        cast(_total.bins, Text).label("bins"),
    ),
    _total.unit_no,
)
_TIMERS = ByKeys(select(_timer.unit_no, _timer.due_at_us), _timer.unit_no)
_TIMERS_GONE = ByKeys(delete(schema.cart_timer), _timer.unit_no)
