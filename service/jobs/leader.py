"""One leader among the services of a ledger: it folds, times carts out and allocates; the others follow.

On PostgreSQL the leader is who holds an advisory lock, by a connection of its own: it is given up with the
connection, whatever ends that, and the others ask for it once a second. While a leader that was cut off has
not noticed yet there may be two; that costs work, not truth, since all they write goes through one writing
transaction at a time which looks again. On SQLite the one service leads.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from service.ledger.database import Database, DatabaseKind
from service.ledger.postgres_database import LEADING, LOCKS, SERVING, listening_connection

if TYPE_CHECKING:
    from asyncpg import Connection

TRY_S = 1.0
"""How often a follower asks to lead, and a leader whether it still can."""
ANSWER_S = 5.0
log = logging.getLogger(__name__)


class Leader:
    """Whether this service leads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_leader = database.kind is DatabaseKind.SQLITE

    @property
    def is_leader(self) -> bool:
        """Whether this service folds and allocates."""
        return self._is_leader

    async def run(self) -> None:
        """Lead whenever nobody else does, until cancelled."""
        is_lost = False
        while self._database.kind is DatabaseKind.POSTGRES:
            try:
                await self._hold()
            except Exception as error:  # whatever ended it, the lock may be gone
                if not is_lost:
                    log.warning("no connection to lead by, it is tried again: %s", error)
                is_lost = True
            await asyncio.sleep(TRY_S)

    async def _hold(self) -> None:
        connection = await listening_connection(self._database.asyncpg_dsn, "leader")
        try:
            await connection.execute(f"SELECT pg_advisory_lock_shared({LOCKS}, {SERVING})")
            while True:
                await self._lead_or_follow(connection)
                await asyncio.sleep(TRY_S)
        finally:
            self._is_leader = False
            connection.terminate()

    async def _lead_or_follow(self, connection: Connection) -> None:
        if self._is_leader:
            await connection.execute("SELECT 1", timeout=ANSWER_S)
            return
        ask = f"SELECT pg_try_advisory_lock({LOCKS}, {LEADING})"
        self._is_leader = await connection.fetchval(ask, timeout=ANSWER_S) is True
        if self._is_leader:
            log.info("this service leads now")
