"""`rialto query`: one SELECT over ledger and archive as if they were one, and nothing else.

The tables named in the statement are copied out of the ledger in short reads, archived events are read where
they lie; then DuckDB is closed to files, the network and settings, and runs the statement. So a question,
however long it takes, holds no transaction of the ledger open and can change nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from experiments.allocation.hashing import unit_hash
from experiments.fold import local_day
from service.archive import slices
from service.archive.duck import ArchiveUnusable, connect, insert, literal, table_of
from service.archive.reading import root_of, whole_file
from service.archive.records import ASSIGNMENT_COLUMNS, EVENT_COLUMNS, NO_EXPERIMENT, assignment_record
from service.archive.slices import Span
from service.catalogue import StoreState
from service.ledger import schema
from service.ledger.database import Database

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EVER = Span(0, 1 << 62)
PLACE_COLUMNS: Mapping[str, str] = {"store": "VARCHAR", "experiment": "VARCHAR", "day": "DATE"}
ORDER_COLUMNS: Mapping[str, str] = {
    "store": "VARCHAR",
    "order_id": "VARCHAR",
    "at_us": "BIGINT",
    "is_order": "BOOLEAN",
    "is_converted": "BOOLEAN",
    "amount_minor": "BIGINT",
    "refunded_minor": "BIGINT",
    "over_refunded_minor": "BIGINT",
    "is_refunded": "BOOLEAN",
    "is_cancelled": "BOOLEAN",
    "orphan_refunds": "INTEGER",
    "orphan_refunded_minor": "BIGINT",
}
UNIT_COLUMNS: Mapping[str, str] = {
    "store": "VARCHAR",
    "unit_no": "BIGINT",
    "unit_hash": "VARCHAR",
    "person_no": "BIGINT",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The columns of an answer, and a function that gives its next rows, none at the end."""

    columns: list[str]
    next_rows: Callable[[], list[tuple[Any, ...]]]


@contextmanager
def asked(database: Database, sql: str, archive: Path | None = None) -> Generator[Answer]:
    """Run one SELECT. Raises `ArchiveUnusable` with what DuckDB says of a statement it cannot run."""
    with tempfile.TemporaryDirectory(prefix="rialto-query-") as folder:
        connection = connect()
        import duckdb  # it is there: `connect` says so otherwise

        try:
            _require_select(duckdb.extract_statements(sql), duckdb.StatementType.SELECT)
            connection.execute(f"SET temp_directory = {literal(folder)}")
            files = _load(connection, database, _named(sql), archive)
            _close_to_all_but(connection, files)
            cursor = connection.execute(sql)
            columns = [column[0] for column in cursor.description or []]
            yield Answer(columns, lambda: cursor.fetchmany(1000))
        except duckdb.Error as error:
            raise ArchiveUnusable(f"the query cannot be run: {' '.join(str(error).split())}") from error
        finally:
            connection.close()


def _require_select(statements: Sequence[Any], select_type: Any) -> None:
    if len(statements) != 1 or statements[0].type != select_type:
        raise ArchiveUnusable("rialto query runs one SELECT and nothing else: the ledger is only read here")


def _named(sql: str) -> set[str]:
    """The tables the statement may mean: those whose name stands in it anywhere."""
    return {name for name in _LOADERS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)}


def _load(
    connection: DuckDBPyConnection, database: Database, names: Collection[str], archive: Path | None
) -> list[str]:
    """Make the tables named; the archive's files they read."""
    stores = slices.stores_of(database)
    files: list[str] = []
    for name in sorted(names):
        files += _LOADERS[name](connection, database, stores, archive)
    return files


def _close_to_all_but(connection: DuckDBPyConnection, files: Sequence[str]) -> None:
    connection.execute(f"SET allowed_paths = [{', '.join(map(literal, files))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _load_events(
    connection: DuckDBPyConnection, database: Database, stores: Sequence[StoreState], archive: Path | None
) -> list[str]:
    columns = {**PLACE_COLUMNS, **EVENT_COLUMNS}
    connection.execute(f"CREATE TABLE hot_events ({table_of(columns)})")
    before = {file.file_no for _, file in _archived(database, archive)}
    for store in stores:
        for slice_ in slices.event_slices(database, store, EVER):
            records = [(*_place_of_event(store, row), *record) for row, record in slice_]
            insert(connection, "hot_events", columns, records)
    files = _archived(database, archive)
    paths = [str(whole_file(root, file)) for root, file in files]
    # Archived while we read: what was read of these while it was hot goes again.
    for path, (_, file) in zip(paths, files, strict=True):
        if file.file_no not in before:
            connection.execute(
                "DELETE FROM hot_events WHERE event_no IN "
                f"(SELECT event_no FROM read_parquet({literal(path)}, hive_partitioning = false))"
            )
    archived = f"UNION ALL SELECT *, true FROM ({_of_files(paths)})" if paths else ""
    connection.execute(
        "CREATE VIEW events AS SELECT *, make_timestamp(occurred_at_us) AS occurred_at, "
        "make_timestamp(received_at_us) AS received_at "
        f"FROM (SELECT *, false AS is_archived FROM hot_events {archived})"
    )
    return paths


