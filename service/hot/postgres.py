"""The hot path on PostgreSQL: asyncpg, one array per column, one statement per batch; COPY for long lists.

Any number of replicas write at once. What another has just written is met as a row that is there already:
the batch is taken back and decided anew from what is now on record. Rows are added in one order everywhere,
so that two batches wait for each other's rows in turn, and hardly ever in a ring.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from service.catalogue import StoreState
from service.hot import statements
from service.hot.ledger import APPENDED, LedgerUnavailable, LostRace, Round, Rows, Sets, Submit, read_sets
from service.hot.statements import Append, Lookup
from service.ledger.database import Database
from service.ledger.notices import CHANNEL, identified_notices

if TYPE_CHECKING:
    import asyncpg

Result = TypeVar("Result")
ANSWER_S = 10.0
"""How long a statement may take before the database counts as gone."""
CONNECT_S = 5
UNITS_RESERVED = 256
"""Numbers of units fetched at once; those not used when the service ends are never used."""
COPIED_FROM = 256
"""Events of a batch. One of 1,000 costs 4 us of the service's CPU by COPY and 10 by arrays, one of 100 16 and
15: asyncpg asks of each element of an array whether that is an array."""
SETTINGS = {
    "application_name": "rialto hot path",
    # A plan is made once and kept. Made while a table is small it would be to read the whole table, and would
    # be kept while the table grows: every look-up is by an index, whatever the statistics say at that moment.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
}
NUMBERS = """
SELECT nextval(numbers)
FROM (SELECT pg_get_serial_sequence($1, $2)::regclass AS numbers OFFSET 0), generate_series(1, $3::integer)
"""

ARCHIVED = "SELECT EXISTS (SELECT FROM archived_event WHERE store_no = ANY($1::integer[]))"
LOOKED_UP_AFTER = 64


class _Archived(Exception):
    """Events that were taken to be new may be archived ones."""


class News:
    """Whether the events of a store's long lists are taken to be new until they are written.

    To look 1,000 keys up costs as much as to write them, and nearly always they are new. A key that is on
    record is met as a conflict, one that is archived is not: the archive is looked at after the rows are
    written. Once some were not new, the next LOOKED_UP_AFTER lists are looked up: who repeats one thing
    repeats more.
    """

    def __init__(self) -> None:
        self._to_look_up: dict[int, int] = {}  # lists, by store_no

    def is_trusted(self, store_no: int) -> bool:
        """Whether the next list is taken to be new."""
        return not self._to_look_up.get(store_no, 0)

    def looked_up(self, store_no: int, *, was_needed: bool) -> None:
        """A list has been looked up; whether it had to be."""
        left = LOOKED_UP_AFTER if was_needed else self._to_look_up.get(store_no, 0) - 1
        self._to_look_up[store_no] = max(0, left)

    def were_not(self, store_no: int) -> None:
        """A list was not all new."""
        self._to_look_up[store_no] = LOOKED_UP_AFTER


class PostgresLedger:
    """A PostgreSQL database, which other replicas write too."""

    batches_at_once = 2
    slice_units = 500, 1000

    def __init__(self, database: Database) -> None:
        self.turns = nullcontext()
        self._database = database
        self._unit_numbers: list[int] = []  # reserved
        self._idle: list[asyncpg.Connection] = []
        self._sets: dict[int, Sets] = {}
        self._news = News()

    async def open(self) -> None:
        """Connect, unless the database is away: then it is connected to when it comes."""
        with suppress(Exception):
            await self._fetch("SELECT 1")

    async def close(self) -> None:
        """Close every connection; one that does not answer is dropped."""
        while self._idle:
            with suppress(Exception):
                await self._idle.pop().close(timeout=ANSWER_S)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[asyncpg.Connection]:
        """A connection of one's own for a while; one on which something failed is not used again.

        Not asyncpg's pool: it resets a connection after each use, which costs more than most statements do.
        """
        import asyncpg

        connection = None
        while self._idle and connection is None:
            found = self._idle.pop()
            connection = None if found.is_closed() else found
        if connection is None:
            connection = await asyncpg.connect(
                self._database.asyncpg_dsn,
                timeout=CONNECT_S,
                command_timeout=ANSWER_S,
                server_settings=SETTINGS,
            )
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise
        self._idle.append(connection)

    async def _fetch(self, statement: str, *values: Any) -> Rows:
        try:
            try:
                return await self._fetch_once(statement, *values)
            except _gone():  # connections that the server has closed meanwhile; a new one may do
                while self._idle:
                    self._idle.pop().terminate()
                return await self._fetch_once(statement, *values)
        except Exception as error:
            raise _unavailable(error) from error

    async def _fetch_once(self, statement: str, *values: Any) -> Rows:
        async with self._connection() as connection:
            return await connection.fetch(statement, *values)

    async def lookup(self, lookup: Lookup, equal: tuple[Any, ...], keys: Collection[Any]) -> Rows:
        """Rows by key."""
        return await self._fetch(lookup.postgres, *equal, list(keys))

    async def find_units(self, store_no: int, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """unit_no by hash."""
        rows = await self.lookup(statements.UNITS_BY_HASH, (store_no,), hashes)
        return {key: unit_no for key, unit_no in rows}

    async def unit_numbers(self, count: int) -> Sequence[int]:
        """Numbers from the sequence all replicas share, of which some are kept for the next batches."""
        while len(self._unit_numbers) < count:
            wanted = max(count, UNITS_RESERVED)
            self._unit_numbers += [n for (n,) in await self._fetch(NUMBERS, "unit", "unit_no", wanted)]
        numbers, self._unit_numbers = self._unit_numbers[:count], self._unit_numbers[count:]
        return numbers

    async def event_digests(
        self, batch: Round, store: StoreState, event_ids: Collection[str], *, surely: bool = False
    ) -> dict[str, bytes] | None:
        """The digest of each event that is on record, by its id; of a long list only where some may be."""
        if not surely and len(event_ids) >= COPIED_FROM and self._news.is_trusted(store.store_no):
            batch.not_looked_up.add(store.store_no)
            return None
        batch.not_looked_up.discard(store.store_no)
        rows = await self.lookup(statements.EVENT_DIGESTS, (store.store_no,), event_ids)
        if len(event_ids) >= COPIED_FROM:
            self._news.looked_up(store.store_no, was_needed=surely or bool(rows))
        return {event_id: digest for event_id, digest in rows}

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
            async with self._connection() as connection:
                await self._append(connection, batch)
        except Exception as error:
            if isinstance(error, _Archived) or getattr(error, "sqlstate", None) in _RACES:
                self._sets.clear()
                for store_no in batch.not_looked_up:
                    self._news.were_not(store_no)
                raise LostRace(str(error)) from error
            raise _unavailable(error) from error
        for experiment_no, sets in batch.sets.items():
            if experiment_no in self._sets:  # else another batch has lost a race: all are read anew
                self._sets[experiment_no].update(sets)

    async def _append(self, connection: asyncpg.Connection, batch: Round) -> None:
        """Append and commit: a statement is a transaction of its own, unless there is more to say."""
        linked = batch.rows[statements.PERSON.table]
        is_long = len(batch.rows[statements.EVENT.table]) >= COPIED_FROM
        if not linked and not is_long:  # what was not looked up is long
            await _insert(connection, batch)
            return
        async with connection.transaction():
            await (_copy if is_long else _insert)(connection, batch)
            # After it: what was archived meanwhile is seen now, and what is still hot was met as a conflict.
            if batch.not_looked_up and await connection.fetchval(ARCHIVED, list(batch.not_looked_up)):
                raise _Archived("events of this store have been archived")
            if not linked:
                return
            persons = [person_no for _, person_no in linked]
            members = await connection.fetch(statements.MEMBERS.postgres, persons)
            for notice in identified_notices(row["unit_no"] for row in members):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, notice)

    async def run_derived(self, job: Callable[[Connection], Result]) -> Result:
        """The same without waiting for the disk."""

        def hurried(connection: Connection) -> Result:
            connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
            return job(connection)

        return await self.run(hurried)

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
_RACES = ("23505", "40P01", "40001")
"""Another replica has written a row of that key, or each waited for the other's rows."""


