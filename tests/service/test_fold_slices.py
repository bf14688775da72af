"""Slices of folding: whoever folds, and however often the same waits, contributions are counted once."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import func, insert, select, update

from service.event_types import AnyEvent, OrderChange
from service.ledger import marks, schema
from service.ledger.database import Database
from service.ledger.fold_slices import FoldedElsewhere, Slice, prepare, write
from service.ledger.unit_events import FOLDED, UNFOLDED
from service.ledger.verify import verify
from tests.service.histories import RULES, History, new_history

UNITS = ["a", "b", "c"]


@pytest.fixture
def history(empty_ledger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[History]:
    """A shop where nobody folds."""
    history = new_history(tmp_path / "a.db", empty_ledger)
    monkeypatch.setattr("service.jobs.loop.fold_pending", _nothing)
    yield history
    history.close()


@pytest.fixture
def waiting(history: History) -> tuple[Database, int]:
    """A ledger in which three units wait to be folded, each of them four times; and the store."""
    for unit in UNITS:
        history.assign(RULES["by-visitor"], {"unit_id": unit}, [])
    for round_no in range(3):
        history.send([_order(unit, f"{unit}{round_no}") for unit in UNITS])
    return history.shop.database, _store_no(history)


def test_a_unit_is_folded_once_however_often_it_waits(waiting: tuple[Database, int]) -> None:
    database, store_no = waiting
    (part,) = _prepare(database, store_no, units=2)
    assert len({total.unit_no for total in part.totals}) == 2
    assert len(part.marks) == 8
    assert not part.is_all
    _write(database, part)
    (rest,) = _prepare(database, store_no, units=2)
    assert len(rest.marks) == 4
    assert rest.is_all
    _write(database, rest)
    assert _is_all_folded(database)


@pytest.mark.parametrize(("worth_looking", "taken", "folds"), [(0.5, 6, 3), (1.0, 3, 4)])
def test_marks_are_looked_for_as_long_as_it_is_worth_it(
    waiting: tuple[Database, int],
    monkeypatch: pytest.MonkeyPatch,
    worth_looking: float,
    taken: int,
    folds: int,
) -> None:
    """The marks are of a, b and c in turn; three of the first four are of two units."""
    monkeypatch.setattr(marks, "WINDOW", 2)
    monkeypatch.setattr(marks, "WORTH_LOOKING", worth_looking)
    database, store_no = waiting
    sizes: list[int] = []
    while slices := _prepare(database, store_no, units=2):
        (part,) = slices
        sizes.append(len(part.marks))
        assert part.is_all == (sum(sizes) == 12)
        _write(database, part)
    assert (sizes[0], len(sizes)) == (taken, folds)
    assert _is_all_folded(database)


@pytest.mark.parametrize("written", range(4))
def test_slices_cut_short_are_folded_again(waiting: tuple[Database, int], written: int) -> None:
    """Each is exact by itself, also where two make the same new cell; the marks go with the last."""
    database, store_no = waiting
    slices = _prepare(database, store_no, units=10, per_slice=1)
    assert [len(part.marks) for part in slices] == [0, 0, 12]
    for part in slices[:written]:
        _write(database, part)
        assert verify(database).is_exact
    for part in _prepare(database, store_no, units=10, per_slice=2):
        _write(database, part)
    assert _is_all_folded(database)


def test_those_who_are_one_are_folded_once(waiting: tuple[Database, int]) -> None:
    """Though the slices would part them."""
    database, store_no = waiting
    with database.write() as connection:
        unit_nos = connection.execute(select(schema.unit.c.unit_no)).scalars().all()
        links = [{"unit_no": unit_no, "person_no": min(unit_nos)} for unit_no in unit_nos]
        connection.execute(insert(schema.person), links)
    for part in _prepare(database, store_no, units=10, per_slice=1):
        _write(database, part)
    assert _is_all_folded(database)


def test_of_two_slices_of_one_snapshot_the_second_is_not_written(waiting: tuple[Database, int]) -> None:
    """Even where they have no mark in common, as when one that is older becomes visible later."""
    database, store_no = waiting
    (first,) = _prepare(database, store_no, units=1)
    _renumber(database, first.marks, by=1000)
    (other,) = _prepare(database, store_no, units=1)
    _renumber(database, [number + 1000 for number in first.marks], by=-1000)
    assert not set(first.marks) & set(other.marks)
    _write(database, first)
    with pytest.raises(FoldedElsewhere):
        _write(database, other)
    while slices := _prepare(database, store_no, units=1):
        _write(database, slices[0])
    assert _is_all_folded(database)


def test_every_type_of_event_is_folded_or_known_not_to_be() -> None:
    """What comes later to an order is read with it; an `identify` says who is folded together."""
    tags = {kind.__struct_config__.tag for kind in get_args(AnyEvent)}
    later = {kind.__struct_config__.tag for kind in get_args(OrderChange)}
    assert set(FOLDED) | later | {"identify"} | UNFOLDED == tags
    assert not UNFOLDED & {*FOLDED, *later, "identify"}


def test_an_event_that_no_sum_reads_waits_for_nothing(
    waiting: tuple[Database, int], history: History
) -> None:
    database, store_no = waiting
    for part in _prepare(database, store_no, units=10):
        _write(database, part)
    history.send([{"event_id": "seen", "type": "product_view", "unit_id": "a", "sku": "X"}])
    assert _prepare(database, store_no, units=10) == []
    assert _is_all_folded(database)


def test_two_that_write_a_cell_unaware_of_each_other_would_be_caught(waiting: tuple[Database, int]) -> None:
    """The planted fault: the second slice says that it was computed after the first."""
    database, store_no = waiting
    (first,) = _prepare(database, store_no, units=1)
    _renumber(database, first.marks, by=1000)
    (other,) = _prepare(database, store_no, units=1)
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


def _prepare(database: Database, store_no: int, *, units: int, per_slice: int = 10) -> list[Slice]:
    with database.read() as connection:
        return prepare(connection, store_no, units, per_slice)


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
