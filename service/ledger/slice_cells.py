"""The cells that slices of folding touch: read as far as needed, changed in memory, written once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import Any

import msgspec
from msgspec.json import encode
from sqlalchemy import Connection, Text, bindparam, cast, insert, select

from experiments.statistics import Cell, CellKey, Moments
from service.catalogue import StoreState
from service.ledger import schema
from service.ledger.statements import ByKeys, upsert_tuples

Place = tuple[int, CellKey]  # experiment_no, cell
Contributed = tuple[int, str, str]  # index of the cell, vector and bins as JSON
NEW = 0
"""For the number of a cell that has no row yet."""

_cell = schema.cell.c
_KEY = (
    _cell.cell_no,
    _cell.experiment_no,
    _cell.variant_no,
    _cell.segment,
    _cell.set_no,
    _cell.day,
    _cell.epoch,
)
_SUMS = ("sums", "products", "histograms")
_BY_NUMBER = ByKeys(select(*_KEY), _cell.cell_no)
_BY_DAY = ByKeys(select(*_KEY).where(_cell.experiment_no == bindparam("experiment_no")), _cell.day)
_SUMS_OF = ByKeys(select(_cell.cell_no, *(cast(_cell[name], Text) for name in _SUMS)), _cell.cell_no)
_VALUES = msgspec.json.Decoder(dict[str, int])
_HISTOGRAMS = msgspec.json.Decoder(dict[str, dict[int, int]])


class CellChange(msgspec.Struct):
    """A cell as it is to be."""

    cell_no: int  # or NEW
    place: tuple[int, int, str, int, str, int]  # experiment_no, variant_no, segment, set_no, day, epoch
    sums: tuple[str, str, str] | None  # sums, products, histograms as JSON; None as they are


class SliceCells:
    """Cells by their index in slices that are written one after the other."""

    def __init__(self, connection: Connection, store: StoreState) -> None:
        self._connection = connection
        self._live = {live.experiment_no: live for live in store.experiments.values()}
        self._numbers: list[int] = []  # by index
        self._places: list[Place] = []
        self._by_place: dict[Place, int] = {}
        self._by_number: dict[int, int] = {}
        self._cells: dict[int, Cell] = {}  # as the slices so far leave them

    def load(self, numbers: Iterable[int], places: Iterable[Place]) -> None:
        """Find out which of these have rows."""
        rows = list(_BY_NUMBER.rows(self._connection, set(numbers)))
        days: dict[int, set[str]] = {}
        for experiment_no, key in places:
            days.setdefault(experiment_no, set()).add(key.day.isoformat())
        for experiment_no, of in days.items():
            rows += _BY_DAY.rows(self._connection, of, experiment_no=experiment_no)
        for cell_no, experiment_no, variant_no, segment, set_no, day, epoch in rows:
            variant = self._live[experiment_no].variant_key(variant_no)
            key = CellKey(variant, segment, set_no, date.fromisoformat(day), epoch)
            self._by_number[cell_no] = index = self.index((experiment_no, key))
            self._numbers[index] = cell_no

    def index(self, place: Place) -> int:
        """The index of a cell, which may be new."""
        index = self._by_place.get(place)
        if index is None:
            index = self._by_place[place] = len(self._places)
            self._places.append(place)
            self._numbers.append(NEW)
        return index

    def numbered(self, cell_no: int) -> int:
        """The index of a cell that was loaded by its number."""
        return self._by_number[cell_no]

    def place(self, index: int) -> Place:
        """Where the cell at an index lies."""
        return self._places[index]

    def changes(self, used: Iterable[int], units: Mapping[Contributed, int]) -> dict[int, CellChange]:
        """The cells at the indices used, and those to which so many units are added (or taken away)."""
        moved: dict[int, list[tuple[Contributed, int]]] = {}
        for unit, weight in units.items():
            if weight:
                moved.setdefault(unit[0], []).append((unit, weight))
        self._read(moved.keys() - self._cells.keys())
        for index, found in moved.items():
            decoded = [(_VALUES.decode(vector), _VALUES.decode(bins)) for (_, vector, bins), _ in found]
            self._cells[index].add_units(decoded, [weight for _, weight in found])
        changes = {index: self._change(index, None) for index in used}
        return changes | {index: self._change(index, self._cells[index]) for index in moved}

    def _read(self, indices: Collection[int]) -> None:
        self._cells |= {index: Cell(self._places[index][1], frozenset()) for index in indices}
        numbers = {self._numbers[index] for index in indices} - {NEW}
        for cell_no, sums, products, histograms in _SUMS_OF.rows(self._connection, numbers):
            cell = self._cells[self._by_number[cell_no]]
            cell.moments = Moments(_VALUES.decode(sums), _VALUES.decode(products))
            cell.histograms = _HISTOGRAMS.decode(histograms)

    def _change(self, index: int, cell: Cell | None) -> CellChange:
        experiment_no, key = self._places[index]
        variant_no = self._live[experiment_no].variant_no(key.variant)
        place = (experiment_no, variant_no, key.segment, key.candidate_set, key.day.isoformat(), key.epoch)
        return CellChange(self._numbers[index], place, None if cell is None else _sums(cell))


def write_cells(connection: Connection, changes: Mapping[int, CellChange]) -> dict[int, int]:
    """Write what has changed; by index the number of each cell."""
    numbers: dict[int, int] = {}
    rows: list[tuple[Any, ...]] = []
    for index, change in changes.items():
        number = numbers[index] = _made(connection, change) if change.cell_no == NEW else change.cell_no
        if change.sums is not None:
            rows.append((number, *change.place, *change.sums))  # in the order of the table's columns
    upsert_tuples(connection, schema.cell, rows)
    return numbers


def _made(connection: Connection, change: CellChange) -> int:
    """The number of a cell that had no row: now it has, or the slice before has given it one."""
    place = dict(zip(_PLACE, change.place, strict=True))
    is_there = (_cell[name] == value for name, value in place.items())
    number = connection.execute(select(_cell.cell_no).where(*is_there)).scalar()
    if number is not None:
        return number
    values: dict[str, Any] = {**place, **{name: {} for name in _SUMS}}
    return connection.execute(insert(schema.cell).values(values).returning(_cell.cell_no)).scalar_one()


_PLACE = [column.name for column in _KEY[1:]]


def _sums(cell: Cell) -> tuple[str, str, str]:
    sums, products = encode(cell.moments.sums), encode(cell.moments.products)
    return sums.decode(), products.decode(), encode(cell.histograms).decode()
