"""News of committed changes, from the replica that made them to all others.

A change bumps its store's revision and sends a notice, both in its own transaction: PostgreSQL delivers the
notice once that is committed. Every replica listens, and compares revisions once a second besides, so that a
notice that was lost costs a second. On SQLite there is nobody to tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select, update

from service.ledger import schema
from service.ledger.database import Database, DatabaseKind
from service.ledger.postgres_database import listening_connection
from service.ledger.statements import chunks

if TYPE_CHECKING:
    import asyncpg

CHANNEL = "rialto"
POLL_S = 1.0
ANSWER_S = 5.0
UNITS_A_NOTICE = 300
"""A notice holds 8,000 bytes; a unit's number at most 19 digits."""

log = logging.getLogger(__name__)


def announce(connection: Connection, store_no: int) -> None:
    """Say that something serving reads of a store has changed: settings, keys, experiments, versions."""
    store = schema.store
    bumped = update(store).where(store.c.store_no == store_no).values(revision=store.c.revision + 1)
    connection.execute(bumped)
    _notify(connection, f"store:{store_no}")


def announce_identified(connection: Connection, unit_nos: Iterable[int]) -> None:
    """Say that units have become one with others."""
    _announce_units(connection, "identified", unit_nos)


def announce_erased(connection: Connection, unit_nos: Iterable[int]) -> None:
    """Say that units are nobody's any more."""
    _announce_units(connection, "erased", unit_nos)


def identified_notices(unit_nos: Iterable[int]) -> list[str]:
    """The payloads of these news, for who sends them by a driver of its own."""
    return [f"identified:{_joined(part)}" for part in chunks(unit_nos, UNITS_A_NOTICE)]


@dataclass(frozen=True, slots=True)
class Audience:
    """What is to be done on news."""

    stores: Callable[[Sequence[int]], Awaitable[None]]
    """These stores have changed."""
    units: Callable[[Sequence[int] | None], None]
    """What is known of these units may be wrong; None: of any, for news may have been missed."""


class Follower:
    """Hears of the changes that other replicas make."""

    def __init__(self, database: Database, audience: Audience) -> None:
        self._database = database
        self._audience = audience
        self._revisions: dict[int, int] = {}  # by store_no, as last heard of
        self._changed: set[int] = set()
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; a lost connection is made anew."""
        is_lost = False
        while self._database.kind is DatabaseKind.POSTGRES:
            try:
                await self._follow()
            except Exception as error:  # whatever ended it, news may be missed from now on
                if not is_lost:
                    log.warning("no connection to follow by, it is tried again: %s", error)
                is_lost = True
            await asyncio.sleep(POLL_S)

    async def _follow(self) -> None:
        connection = await listening_connection(self._database.asyncpg_dsn, "follower")
        try:
            await connection.add_listener(CHANNEL, self._hear)
            self._revisions.clear()
            self._audience.units(None)
            while True:
                await self._look(connection)
                await self._act()
        finally:
            connection.terminate()

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        kind, _, numbers = str(payload).partition(":")
        found = [int(number) for number in numbers.split(",") if number]
        if kind == "store":
            self._changed.update(found)
            self._news.set()
        else:
            self._audience.units(found)

    async def _look(self, connection: asyncpg.Connection) -> None:
        """Compare revisions: what no notice told of is found here."""
        rows = await connection.fetch("SELECT store_no, revision FROM store", timeout=ANSWER_S)
        now: dict[int, int] = {row["store_no"]: row["revision"] for row in rows}
        self._changed.update(no for no, revision in now.items() if self._revisions.get(no) != revision)
        self._revisions = now

    async def _act(self) -> None:
        """Pass the news on as they come, until it is time to look again."""
        until = asyncio.get_running_loop().time() + POLL_S
        while True:
            changed, self._changed = sorted(self._changed), set()
            self._news.clear()
            if changed:
                await self._audience.stores(changed)
            left = until - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                return


def _announce_units(connection: Connection, kind: str, unit_nos: Iterable[int]) -> None:
    for part in chunks(unit_nos, UNITS_A_NOTICE):
        _notify(connection, f"{kind}:{_joined(part)}")


def _joined(unit_nos: Iterable[int]) -> str:
    return ",".join(map(str, unit_nos))


def _notify(connection: Connection, payload: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, payload)))
