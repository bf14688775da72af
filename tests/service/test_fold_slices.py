"""Slices of folding: whoever folds, and however often the same waits, contributions are counted once."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from service.ledger import marks, schema
from service.ledger.database import Database
from service.ledger.fold_slices import FoldedElsewhere, Slice, prepare, write
from service.ledger.verify import verify
from tests.service.histories import RULES, History, new_history

UNITS = ["a", "b", "c"]


@pytest.fixture
def waiting(
    empty_ledger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[tuple[Database, int]]:
    """A ledger in which three units wait to be folded, each of them four times."""
    history = new_history(tmp_path / "a.db", empty_ledger)
    monkeypatch.setattr("service.jobs.loop.fold_pending", _nothing)
    for unit in UNITS:
        history.assign(RULES["by-visitor"], {"unit_id": unit}, [])
    for round_no in range(3):
        history.send([_order(unit, f"{unit}{round_no}") for unit in UNITS])
    yield history.shop.database, _store_no(history)
    history.close()


def test_a_unit_is_folded_once_however_often_it_waits(waiting: tuple[Database, int]) -> None:
    database, store_no = waiting
    part = _prepared(database, store_no, limit=2)
    assert len({total.unit_no for total in part.totals}) == 2
    assert len(part.marks) == 8
    assert not part.is_last
    _write(database, part)
    last = _prepared(database, store_no, limit=2)
    assert len(last.marks) == 4
    assert last.is_last
    _write(database, last)
    assert _is_all_folded(database)


def test_of_two_slices_of_one_snapshot_the_second_is_not_written(waiting: tuple[Database, int]) -> None:
    """Even where they have no mark in common, as when one that is older becomes visible later."""
    database, store_no = waiting
    first = _prepared(database, store_no, limit=1)
    _renumber(database, first.marks, by=1000)
    other = _prepared(database, store_no, limit=1)
    _renumber(database, [number + 1000 for number in first.marks], by=-1000)
    assert not set(first.marks) & set(other.marks)
    _write(database, first)
    with pytest.raises(FoldedElsewhere):
        _write(database, other)
    while (part := _prepare(database, store_no, limit=1)) is not None:
        _write(database, part)
    assert _is_all_folded(database)


def test_two_that_write_a_cell_unaware_of_each_other_would_be_caught(waiting: tuple[Database, int]) -> None:
    """The planted fault: the second slice says that it was computed after the first."""
    database, store_no = waiting
    first = _prepared(database, store_no, limit=1)
    _renumber(database, first.marks, by=1000)
    other = _prepared(database, store_no, limit=1)
    _renumber(database, [number + 1000 for number in first.marks], by=-1000)
    _write(database, first)
    other.turn += 1
    for change in other.cells.values():
        change.cell_no = _first_number(database)
    _write(database, other)
    assert not verify(database).is_exact


def _first_number(database: Database) -> int:
    """The number of the first cell."""
    with database.read() as connection:
        return connection.execute(select(func.min(schema.cell.c.cell_no))).scalar_one()


def _order(unit: str, order_id: str) -> dict[str, Any]:
    what = {"event_id": f"order-{order_id}", "type": "order", "unit_id": unit, "order_id": order_id}
    return {**what, "amount": 1000, "currency": "EUR", "cost": 400}


def _prepare(database: Database, store_no: int, *, limit: int) -> Slice | None:
    with database.read() as connection:
        return prepare(connection, store_no, limit)


def _prepared(database: Database, store_no: int, *, limit: int) -> Slice:
    part = _prepare(database, store_no, limit=limit)
    assert part is not None
    return part


def _write(database: Database, part: Slice) -> None:
    with database.write() as connection:
        write(connection, part)


def _renumber(database: Database, numbers: list[int], *, by: int) -> None:
    table = schema.mark
    with database.write() as connection:
        for number in numbers:
            connection.execute(
                update(table).where(table.c.mark_no == number).values(mark_no=table.c.mark_no + by)
            )


def _is_all_folded(database: Database) -> bool:
    with database.read() as connection:
        waiting, _ = marks.waiting(connection)
    report = verify(database)
    return waiting == 0 and report.is_exact and report.pending_units == 0


def _store_no(history: History) -> int:
    mine = schema.store.c.key == history.keys.store
    with history.shop.database.read() as connection:
        return connection.execute(select(schema.store.c.store_no).where(mine)).scalar_one()


async def _nothing(*_: Any) -> int:
    return 0
