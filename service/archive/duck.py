"""DuckDB, which writes and reads the Parquet: an extra, loaded when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BATCH = 10_000


class ArchiveUnusable(Exception):
    """The archive cannot be used as asked; the message says what to do."""


def connect(file: Path | None = None, *, threads: int = 2) -> DuckDBPyConnection:
    """A DuckDB of its own: in memory, or in a file that takes what does not fit there."""
    try:
        import duckdb
    except ImportError as error:
        raise ArchiveUnusable(
            "Parquet needs the extra for it: pip install 'rialto[archive]' where this runs"
        ) from error
    config: dict[str, Any] = {
        "threads": threads,
        "preserve_insertion_order": True,
        # Nothing is fetched: Parquet and JSON are built in.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    return duckdb.connect(":memory:" if file is None else str(file), config=config)


def table_of(columns: Mapping[str, str]) -> str:
    """Columns as CREATE TABLE takes them."""
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def insert(
    connection: DuckDBPyConnection,
    table: str,
    columns: Mapping[str, str],
    records: Sequence[Sequence[Any]],
) -> None:
    """Insert records, given in the order of the columns, as one bound JSON text: a row at a time is slow."""
    names = list(columns)
    shape = msgspec.json.encode([_shape(columns)]).decode()
    for start in range(0, len(records), BATCH):
        part = [dict(zip(names, record, strict=True)) for record in records[start : start + BATCH]]
        taken = ", ".join(f"r.{name}" for name in names)
        connection.execute(
            f"INSERT INTO {table} SELECT {taken} FROM (SELECT unnest(from_json($1::JSON, '{shape}')) AS r)",
            [msgspec.json.encode(part).decode()],
        )


def batches(connection: DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of the query just run, many at a time."""
    while rows := connection.fetchmany(BATCH):
        yield rows


def literal(text: str) -> str:
    """A text where DuckDB binds none, as in COPY ... TO."""
    return "'" + text.replace("'", "''") + "'"


def _shape(columns: Mapping[str, str]) -> dict[str, Any]:
    """The columns as `from_json` wants them told: a list type is a list of its elements' type."""
    return {
        name: [kind.removesuffix("[]")] if kind.endswith("[]") else kind for name, kind in columns.items()
    }