def _of_files(paths: Sequence[str]) -> str:
    listed = ", ".join(map(literal, paths))
    return (
        f"SELECT store, nullif(experiment, '{NO_EXPERIMENT}'), day::DATE, {', '.join(EVENT_COLUMNS)} "
        f"FROM read_parquet([{listed}], hive_partitioning = true, hive_types = "
        "{'store': VARCHAR, 'experiment': VARCHAR, 'day': VARCHAR})"
    )


def _place_of_event(store: StoreState, row: Any) -> tuple[str, str | None, str]:
    live = None if row.experiment_no is None else store.by_no(row.experiment_no)
    day = local_day(row.occurred_at_us, store.settings.time_zone)
    return store.key, None if live is None else live.key, day.isoformat()


def _archived(database: Database, archive: Path | None) -> list[tuple[Path, Any]]:
    with database.read() as connection:
        root = archive or root_of(connection)
        files = connection.execute(select(schema.archive_file)).all()
    return [] if root is None else [(root.resolve(), file) for file in files]


def _load_assignments(
    connection: DuckDBPyConnection, database: Database, stores: Sequence[StoreState], _archive: Path | None
) -> list[str]:
    columns = {**PLACE_COLUMNS, **ASSIGNMENT_COLUMNS}
    connection.execute(f"CREATE TABLE assignment_rows ({table_of(columns)})")
    for store in stores:
        by_no = {live.experiment_no: live for live in store.experiments.values()}
        for rows in slices.assignment_slices(database, list(by_no), EVER):
            sets = slices.candidate_sets(database, list(by_no))
            records: list[tuple[Any, ...]] = []
            for row in rows:
                live = by_no[row.experiment_no]
                day = local_day(row.at_us, live.time_zone).isoformat()
                record = assignment_record(row, live, sets[row.experiment_no, row.set_no])
                records.append((store.key, live.key, day, *record))
            insert(connection, "assignment_rows", columns, records)
    connection.execute(
        "CREATE VIEW assignments AS SELECT *, make_timestamp(at_us) AS assigned_at FROM assignment_rows"
    )
    return []


def _load_orders(
    connection: DuckDBPyConnection, database: Database, stores: Sequence[StoreState], _archive: Path | None
) -> list[str]:
    connection.execute(f"CREATE TABLE orders ({table_of(ORDER_COLUMNS)})")
    for store in stores:
        for rows in slices.balance_slices(database, store):
            records = [(store.key, *(getattr(row, name) for name in list(ORDER_COLUMNS)[1:])) for row in rows]
            insert(connection, "orders", ORDER_COLUMNS, records)
    return []


def _load_units(
    connection: DuckDBPyConnection, database: Database, stores: Sequence[StoreState], _archive: Path | None
) -> list[str]:
    connection.execute(f"CREATE TABLE units_hashed ({table_of(UNIT_COLUMNS)})")
    for store in stores:
        persons = dict(slices.persons_of_store(database, store))
        for rows in slices.unit_slices(database, store):
            records: list[tuple[Any, ...]] = [
                (
                    store.key,
                    row.unit_no,
                    unit_hash(store.secret, row.raw_id).hex(),
                    persons.pop(row.unit_no, row.unit_no),
                )
                for row in rows
            ]
            insert(connection, "units_hashed", UNIT_COLUMNS, records)
        erased = [(store.key, unit_no, None, person_no) for unit_no, person_no in persons.items()]
        insert(connection, "units_hashed", UNIT_COLUMNS, erased)
    return []


_Loader = Callable[["DuckDBPyConnection", Database, Sequence[StoreState], Path | None], list[str]]
_LOADERS: Mapping[str, _Loader] = {
    "assignments": _load_assignments,
    "events": _load_events,
    "orders": _load_orders,
    "units_hashed": _load_units,
}
