"""The upkeep of links by unit on SQLite: brought up on the writing connection, merged in key order."""

from __future__ import annotations

from sqlalchemy import Connection

from service.hot.ledger import Submit
from service.ledger.links import bring_up, merge, note_settled

BRING_UP_AT = 1 << 13
"""New events before their links are brought up, in some milliseconds."""
SETTLE_AT = 1 << 18
"""Events before their links are merged: of three million in all, some twenty links share a page then."""
SLICE = 4000


class LinkUpkeep:
    """How far the links of events are at hand by unit."""

    def __init__(self) -> None:
        self._settled = 0
        self._through = 0
        self._merged: tuple[int, int] | None = None  # the last key, while a merge goes on

    def bring_up(self, connection: Connection) -> None:
        """Bring the links up to the newest event."""
        self._settled, self._through = bring_up(connection)

    def is_due(self, newest: int) -> bool:
        """Whether there is something to do, the newest event being this one."""
        return newest - self._through >= BRING_UP_AT

    async def keep_up(self, submit: Submit) -> None:
        """Bring up what is new, and merge what has gathered, a slice to a job."""
        await submit(self.bring_up)
        through = self._through
        if through - self._settled < SETTLE_AT:
            return
        self._begin_merge()
        while self._merged is not None:
            await submit(lambda connection: self._merge_slice(connection, through))
        await submit(lambda connection: note_settled(connection, through))
        self._settled = through

    def _begin_merge(self) -> None:
        self._merged = 0, 0  # before all units

    def _merge_slice(self, connection: Connection, through: int) -> None:
        assert self._merged is not None
        self._merged = merge(connection, self._merged, through, SLICE)
