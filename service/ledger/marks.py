"""Marks: which units and orders have rows not yet folded.

A mark is appended in the transaction of the rows it stands for, and taken away in the transaction that has
folded them. So a folder that sees a mark sees its rows, however many write at once; and whoever has folded a
unit before learns from its marks what has come since.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from service.ledger import schema
from service.ledger.statements import ByKeys, fetched

WINDOW = 8
"""Marks looked at for each unit or order that is taken: most of a busy shop's wait more than once."""
WORTH_LOOKING = 1 / 32
"""The share of a window's marks that are of what is taken, for it to be looked beyond: to look at one takes a
microsecond, and each that is taken may save a fold. So the more waits, the less an event costs to fold."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The units and orders that have waited longest, and their marks."""

    numbers: list[int] = field(default_factory=list[int])
    order_ids: set[str] = field(default_factory=set[str])
    events: dict[int, list[int]] = field(default_factory=dict[int, list[int]])  # that have come, by unit_no
    anew: set[int] = field(default_factory=set[int])  # units of which all is to be read anew
    is_all: bool = False  # nothing else waits

    @property
    def unit_nos(self) -> set[int]:
        """The units."""
        return self.anew | self.events.keys()


def mark(connection: Connection, store_no: int, unit_nos: Iterable[int], order_ids: Iterable[str]) -> None:
    """Note that these units and orders are to be folded (again)."""
    at_us = time.time_ns() // 1000
    rows: list[dict[str, Any]] = [
        *({"store_no": store_no, "unit_no": u, "order_id": None, "at_us": at_us} for u in sorted(unit_nos)),
        *({"store_no": store_no, "unit_no": None, "order_id": o, "at_us": at_us} for o in sorted(order_ids)),
    ]
    if rows:
        connection.execute(insert(schema.mark), rows)


def oldest(connection: Connection, store_no: int, limit: int) -> Marks:
    """Up to `limit` units and orders, those that have waited longest, with their marks, the oldest ones."""
    window = WINDOW * limit
    chosen: set[int | str] = set()
    found = Marks()
    rows: Sequence[tuple[Any, ...]] = ()
    is_worth_it = True
    looked_at = 0
    while is_worth_it and len(found.numbers) < window:
        rows = _next(connection, store_no, rows[-1][0] if rows else 0, window)
        before = len(found.numbers)
        _choose(found, rows, chosen, limit)
        looked_at += len(rows)
        taken = len(found.numbers) - before
        is_worth_it = len(rows) == window and taken >= WORTH_LOOKING * window
    is_all = len(rows) < window and len(found.numbers) == looked_at
    return replace(found, is_all=is_all)


def _next(connection: Connection, store_no: int, after: int, size: int) -> Sequence[tuple[Any, ...]]:
    table = schema.mark.c
    statement = (
        select(table.mark_no, table.unit_no, table.order_id, table.event_no)
        .where(table.store_no == store_no, table.mark_no > after)
        .order_by(table.mark_no)
        .limit(size)
    )
    return fetched(connection.execute(statement))


def _choose(found: Marks, rows: Sequence[tuple[Any, ...]], chosen: set[int | str], limit: int) -> None:
    """Take the marks of what is chosen, which is what came first."""
    for mark_no, unit_no, order_id, event_no in rows:
        key = order_id if unit_no is None else unit_no
        if key not in chosen:
            if len(chosen) == limit:
                continue
            chosen.add(key)
        found.numbers.append(mark_no)
        if order_id is not None:
            found.order_ids.add(order_id)
        if event_no is not None and unit_no is not None:
            found.events.setdefault(unit_no, []).append(event_no)
        elif unit_no is not None:
            found.anew.add(unit_no)


def take_away(connection: Connection, numbers: Collection[int]) -> int:
    """Delete marks whose units and orders are folded in this transaction; how many were there."""
    return _TAKEN.count(connection, numbers)


_TAKEN = ByKeys(delete(schema.mark), schema.mark.c.mark_no)


def pending(connection: Connection, store_no: int) -> tuple[set[int], set[str]]:
    """Units and orders that wait to be folded."""
    table = schema.mark.c
    rows = connection.execute(select(table.unit_no, table.order_id).where(table.store_no == store_no)).all()
    units = {row.unit_no for row in rows if row.unit_no is not None}
    return units, {row.order_id for row in rows if row.order_id is not None}


def waiting(connection: Connection) -> tuple[int, int | None]:
    """How many marks wait, and since when (microseconds) the oldest does."""
    table = schema.mark.c
    first = select(table.at_us).order_by(table.mark_no).limit(1)
    return connection.execute(select(func.count()).select_from(schema.mark)).scalar_one(), connection.execute(
        first
    ).scalar()
