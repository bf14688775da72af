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
from typing import Any

import msgspec
from sqlalchemy import Connection, Text, bindparam, cast, delete, select, update

from experiments.fold import Contribution
from service.catalogue import StoreState, load_store
from service.ledger import marks, schema
from service.ledger.balances import balance_rows
from service.ledger.folds import Folded, all_rules, caps_versions, fold_groups, units_of_orders
from service.ledger.kept_units import KeptUnits, Standing
from service.ledger.orders import Orders
from service.ledger.slice_cells import CellChange, Contributed, Place, SliceCells, write_cells
from service.ledger.statements import (
    ByKeys,
    Prepared,
    chunks,
    found_by_key,
    insert_missing,
    upsert_tuples,
)
from service.ledger.unit_rows import Enrolled, Total, UnitRows


class FoldedElsewhere(Exception):
    """Somebody else has folded meanwhile."""


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
        return _prepared(connection, store_no, units, per_slice, KeptUnits() if kept is None else kept)


def _prepared(
    connection: Connection, store_no: int, units: int, per_slice: int, kept: KeptUnits
) -> list[Slice]:
    found = marks.oldest(connection, store_no, units)
    if not found.numbers:
        return []
    # Loaded here, not from the catalogue: the rules must be those of the snapshot.
    store = load_store(connection, store_no)
    orders = Orders(connection, store_no)
    turn = _turn(connection, store_no)
    kept.begin(store_no, _basis(store, turn))
    marked = found.unit_nos | units_of_orders(connection, store_no, found.order_ids)
    rows = kept.read(connection, marked, found, orders)
    slices = _fold(connection, store, rows, kept, turn, per_slice) or [Slice(store_no, turn)]
    last = slices[-1]
    last.marks, last.is_all = found.numbers, found.is_all
    balances = balance_rows(store, orders, found.order_ids)
    last.balances = [tuple(row[name] for name in _BALANCE) for row in balances]
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
    connection: Connection, store: StoreState, rows: UnitRows, kept: KeptUnits, turn: int, per_slice: int
) -> list[Slice]:
    folded = list(fold_groups(store, rows))
    cells = SliceCells(connection, store)
    standing = _standing(connection, cells, folded, kept)
    slices: list[Slice] = []
    for some in chunks(folded, per_slice):
        part = Slice(store.store_no, turn + len(slices))
        old = [standing[member] for group, _ in some for member in group]
        totals = _compare(
            store, cells, old, [pair for _, result in some for pair in result.contributions], part
        )
        _set_timers(standing, some, part)
        for group, result in some:
            if len(group) == 1:
                kept.note(group[0], Standing(totals.get(group[0], ()), result.next_cart_due_us))
        slices.append(part)
    return slices


def _standing(
    connection: Connection,
    cells: SliceCells,
    folded: Sequence[tuple[tuple[int, ...], Folded]],
    kept: KeptUnits,
) -> dict[int, Standing]:
    """What the ledger holds of the units that are folded: from it, where that is not known.

    Their cells, old and new, are loaded.
    """
    members = [member for group, _ in folded for member in group]
    standing = {member: known for member in members if (known := kept.standing(member)) is not None}
    unknown = [member for member in members if member not in standing]
    found = _TOTALS.rows(connection, unknown)
    timers = dict(_TIMERS.rows(connection, unknown))
    places = {(experiment_no, one.key) for _, result in folded for experiment_no, one in result.contributions}
    places.update(place for known in standing.values() for place, _ in known.totals)
    cells.load({cell_no for _, _, _, cell_no, *_ in found}, places)
    totals: dict[int, list[tuple[Place, Total]]] = {unit_no: [] for unit_no in unknown}
    for unit_no, experiment_no, period, cell_no, *rest in found:
        index = cells.numbered(cell_no)
        totals[unit_no].append((cells.place(index), Total(unit_no, experiment_no, period, index, *rest)))
    standing.update((unit_no, Standing(found, timers.get(unit_no))) for unit_no, found in totals.items())
    return standing


def _compare(
    store: StoreState,
    cells: SliceCells,
    old: Sequence[Standing],
    new: list[tuple[int, Contribution]],
    part: Slice,
) -> dict[int, list[tuple[Place, Total]]]:
    """Note the totals that change, and what that does to their cells; all totals by unit as they are now."""
    versions = caps_versions(store)
    units: Counter[Contributed] = Counter()
    before = {
        total[:3]: total._replace(cell=cells.index(place)) for known in old for place, total in known.totals
    }
    now: dict[int, list[tuple[Place, Total]]] = {}
    for experiment_no, one in new:
        index = cells.index((experiment_no, one.key))
        total = Total(
            one.unit_no,
            experiment_no,
            one.period,
            index,
            versions[experiment_no],
            msgspec.json.encode(one.vector).decode(),
            msgspec.json.encode(one.bins).decode(),
        )
        now.setdefault(one.unit_no, []).append((cells.place(index), total))
        was = before.pop(total[:3], None)
        if was != total:
            part.totals.append(total)
            units[total.cell, total.vector, total.bins] += 1
            if was is not None:
                units[was.cell, was.vector, was.bins] -= 1
    for place, was in before.items():
        part.gone.append(place)
        units[was.cell, was.vector, was.bins] -= 1
    part.cells = cells.changes({total.cell for total in part.totals}, units)
    return now


def _set_timers(
    standing: Mapping[int, Standing], folded: Sequence[tuple[tuple[int, ...], Folded]], part: Slice
) -> None:
    """Note when the next cart of each group is given up, where that has changed."""
    old = {member: standing[member].cart_due_us for group, _ in folded for member in group}
    new = {group[0]: due for group, result in folded if (due := result.next_cart_due_us) is not None}
    part.timers = [(unit_no, part.store_no, due) for unit_no, due in new.items() if old.get(unit_no) != due]
    part.timers_gone = [unit_no for unit_no, due in old.items() if due is not None and unit_no not in new]


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
