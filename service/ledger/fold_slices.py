"""One slice of folding: computed on a snapshot, wherever there is time; written in one short transaction.

A slice is made of the oldest marks of a store. Two that are computed at once begin with the same mark, and
of two the second finds it gone and writes nothing: so contributions are taken out exactly as they were put
in, whoever folds. What is written is all values, so that a slice may be computed in another process.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from experiments.fold import Contribution
from experiments.statistics import Cell, CellKey
from service.catalogue import StoreState, load_store
from service.ledger import marks, schema
from service.ledger.balances import balance_rows
from service.ledger.facts import read_units
from service.ledger.folds import Folded, cell_of, cell_sums, fold_group, units_of_orders
from service.ledger.statements import chunks, execute_encoded, upsert, upsert_encoded

Place = tuple[int, CellKey]  # experiment_no, cell
Values = dict[str, Any]  # a row; JSON columns as text, which holds integers of any size
_Unit = tuple[Place, tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]  # cell, vector, bins


class FoldedElsewhere(Exception):
    """Somebody else has folded some of these marks meanwhile."""


class CellChange(msgspec.Struct):
    """A cell as it is to be; number 0 until it has a row."""

    cell_no: int
    place: Values
    sums: Values


class Slice(msgspec.Struct):
    """What folding some marks comes to."""

    marks: list[int]
    is_full: bool  # as many marks as were asked for: there may be more
    cells: list[CellChange]
    totals: list[tuple[int, Values]]  # with the index of their cell
    gone: list[tuple[int, int, int]]  # unit_no, experiment_no, period of totals that are no more
    timers_of: list[int]  # unit_nos
    timers: list[Values]
    balances: list[Values]


def prepare(connection: Connection, store_no: int, limit: int) -> Slice | None:
    """Compute the slice of a store's oldest marks. Reads only."""
    found = marks.oldest(connection, store_no, limit)
    if not found.numbers:
        return None
    # Loaded here, not from the catalogue: the rules must be those of the snapshot.
    store = load_store(connection, store_no)
    unit_nos = {*found.unit_nos, *units_of_orders(connection, store_no, found.order_ids)}
    part = Slice(found.numbers, len(found.numbers) == limit, [], [], [], [], [], [])
    if unit_nos:
        _fold(connection, store, sorted(unit_nos), part)
    if found.order_ids:
        part.balances = balance_rows(connection, store, found.order_ids)
    return part


def write(connection: Connection, part: Slice) -> None:
    """Write a slice, unless some of it is folded already. Raises `FoldedElsewhere`."""
    if marks.take_away(connection, part.marks) != len(part.marks):
        raise FoldedElsewhere
    numbers = _write_cells(connection, part.cells)
    total, timer = schema.unit_total, schema.cart_timer
    for unit_no, experiment_no, period in part.gone:
        place = (total.c.unit_no, unit_no), (total.c.experiment_no, experiment_no), (total.c.period, period)
        connection.execute(delete(total).where(*(column == value for column, value in place)))
    rows = [values | {"cell_no": numbers[index]} for index, values in part.totals]
    upsert_encoded(connection, total, rows)
    for unit_nos in chunks(part.timers_of):
        connection.execute(delete(timer).where(timer.c.unit_no.in_(unit_nos)))
    upsert(connection, timer, part.timers)
    upsert(connection, schema.order_balance, part.balances)


def _write_cells(connection: Connection, cells: Sequence[CellChange]) -> list[int]:
    table = schema.cell
    numbers: list[int] = []
    for cell in cells:
        number = cell.cell_no
        if not number:
            statement = insert(table).values(**cell.place, sums={}, products={}, histograms={})
            number = connection.execute(statement.returning(table.c.cell_no)).scalar_one()
        numbers.append(number)
    changed = [
        cell.sums | {"changed_no": number} for cell, number in zip(cells, numbers, strict=True) if cell.sums
    ]
    execute_encoded(connection, _UPDATE_CELL, changed)
    return numbers


_UPDATE_CELL = (
    update(schema.cell)
    .where(schema.cell.c.cell_no == bindparam("changed_no"))
    .values({name: bindparam(name) for name in ("sums", "products", "histograms")})
)


