"""The hot path on PostgreSQL: asyncpg, one array per column, one transaction per batch.

Any number of replicas write at once. What another has just written is met as a row that is there already:
the batch is taken back and decided anew from what is now on record. Rows are added in one order everywhere,
so that two batches wait for each other's rows in turn and never in a ring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from service.hot import statements
from service.hot.ledger import APPENDED, LedgerUnavailable, LostRace, Round, Rows, Sets, Submit, read_sets
from service.hot.statements import Append, Lookup
from service.ledger.database import Database
from service.ledger.notices import CHANNEL, identified_notices

if TYPE_CHECKING:
    import asyncpg

Result = TypeVar("Result")
CONNECTIONS_MAX = 4
ANSWER_S = 10.0
"""How long a statement may take before the database counts as gone."""
CONNECT_S = 5.0
NUMBERS = "SELECT nextval(pg_get_serial_sequence($1, $2)) FROM generate_series(1, $3::integer)"


class PostgresLedger:
    """A PostgreSQL database, which other replicas write too."""

    def __init__(self, database: Database) -> None:
        self.turns = nullcontext()
        self._database = database
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._sets: dict[int, Sets] = {}

    async def open(self) -> None:
        """Connect, unless the database is away: then it is connected to when it comes."""
        with suppress(Exception):
            await self._fetch("SELECT 1")

    async def close(self) -> None:
        """Close every connection; one that does not answer is dropped."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), ANSWER_S)
            except Exception:
                self._pool.terminate()

    async def _connections(self) -> asyncpg.Pool:
        import asyncpg

        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._database.asyncpg_dsn,
                    min_size=0,
                    max_size=CONNECTIONS_MAX,
                    timeout=CONNECT_S,
                    command_timeout=ANSWER_S,
                    server_settings={"application_name": "rialto hot path"},
                )
            return self._pool

    async def _fetch(self, statement: str, *values: Any) -> Rows:
        try:
            pool = await self._connections()
            try:
                return await pool.fetch(statement, *values, timeout=ANSWER_S)
            except _gone():  # a connection the server has closed meanwhile; another one may do
                await pool.expire_connections()
                return await pool.fetch(statement, *values, timeout=ANSWER_S)
        except Exception as error:
            raise _unavailable(error) from error

    async def lookup(self, lookup: Lookup, equal: tuple[Any, ...], keys: Collection[Any]) -> Rows:
        """Rows by key."""
        return await self._fetch(lookup.postgres, *equal, list(keys))

    async def find_units(self, store_no: int, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """unit_no by hash."""
        rows = await self.lookup(statements.UNITS_BY_HASH, (store_no,), hashes)
        return {key: unit_no for key, unit_no in rows}

    async def unit_numbers(self, count: int) -> Sequence[int]:
        """Numbers from the sequence all replicas share."""
        return [number for (number,) in await self._fetch(NUMBERS, "unit", "unit_no", count)]

    async def event_numbers(self, count: int) -> Sequence[int]:
        """Numbers from the sequence all replicas share."""
        return [number for (number,) in await self._fetch(NUMBERS, "event", "event_no", count)]

    async def candidate_sets(self, experiment_no: int) -> Sets:
        """The candidate sets of an experiment, read once."""
        if experiment_no not in self._sets:
            self._sets[experiment_no] = await read_sets(self, experiment_no)
        return self._sets[experiment_no]

    async def commit(self, batch: Round) -> None:
        """Append everything in one transaction."""
        try:
            pool = await self._connections()
            async with pool.acquire(timeout=CONNECT_S) as connection, connection.transaction():
                await self._append(connection, batch)
        except LostRace:
            self._sets.clear()
            raise
        except Exception as error:
            if _is_deadlock(error):
                raise LostRace("two replicas waited for each other's rows") from error
            raise _unavailable(error) from error
        for experiment_no, sets in batch.sets.items():
            self._sets.setdefault(experiment_no, {}).update(sets)

    async def _append(self, connection: Any, batch: Round) -> None:
        keys = [(store_no, key, unit_no) for (store_no, key), unit_no in batch.units.items()]
        await _insert(connection, statements.UNIT_KEY, sorted(keys))
        for append in APPENDED:
            rows = batch.rows[append.table]
            await _insert(connection, append, sorted(rows) if append in _CONTENDED else rows)
        if linked := batch.rows[statements.PERSON.table]:
            persons = [person_no for _, person_no in linked]
            members = await connection.fetch(statements.MEMBERS.postgres, persons)
            for notice in identified_notices(row["unit_no"] for row in members):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, notice)

    async def run(self, job: Callable[[Connection], Result]) -> Result:
        """Run a job in a thread; jobs of all replicas wait for one another."""

        def in_thread() -> Result:
            with self._database.write() as connection:
                return job(connection)

        return await asyncio.to_thread(in_thread)

    def forget_units(self, hashes: Collection[bytes]) -> None:
        """Nothing: units are looked up in the database."""

    @property
    def is_upkeep_due(self) -> bool:
        """Never: every unit's key is written with it."""
        return False

    async def upkeep(self, submit: Submit) -> None:
        """Nothing."""


_CONTENDED = (statements.PERSON, statements.CANDIDATE_SET, statements.ASSIGNMENT)
"""Tables whose keys two replicas may write at once, besides events, which are added in order of arrival."""


async def _insert(connection: Any, append: Append, rows: Sequence[tuple[Any, ...]]) -> None:
    if not rows:
        return
    status: str = await connection.execute(append.postgres, *map(list, zip(*rows, strict=True)))
    if int(status.rpartition(" ")[2]) != len(rows):
        raise LostRace(f"another replica has written a row of {append.table}")


def _gone() -> tuple[type[BaseException], ...]:
    import asyncpg

    return (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)


def _is_deadlock(error: Exception) -> bool:
    return getattr(error, "sqlstate", None) in ("40P01", "40001")


def _unavailable(error: Exception) -> Exception:
    """A database that is away, as such; a defect of ours as it is."""
    sqlstate = getattr(error, "sqlstate", None)
    is_ours = isinstance(sqlstate, str) and sqlstate[:2] in ("22", "23", "42")
    return error if is_ours or isinstance(error, TypeError) else LedgerUnavailable(str(error) or repr(error))
