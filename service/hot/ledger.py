"""What the hot path asks of a database, and what a batch appends to it.

The deciding code is the same on both databases and written with `await`; on SQLite nothing is waited for
but the commit, so that a batch is decided in one go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection

from experiments.allocation.hashing import unit_hash
from service.catalogue import StoreState
from service.hot import statements
from service.hot.statements import Append, Lookup

Result = TypeVar("Result")
Rows = Sequence[Sequence[Any]]
Submit = Callable[[Callable[[Connection], None]], Awaitable[None]]
Sets = dict[tuple[str, ...], int]
"""The numbers of an experiment's candidate sets."""

APPENDED = (
    statements.UNIT,
    statements.PERSON,
    statements.CANDIDATE_SET,
    statements.ASSIGNMENT,
    statements.DECISION_CONTEXT,
    statements.ENROLMENT_FEATURES,
    statements.SHOWN_CHANGE,
    statements.EVENT,
    statements.EVENT_UNIT,
    statements.MARK,
)
"""In this order, the same for every writer: those that wait for each other's rows never do so in a ring."""


class LedgerUnavailable(Exception):
    """The database cannot be used now; nothing of the batch is on record."""


class LostRace(Exception):
    """One of these rows is on record already, perhaps just written by another: look and decide anew."""


class Round:
    """What one batch appends: rows by table, and the new units by their hash."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {append.table: [] for append in APPENDED}
        self.units: dict[tuple[int, bytes], int] = {}  # unit_no by store_no and hash
        self.sets: dict[int, Sets] = {}  # new candidate sets, by experiment_no
        self.event_keys: dict[tuple[int, str], bytes] = {}  # by store_no and event_id, where they are used
        self.not_looked_up: set[int] = set()  # the stores of which events are taken to be new

    def add(self, append: Append, row: tuple[Any, ...]) -> None:
        """Append a row."""
        self.rows[append.table].append(row)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not any(self.rows.values())


class HotLedger(Protocol):
    """A database as the hot path uses it."""

    @property
    def turns(self) -> AbstractAsyncContextManager[Any]:
        """Held while a batch, or a job, is going on: where they cannot go on at once, they take turns."""
        ...

    @property
    def batches_at_once(self) -> int:
        """How many batches may be under way: more than one where most of a batch's time is round trips."""
        ...

    async def open(self) -> None:
        """Connect."""
        ...

    async def close(self) -> None:
        """Disconnect; nothing is going on any more."""
        ...

    async def lookup(self, lookup: Lookup, equal: tuple[Any, ...], keys: Collection[Any]) -> Rows:
        """Rows by key."""
        ...

    async def find_units(self, store_no: int, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """unit_no by hash, for units that exist."""
        ...

    async def unit_numbers(self, count: int) -> Sequence[int]:
        """Numbers for new units; those not used are never used."""
        ...

    async def event_digests(
        self, batch: Round, store: StoreState, event_ids: Collection[str], *, surely: bool = False
    ) -> Mapping[str, bytes] | None:
        """The digest of each event that is on record, by its id.

        Unless asked `surely` it may be None, not looked up; `commit` raises LostRace should one be on record.
        """
        ...

    async def event_numbers(self, count: int) -> Sequence[int]:
        """Numbers for new events."""
        ...

    async def candidate_sets(self, experiment_no: int) -> Sets:
        """The candidate sets an experiment has."""
        ...

    async def commit(self, batch: Round) -> None:
        """Append everything in one transaction, on disk before this returns.

        Raises LostRace when a row is there already, LedgerUnavailable when it cannot be written.
        """
        ...

    async def run(self, job: Callable[[Connection], Result]) -> Result:
        """Run a job in a transaction of its own, in a thread; it is committed before this returns."""
        ...

    async def run_derived(self, job: Callable[[Connection], Result]) -> Result:
        """The same for a job whose rows are a fold of others: nobody waits until they are on disk.

        What a crash of the machine takes away is what was written last, and is made again.
        """
        ...

    @property
    def slice_units(self) -> tuple[int, int]:
        """Units in a slice of folding while requests come, and while none do.

        A batch waits while one is written, or each has its round trips.
        """
        ...

    def forget_units(self, hashes: Collection[bytes]) -> None:
        """Units whose person has been erased."""
        ...

    @property
    def is_upkeep_due(self) -> bool:
        """Whether `upkeep` has something to do."""
        ...

    async def upkeep(self, submit: Submit) -> None:
        """What the ledger has to do now and then, in background jobs."""
        ...


class Units:
    """The ids of a batch in one store: their hashes and numbers. New ones get a number when first needed."""

    def __init__(
        self, batch: Round, store: StoreState, hashes: dict[str, bytes], numbers: dict[str, int]
    ) -> None:
        self._batch = batch
        self._store = store
        self.hashes = hashes
        self.numbers = numbers
        self.fresh: list[int] = []

    def number(self, raw_id: str) -> int:
        """The number of an id; one never seen gets a row."""
        found = self.numbers.get(raw_id)
        if found is None:
            found = self.numbers[raw_id] = self.fresh.pop()
            self._batch.add(statements.UNIT, (found, self._store.store_no, raw_id))
            self._batch.units[self._store.store_no, self.hashes[raw_id]] = found
        return found


async def units_of(ledger: HotLedger, batch: Round, store: StoreState, raw_ids: Collection[str]) -> Units:
    """Look the ids of a batch up."""
    hashes = {raw_id: unit_hash(store.secret, raw_id) for raw_id in raw_ids}
    found = await ledger.find_units(store.store_no, list(hashes.values()))
    numbers: dict[str, int] = {}
    missing = 0
    for raw_id, key in hashes.items():
        number = found.get(key) or batch.units.get((store.store_no, key))
        if number is None:
            missing += 1
        else:
            numbers[raw_id] = number
    units = Units(batch, store, hashes, numbers)
    if missing:
        units.fresh = list(reversed(await ledger.unit_numbers(missing)))
    return units


async def persons_of(ledger: HotLedger, unit_nos: Collection[int]) -> dict[int, int]:
    """person_no by unit_no, for units linked by `identify`."""
    if not unit_nos:
        return {}
    rows = await ledger.lookup(statements.PERSONS, (), unit_nos)
    return {unit_no: person_no for unit_no, person_no in rows}


async def groups_of(ledger: HotLedger, unit_nos: Collection[int]) -> dict[int, list[int]]:
    """The units that are one with each unit, where it is linked to somebody."""
    persons = await persons_of(ledger, unit_nos)
    if not persons:
        return {}
    members: dict[int, list[int]] = {}
    for unit_no, person_no in await ledger.lookup(statements.MEMBERS, (), set(persons.values())):
        members.setdefault(person_no, []).append(unit_no)
    for person_no, found in members.items():
        found.sort(key=lambda unit_no: (unit_no != person_no, unit_no))  # the customer's first
    return {unit_no: members[person_no] for unit_no, person_no in persons.items()}


async def read_sets(ledger: HotLedger, experiment_no: int) -> Sets:
    """The candidate sets of an experiment as committed."""
    rows = await ledger.lookup(statements.CANDIDATE_SETS, (), [experiment_no])
    return {tuple(json_value(members)): set_no for _, set_no, members in rows}


_encoder = msgspec.json.Encoder()


def json_text(value: Any) -> str:
    """A JSON column's value as the drivers take it."""
    return _encoder.encode(value).decode()


def json_value(text: Any) -> Any:
    """A JSON column's value as the drivers give it."""
    return msgspec.json.decode(text)
