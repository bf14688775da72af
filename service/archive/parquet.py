"""Records into Parquet and back: staged by partition, written, and read again to be proved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.archive import places
from service.archive.duck import batches, connect, insert, literal, table_of
from service.archive.places import Partition
from service.archive.records import Checksum, Record

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GROUP_ROWS = 4096
"""Rows of a row group: a fold that wants one event reads no more than its group."""


class Staging:
    """Records on their way to files, in a file of DuckDB's: a store's history need not fit in memory."""

    def __init__(self, folder: Path, columns: Mapping[str, str], order: str) -> None:
        self._columns, self._order = columns, order
        self._key = order.split(",")[0]
        self._connection = connect(folder / "staging.duckdb")
        self._connection.execute(f"CREATE TABLE staged (part_no INTEGER, {table_of(columns)})")
        self._numbers: dict[Partition, int] = {}

    def add(self, placed: Sequence[tuple[Partition, Record]]) -> None:
        """Take records in, each with its partition."""
        columns = {"part_no": "INTEGER", **self._columns}
        numbers = self._numbers
        rows = [(numbers.setdefault(place, len(numbers)), *record) for place, record in placed]
        insert(self._connection, "staged", columns, rows)

    def remove(self, keys: Sequence[int]) -> None:
        """Forget records by their first column."""
        self._connection.execute(
            f"DELETE FROM staged WHERE {self._key} IN (SELECT unnest($1::BIGINT[]))", [list(keys)]
        )

    def partitions(self) -> list[Partition]:
        """The partitions that have records."""
        return sorted(self._numbers)

    def count(self, place: Partition) -> int:
        """How many records a partition has."""
        found = self._connection.execute(
            "SELECT count(*) FROM staged WHERE part_no = $1", [self._numbers[place]]
        )
        return found.fetchall()[0][0]

    def keys(self, place: Partition) -> list[int]:
        """The first column of a partition's records, in order."""
        found = self._connection.execute(
            f"SELECT {self._key} FROM staged WHERE part_no = $1 ORDER BY {self._key}", [self._numbers[place]]
        )
        return [row[0] for row in found.fetchall()]

    def write(self, place: Partition, path: Path, first: int | None = None, last: int | None = None) -> None:
        """Write a partition's records, or those with keys from `first` to `last`, under a pending name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        bounds = "" if first is None else f" AND {self._key} BETWEEN {first} AND {last}"
        self._connection.execute(
            f"COPY (SELECT {', '.join(self._columns)} FROM staged "
            f"WHERE part_no = {self._numbers[place]}{bounds} ORDER BY {self._order}) "
            f"TO {literal(str(places.pending(path)))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS})"
        )

    def close(self) -> None:
        """Give the file up."""
        self._connection.close()


def read_records(
    connection: DuckDBPyConnection, path: Path, columns: Mapping[str, str]
) -> Iterator[list[tuple[Any, ...]]]:
    """The records of a file as they were written, many at a time."""
    connection.execute(
        f"SELECT {', '.join(columns)} FROM read_parquet($1, hive_partitioning = false)", [[str(path)]]
    )
    yield from batches(connection)


def checksum_of(path: Path, columns: Mapping[str, str]) -> Checksum:
    """The count and checksum of a file's records, read again from disk."""
    found = Checksum()
    connection = connect()
    try:
        for records in read_records(connection, path, columns):
            found.add(records)
    finally:
        connection.close()
    return found
