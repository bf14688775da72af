"""Columns of a file as arrays: CSV (plain or gzipped) and Parquet, row by row into compact arrays.

A cell takes 8 bytes, and each different text is kept once; the file itself is never held.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.off_policy.terms import FloatArray, IntArray
from sim.replay.conditions import Condition
from sim.replay.errors import BadFile
from sim.replay.source import cells, places_of

PARQUET_MAGIC = b"PAR1"
BATCH = 65_536
LARGEST = 1e140
"""So that sums of squares of a billion rows are finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A column of texts: each row's place in `labels`."""

    codes: IntArray
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The rows that were kept: their numbers in the file (1 is the first), numbers and texts by column."""

    rows: IntArray
    numbers: dict[str, FloatArray] = field(default_factory=dict[str, FloatArray])
    texts: dict[str, Texts] = field(default_factory=dict[str, Texts])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns to read as what; of `blank` an empty cell is 0, of `missing` it is nan."""

    numbers: Collection[str]
    texts: Collection[str]
    blank: Collection[str] = ()
    missing: Collection[str] = ()

    @property
    def columns(self) -> frozenset[str]:
        """All of them."""
        return frozenset((*self.numbers, *self.texts))


def read_table(path: Path, wanted: Wanted, where: Condition, delimiter: str, encoding: str) -> Table:
    """The rows of a file that `where` keeps; BadFile names the row and the column of the first fault."""
    columns = wanted.columns | where.columns
    rows = file_rows(path, columns, delimiter, encoding)
    kept = array("q")
    numbers = {name: array("d") for name in wanted.numbers}
    texts = {name: (array("l"), dict[str, int]()) for name in wanted.texts}
    for number, values in rows:
        if where.tests and not where.holds(values, number):
            continue
        kept.append(number)
        for name, column in numbers.items():
            column.append(_number(values[name], name, number, wanted))
        for name, (codes, labels) in texts.items():
            codes.append(labels.setdefault(values[name].strip(), len(labels)))
    if not kept:
        raise BadFile(f"{path.name} holds no row to evaluate")
    return Table(
        np.array(kept, dtype=np.int64),
        {name: np.array(column) for name, column in numbers.items()},
        {
            name: Texts(np.array(codes, dtype=np.int64), tuple(labels))
            for name, (codes, labels) in texts.items()
        },
    )


def file_rows(
    path: Path, columns: Iterable[str], delimiter: str, encoding: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Row number and cells, as text, of every row of a CSV or Parquet file."""
    return _parquet(path, columns) if _is_parquet(path) else cells(path, columns, delimiter, encoding)


def _number(cell: str, column: str, row: int, wanted: Wanted) -> float:
    """As a float; `nan` and `inf` are no numbers, only an empty cell of a context may be missing."""
    if not cell.strip():
        if column in wanted.blank:
            return 0.0
        if column in wanted.missing:
            return float("nan")
    try:
        found = float(cell)
    except ValueError:
        found = float("nan")
    if "_" in cell or not np.isfinite(found):
        raise BadFile(f"column {column!r} holds {cell!r} where a number is needed", row)
    if abs(found) > LARGEST:
        raise BadFile(f"column {column!r} holds {cell!r}, too large a number to be squared", row)
    return found


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == PARQUET_MAGIC
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error}") from error


def _parquet(path: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Row number and cells, as text, of every row; a null is an empty cell."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BadFile(f"{path.name} is Parquet, which needs pyarrow: pip install 'rialto[sim]'") from None
    number = 0
    try:
        with closing(parquet.ParquetFile(path)) as file:
            names = [name for name, _ in places_of(file.schema_arrow.names, columns)]
            for batch in file.iter_batches(batch_size=BATCH, columns=names):
                held = [batch.column(name).to_pylist() for name in names]
                for values in zip(*held, strict=True):
                    number += 1
                    yield number, {name: _text(value) for name, value in zip(names, values, strict=True)}
    except ArrowException as error:
        raise BadFile(f"{path.name} is broken Parquet after row {number}: {error}") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)
