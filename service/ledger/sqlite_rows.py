"""Many rows in one statement, on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

ROWS_AT_ONCE = (64, 32, 16, 8, 4, 2, 1)
"""Rows in one INSERT. A third of a row's time is to begin and end its statement, and each lets go of
the interpreter, for which it then has to wait in line. More rows gain nothing; fewer sizes leave more
statements to what is left over."""


def insert_rows(raw: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Execute the INSERT of one row for all of them, in order."""
    start = 0
    for size in ROWS_AT_ONCE:
        while len(rows) - start >= size:
            part = rows[start : start + size]
            raw.execute(_of_many(statement, size), [*chain.from_iterable(part)])
            start += size


@cache
def _of_many(statement: str, size: int) -> str:
    start, _, rest = statement.partition(" VALUES ")
    row, _, end = rest.partition(")")
    return f"{start} VALUES {','.join([row + ')'] * size)}{end}"
