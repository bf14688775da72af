"""The answer of a query as text: a table for people, CSV or JSON for programs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TextIO

from service.archive.query import Answer


def write_answer(answer: Answer, kind: str, to: TextIO) -> None:
    """Write an answer in one of `FORMATS`."""
    FORMATS[kind](answer, to)


def _table(answer: Answer, to: TextIO) -> None:
    rows = [[_cell(value) for value in row] for row in _rows(answer)]
    widths = [max(map(len, column)) for column in zip(answer.columns, *rows, strict=True)]
    for line in (answer.columns, ["-" * width for width in widths], *rows):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        to.write("  ".join(cells).rstrip() + "\n")


def _csv(answer: Answer, to: TextIO) -> None:
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow(answer.columns)
    for row in _rows(answer):
        writer.writerow([None if value is None else _cell(value) for value in row])


def _json(answer: Answer, to: TextIO) -> None:
    start = "[\n"
    for row in _rows(answer):
        named = dict(zip(answer.columns, map(_plain, row), strict=True))
        to.write(start + json.dumps(named, ensure_ascii=False))
        start = ",\n"
    to.write("[]\n" if start == "[\n" else "\n]\n")


FORMATS: dict[str, Callable[[Answer, TextIO], None]] = {"table": _table, "csv": _csv, "json": _json}


def _rows(answer: Answer) -> Iterator[tuple[Any, ...]]:
    while rows := answer.next_rows():
        yield from rows


def _cell(value: Any) -> str:
    plain = _plain(value)
    if plain is None:
        return "-"
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what it has no form for as text."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_plain(one) for one in value]
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}
        case _:
            return str(value)