def _appended(batch: Round) -> Iterator[tuple[Append, Sequence[tuple[Any, ...]]]]:
    """What has rows, in the order of all writers."""
    keys = sorted((store_no, key, unit_no) for (store_no, key), unit_no in batch.units.items())
    for append, rows in ((statements.UNIT_KEY, keys), *((a, batch.rows[a.table]) for a in APPENDED)):
        if rows:
            yield append, sorted(rows) if append in _CONTENDED else rows


async def _insert(connection: asyncpg.Connection, batch: Round) -> None:
    """One statement: one round trip."""
    appends: list[Append] = []
    columns: list[list[Any]] = []
    for append, rows in _appended(batch):
        appends.append(append)
        columns += map(list, zip(*rows, strict=True))
    await connection.execute(statements.appended_at_once(tuple(appends)), *columns)


async def _copy(connection: asyncpg.Connection, batch: Round) -> None:
    """Two round trips a table, but no array to be looked through: see COPIED_FROM."""
    for append, rows in _appended(batch):
        await connection.copy_records_to_table(append.table, records=rows, columns=append.columns)


def _gone() -> tuple[type[BaseException], ...]:
    import asyncpg

    return (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError)


def _unavailable(error: Exception) -> Exception:
    """A database that is away, as such; a defect of ours as it is."""
    sqlstate = getattr(error, "sqlstate", None)
    is_ours = isinstance(sqlstate, str) and sqlstate[:2] in ("22", "23", "42")
    return error if is_ours or isinstance(error, TypeError) else LedgerUnavailable(str(error) or repr(error))