def _fold(connection: Connection, store: StoreState, unit_nos: Sequence[int], part: Slice) -> None:
    rows = read_units(connection, store, unit_nos)
    members = [member for group in rows.groups for member in group]
    folded = {group: fold_group(store, rows, group) for group in rows.groups}
    old = _old_totals(connection, members)
    cells = _Cells(connection, store, {row.cell_no for row in old.values()}, folded.values())
    weights: Counter[_Unit] = Counter()
    for row in old.values():
        weights[cells.place_of[row.cell_no], _items(row.vector), _items(row.bins)] -= 1
    new: set[tuple[int, int, int]] = set()
    for experiment_no, found in (pair for result in folded.values() for pair in result.contributions):
        new.add((found.unit_no, experiment_no, found.period))
        unit = ((experiment_no, found.key), _items(found.vector), _items(found.bins))
        weights[unit] += 1
        version = store.numbered(experiment_no).caps.get("version", 0)
        was = old.get((found.unit_no, experiment_no, found.period))
        if was is None or not _is_same(was, cells, unit, version):
            part.totals.append((cells.index(unit[0]), _total(experiment_no, found, version)))
    part.gone = [place for place in old if place not in new]
    for (place, vector, bins), weight in weights.items():
        if weight:
            cells.add(place, dict(vector), dict(bins), weight)
    part.cells = cells.changes()
    part.timers_of = members
    part.timers = [
        {"unit_no": group[0], "store_no": store.store_no, "due_at_us": result.next_cart_due_us}
        for group, result in folded.items()
        if result.next_cart_due_us is not None
    ]


def _items(mapping: Any) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, int(value)) for name, value in mapping.items()))


def _old_totals(connection: Connection, unit_nos: Iterable[int]) -> dict[tuple[int, int, int], Row[Any]]:
    total = schema.unit_total
    return {
        (row.unit_no, row.experiment_no, row.period): row
        for numbers in chunks(unit_nos)
        for row in connection.execute(select(total).where(total.c.unit_no.in_(numbers)))
    }


def _is_same(was: Row[Any], cells: _Cells, unit: _Unit, version: int) -> bool:
    place, vector, bins = unit
    is_there = cells.place_of[was.cell_no] == place and was.caps_version == version
    return is_there and _items(was.vector) == vector and _items(was.bins) == bins


def _total(experiment_no: int, found: Contribution, version: int) -> Values:
    return {
        "experiment_no": experiment_no,
        "unit_no": found.unit_no,
        "period": found.period,
        "caps_version": version,
        "vector": json.dumps(found.vector),
        "bins": json.dumps({name: int(number) for name, number in found.bins.items()}),
    }


class _Cells:
    """The cells a slice touches: loaded at once, changed in memory."""

    def __init__(
        self, connection: Connection, store: StoreState, old: Iterable[int], folded: Iterable[Folded]
    ) -> None:
        self._store = store
        self.place_of: dict[int, Place] = {}  # by cell_no
        self._cells: dict[Place, Cell] = {}
        self._numbers: dict[Place, int] = {}
        self._order: dict[Place, int] = {}  # of the cells that are used
        self._changed: set[Place] = set()
        places = {(e, c.key) for result in folded for e, c in result.contributions}
        self._load(connection, old, places)

    def _load(self, connection: Connection, old: Iterable[int], places: set[Place]) -> None:
        table = schema.cell
        experiments = {experiment_no for experiment_no, _ in places}
        days = {key.day.isoformat() for _, key in places}
        wanted = [table.c.cell_no.in_(part) for part in chunks(old)]
        wanted += [table.c.experiment_no.in_(experiments) & table.c.day.in_(part) for part in chunks(days)]
        for condition in wanted:
            for row in connection.execute(select(table).where(condition)):
                live = self._store.numbered(row.experiment_no)
                cell = cell_of(row, live, frozenset())
                place = (row.experiment_no, cell.key)
                self._cells[place], self._numbers[place] = cell, row.cell_no
                self.place_of[row.cell_no] = place

    def index(self, place: Place) -> int:
        """Where the cell stands in the slice."""
        return self._order.setdefault(place, len(self._order))

    def add(self, place: Place, vector: dict[str, int], bins: dict[str, int], weight: int) -> None:
        """Add so many units with the same contribution (or take them away)."""
        cell = self._cells.get(place)
        if cell is None:
            cell = self._cells[place] = Cell(place[1], frozenset())
        cell.add_unit(vector, bins, weight)
        self._changed.add(place)
        self.index(place)

    def changes(self) -> list[CellChange]:
        """The cells used, in the order of their indices, with their sums where these have changed."""
        return [self._change(place) for place in self._order]

    def _change(self, place: Place) -> CellChange:
        experiment_no, key = place
        live = self._store.numbered(experiment_no)
        where = {
            "experiment_no": experiment_no,
            "variant_no": live.variant_no(key.variant),
            "segment": key.segment,
            "set_no": key.candidate_set,
            "day": key.day.isoformat(),
            "epoch": key.epoch,
        }
        sums: Values = {}
        if place in self._changed:
            sums = {name: json.dumps(value) for name, value in cell_sums(self._cells[place]).items()}
        return CellChange(self._numbers.get(place, 0), where, sums)
