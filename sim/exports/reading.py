"""One experiment of an export, as views of DuckDB; BadFile says what the export lacks.

Raw ids never leave a ledger, so a person is a number. Order ids are a store's own: what another store did
under the same id is not seen.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sim.ope.errors import MissingLibrary
from sim.replay.errors import BadFile

PARTS = ("assignments", "events")
VIEWS = Path(__file__).with_name("views.sql")
NOBODY = "CREATE VIEW persons AS SELECT 0::BIGINT AS unit_no, 0::BIGINT AS person_no WHERE false"


@contextmanager
def opened(path: Path, *, experiment: str, store: str | None, is_customer: bool) -> Generator[Any]:
    """A connection with the views assignments, events, persons and those of `views.sql`."""
    for part in PARTS:
        if not any((path / part).rglob("*.parquet")):
            raise BadFile(f"{path} holds no {part}/**/*.parquet: is it what `rialto export --out` wrote?")
    try:
        import duckdb
    except ImportError:
        raise MissingLibrary("an export is read by DuckDB: pip install 'rialto[archive]'") from None
    with duckdb.connect() as connection:
        try:
            own = _quoted(_store(connection, path, experiment, store))
            enrolled = f"store = {own} AND experiment = {_quoted(experiment)}"
            connection.execute(f"CREATE VIEW assignments AS {_files(path, 'assignments')} WHERE {enrolled}")
            connection.execute(f"CREATE VIEW events AS {_files(path, 'events')} WHERE store = {own}")
            if any((path / "persons").rglob("*.parquet")):
                connection.execute(f"CREATE VIEW persons AS {_files(path, 'persons')} WHERE store = {own}")
            else:
                connection.execute(NOBODY)
            connection.execute(VIEWS.read_text("utf-8").format(kind=2 if is_customer else 1))
        except duckdb.Error as error:
            said = " ".join(str(error).split())
            raise BadFile(f"{path} cannot be read as what `rialto export` wrote: {said}") from error
        yield connection


def _store(connection: Any, path: Path, experiment: str, store: str | None) -> str:
    found = connection.execute(
        f"SELECT DISTINCT store FROM ({_files(path, 'assignments')}) WHERE experiment = $1 ORDER BY 1",
        [experiment],
    ).fetchall()
    stores = [name for (name,) in found]
    if store is None and len(stores) > 1:
        said = f"several stores have an experiment {experiment!r}"
        raise BadFile(f"{said}: say which by export/store, one of {', '.join(stores)}")
    if not stores or store not in (None, *stores):
        where = "" if store is None or not stores else f" in store {store!r}, only in {', '.join(stores)}"
        raise BadFile(f"{path} holds no enrolment of experiment {experiment!r}{where}")
    return stores[0] if store is None else store


def _files(path: Path, part: str) -> str:
    files = _quoted(str(path / part / "**" / "*.parquet"))
    return f"SELECT * FROM read_parquet({files}, hive_partitioning = true, hive_types_autocast = false)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
