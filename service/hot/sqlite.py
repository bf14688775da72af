"""The hot path on SQLite: statements on the event loop; COMMIT, and what is long, in the one writing thread.

Only what is a fold of other rows is committed on the loop, too: it waits for no disk. One connection does
everything, so that its page cache is never thrown away. The writer's pump hands it either a batch or a job,
never both at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from experiments.allocation.hashing import unit_hash
from service.catalogue import StoreState
from service.hot import statements
from service.hot.key_index import KeyIndex
from service.hot.ledger import APPENDED, LedgerUnavailable, Round, Rows, Sets, Submit, read_sets
from service.hot.link_upkeep import LinkUpkeep
from service.hot.statements import Lookup
from service.hot.thread import WritingThread
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.event_keys import (
    event_key,
    events_settled,
    keys_after,
    merge_keys,
    note_events_settled,
    secrets_of,
)
from service.ledger.sqlite_database import CHECKPOINT_PAGES
from service.ledger.sqlite_rows import insert_rows
from service.ledger.statements import insert_missing, upsert
from service.ledger.units import UNITS_SETTLED, settled_through

Result = TypeVar("Result")
KEYS_MAX = 8192
"""Keys in one statement; SQLite takes 32,766 parameters."""
BUSY_S = 10.0
"""How long a foreign lock on the file is waited for, in the thread."""
LOOP_ROWS_MAX = 512
"""Rows that are appended on the event loop; of more, the thread appends most while the loop goes on."""
HURRIED_MAX = 16
"""Of so many jobs that wait for no disk one does, and empties the log when that is due."""
UNITS_SETTLE_AT = 1 << 19
"""12 MB. At five million units about ten rows share a page."""
EVENTS_SETTLE_AT = 1 << 18
SETTLE_SLICE = 4000
TAIL_SLICE = 50_000

# Asked how to store None, True or bytes, the driver looks for an adapter each time before it stores them as
# they are; one that it finds at once, and that changes nothing, saves a quarter of an insert.
_nothing: dict[None, None] = {}
sqlite3.register_adapter(type(None), _nothing.get)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(bytes, bytes)


class SqliteLedger:
    """A SQLite file, written by this process alone."""

    batches_at_once = 1
    slice_units = 64, 512  # the totals of 64 are one statement, and half a millisecond

    def __init__(self, database: Database) -> None:
        self.turns = asyncio.Lock()
        self._database = database
        self._thread = WritingThread("ledger-writer")
        self._sets: dict[int, Sets] = {}
        self.units = KeyIndex(UNITS_SETTLE_AT)
        self.events = KeyIndex(EVENTS_SETTLE_AT)
        self._events_settled = 0
        self._settled = 0
        self._last_unit = 0
        self._last_event = 0
        self._links = LinkUpkeep()
        self._hurried = 0  # jobs that wait for no disk, so far

    async def open(self) -> None:
        """Connect, and read the units not yet settled."""
        await self._in_thread(self._connect)

    async def close(self) -> None:
        """Close the connection; the pump has stopped."""
        await self._in_thread(self._connection.close)
        self._thread.stop()

    def _connect(self) -> None:
        self._connection = self._database.writing()
        raw = self._connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        self._raw = raw
        self._read_counters()
        with self._connection.begin():
            self._settled = settled_through(self._connection)
            self._read_tail()
            self._events_settled = events_settled(self._connection)
            for keys in keys_after(self._connection, self._events_settled):
                self.events.add(keys)
            self._links.bring_up(self._connection)
        self._wait_for_locks(0)  # from now on statements run on the event loop

    def _read_tail(self) -> None:
        secrets = secrets_of(self._connection)
        unit = schema.unit.c
        after = self._settled
        while True:
            rows = self._connection.execute(
                select(unit.unit_no, unit.store_no, unit.raw_id)
                .where(unit.unit_no > after)
                .order_by(unit.unit_no)
                .limit(TAIL_SLICE)
            ).all()
            if not rows:
                return
            self.units.add((unit_hash(secrets[row.store_no], row.raw_id), row.unit_no) for row in rows)
            after = rows[-1].unit_no

    def _read_counters(self) -> None:
        """The numbers given so far; a job may have given some."""
        (last_unit,) = self._raw.execute(
            "SELECT max(seq) FROM sqlite_sequence WHERE name = 'unit'"
        ).fetchone()
        (last_event,) = self._raw.execute("SELECT max(event_no) FROM event").fetchone()
        self._last_unit = max(self._last_unit, last_unit or 0)
        self._last_event = max(self._last_event, last_event or 0)

    async def _in_thread(self, run: Callable[[], Result]) -> Result:
        return await self._thread.run(run)

    async def lookup(self, lookup: Lookup, equal: tuple[Any, ...], keys: Collection[Any]) -> Rows:
        """Rows by key; lists of keys are filled up to a power of two, so that few statements are cached."""
        wanted = list(keys)
        rows: list[Any] = []
        try:
            for start in range(0, len(wanted), KEYS_MAX):
                part = wanted[start : start + KEYS_MAX]
                size = 1 << (len(part) - 1).bit_length()
                part += part[-1:] * (size - len(part))
                text = f"{lookup.sqlite}{'?,' * (size - 1)}?)"
                rows += self._raw.execute(text, (*equal, *part)).fetchall()
        except sqlite3.Error as error:
            raise LedgerUnavailable(str(error)) from error
        return rows

    async def find_units(self, store_no: int, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """unit_no by hash: in memory, else in `unit_key`."""
        found = self.units.find(hashes)
        if self._settled and len(found) < len(hashes):
            missing = [key for key in hashes if key not in found]
            rows = await self.lookup(statements.UNITS_BY_HASH, (store_no,), missing)
            found.update((key, unit_no) for key, unit_no in rows)
        return found

    async def event_digests(
        self, batch: Round, store: StoreState, event_ids: Collection[str], *, surely: bool = False
    ) -> dict[str, bytes]:
        """The digest of each event that is on record, by its id: found in memory, else in `event_by_key`."""
        keys = {(store.store_no, event_id): event_key(store.secret, event_id) for event_id in event_ids}
        batch.event_keys.update(keys)
        found = self.events.find(list(keys.values()))
        if self._events_settled and len(found) < len(keys):
            missing = [key for key in keys.values() if key not in found]
            rows = await self.lookup(statements.EVENTS_BY_KEY, (), missing)
            found.update((key, event_no) for key, event_no in rows)
        rows = await self.lookup(statements.DIGESTS_BY_NUMBER, (), found.values())
        return {event_id: digest for event_id, digest in rows}

    async def unit_numbers(self, count: int) -> Sequence[int]:
        """The next numbers; this process alone gives them."""
        first = self._last_unit + 1
        self._last_unit += count
        return range(first, first + count)

    async def event_numbers(self, count: int) -> Sequence[int]:
        """The next numbers; this process alone gives them."""
        first = self._last_event + 1
        self._last_event += count
        return range(first, first + count)

    async def candidate_sets(self, experiment_no: int) -> Sets:
        """The candidate sets of an experiment, read once."""
        if experiment_no not in self._sets:
            self._sets[experiment_no] = await read_sets(self, experiment_no)
        return self._sets[experiment_no]

    async def commit(self, batch: Round) -> None:
        """Append on the loop, or in the thread what holds it too long; commit in the thread."""
        try:
            if not self._append_at_once(batch):
                await self._in_thread(lambda: self._append_patiently(batch))
            await self._in_thread(self._commit)
        except sqlite3.Error as error:
            await self._in_thread(self._roll_back)
            if isinstance(error, sqlite3.OperationalError):
                raise LedgerUnavailable(str(error)) from error
            raise
        self.units.add((key, unit_no) for (_, key), unit_no in batch.units.items())
        events = batch.rows[statements.EVENT.table]
        self.events.add((batch.event_keys[row[1], row[2]], row[0]) for row in events)
        for experiment_no, sets in batch.sets.items():
            self._sets[experiment_no].update(sets)

    def _append_at_once(self, batch: Round) -> bool:
        """Append on the loop, unless the batch is long or somebody else holds the file."""
        if sum(map(len, batch.rows.values())) > LOOP_ROWS_MAX:
            return False
        try:
            self._append(batch)
        except sqlite3.OperationalError as error:
            if not _is_locked(error):
                raise
            return False
        return True

    def _append(self, batch: Round) -> None:
        self._raw.execute("BEGIN IMMEDIATE")
        for append in APPENDED:
            rows = batch.rows[append.table]
            if rows:
                insert_rows(self._raw, append.sqlite, rows)

    def _append_patiently(self, batch: Round) -> None:
        self._wait_for_locks(BUSY_S)
        try:
            self._append(batch)
        finally:
            self._wait_for_locks(0)

    def _commit(self) -> None:
        self._raw.execute("COMMIT")

    def _roll_back(self) -> None:
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")

    def _wait_for_locks(self, seconds: float) -> None:
        self._raw.execute(f"PRAGMA busy_timeout={round(1000 * seconds)}")

    async def run(self, job: Callable[[Connection], Result]) -> Result:
        """Run a job on the same connection, in the thread."""
        return await self._in_thread(lambda: self._run(job))

    async def run_derived(self, job: Callable[[Connection], Result]) -> Result:
        """Run a job on the loop: it waits for no disk, so a thread would only wait for the interpreter.

        In the thread all the same while somebody else holds the file; and now and then, since only what is
        committed there keeps the log from growing.
        """
        self._hurried += 1
        if self._hurried % HURRIED_MAX:
            try:
                return self._run_hurried(job)
            except OperationalError as error:
                if not isinstance(error.orig, sqlite3.OperationalError) or not _is_locked(error.orig):
                    raise
        return await self.run(job)

    def _run_hurried(self, job: Callable[[Connection], Result]) -> Result:
        # The next batch's COMMIT makes this one's rows durable, too, and moves them out of the log.
        self._raw.execute("PRAGMA synchronous=NORMAL")
        self._raw.execute("PRAGMA wal_autocheckpoint=0")
        try:
            with self._connection.begin():
                return job(self._connection)
        finally:
            self._raw.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            self._raw.execute("PRAGMA synchronous=FULL")

    def _run(self, job: Callable[[Connection], Result]) -> Result:
        self._wait_for_locks(BUSY_S)
        try:
            with self._connection.begin():
                return job(self._connection)
        finally:
            self._wait_for_locks(0)
            self._read_counters()

    def forget_units(self, hashes: Collection[bytes]) -> None:
        """Units whose person was erased."""
        self.units.remove(hashes)

    @property
    def is_upkeep_due(self) -> bool:
        """Whether there are enough units or links to be merged, or to be brought up."""
        return self.units.is_due or self.events.is_due or self._links.is_due(self._last_event)

    async def upkeep(self, submit: Submit) -> None:
        """Merge what is due, in key order, a slice to a job."""
        if self._links.is_due(self._last_event):
            await self._links.keep_up(submit)
        if self.units.is_due:
            await self._settle_units(submit)
        if self.events.is_due:
            await self._settle_events(submit)

    async def _settle_units(self, submit: Submit) -> None:
        through = self.units.begin_settling()
        for part in self.units.settling(SETTLE_SLICE):
            await submit(lambda connection, part=part: _settle(connection, part))
        await submit(lambda connection: _note_settled(connection, through))
        self._settled = through
        self.units.end_settling()

    async def _settle_events(self, submit: Submit) -> None:
        through = self.events.begin_settling()
        for part in self.events.settling(SETTLE_SLICE):
            await submit(lambda connection, part=part: merge_keys(connection, part))
        await submit(lambda connection: note_events_settled(connection, through))
        self._events_settled = through
        self.events.end_settling()


def _settle(connection: Connection, units: Sequence[tuple[bytes, int]]) -> None:
    """Insert these units' keys in order; one erased since, or settled before a crash, is passed over."""
    unit = schema.unit.c
    numbers = [unit_no for _, unit_no in units]
    rows = connection.execute(select(unit.unit_no, unit.store_no).where(unit.unit_no.in_(numbers)))
    stores = {row.unit_no: row.store_no for row in rows}
    keys = [
        {"store_no": stores[unit_no], "hash16": key, "unit_no": unit_no}
        for key, unit_no in units
        if unit_no in stores
    ]
    insert_missing(
        connection, schema.unit_key, sorted(keys, key=lambda row: (row["store_no"], row["hash16"]))
    )


def _note_settled(connection: Connection, through: int) -> None:
    upsert(connection, schema.progress, [{"name": UNITS_SETTLED, "value": through}])


def _is_locked(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
