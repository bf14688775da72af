"""Keeping the last policy set up with the ledger: in memory for trouble now, on disk for the next start."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

from service import standby
from service.catalogue import StoreState
from service.keys import Principal
from service.ledger.database import Database
from service.standby import PolicySet

TICK_S = 1.0
"""How often the stores' revisions are looked at, and so the most often that the file is written."""
AWAY_S = 5.0
"""After so long without an answer the ledger counts as away."""

log = logging.getLogger(__name__)


class LastKnown:
    """The policy set as it was when the ledger last answered."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self._policies: PolicySet | None = None
        self._is_on_disk = False
        self._answered_at = time.monotonic()
        self.has_refused = False  # the last time it was asked
        self.trouble = ""  # why it cannot be kept at this moment

    @property
    def is_away(self) -> bool:
        """Whether the ledger has not answered for a while: then what was last known counts at once.

        Else every request with a key not in memory would wait anew for a ledger that hangs.
        """
        return time.monotonic() - self._answered_at > AWAY_S

    def principal(self, digest: bytes) -> Principal | None:
        """Who that key was, for when the ledger cannot be asked."""
        return None if self._policies is None else self._policies.keys.get(digest)

    def store(self, store_no: int) -> StoreState | None:
        """The store as it was, for when the ledger cannot be asked."""
        return None if self._policies is None else self._policies.stores.get(store_no)

    def deadline_s(self, store_no: int) -> float:
        """How long an assignment of that store, which is known, may take."""
        assert self._policies is not None
        return self._policies.stores[store_no].settings.deadline_ms / 1000

    def forget_key(self, public_id: str) -> None:
        """A key just revoked is not to be found here until the next look at the ledger."""
        if self._policies is not None:
            keys = {digest: who for digest, who in self._policies.keys.items() if who.public_id != public_id}
            self._policies = replace(self._policies, keys=keys)

    async def run(self) -> None:
        """Keep it up with the ledger until cancelled; a change is on disk about a second later."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
                self._tell("")
            except Exception as error:  # the ledger is away, or the folder cannot be written: try again
                self._tell(str(error).partition("\n")[0])
            await asyncio.sleep(TICK_S)

    def refresh(self) -> None:
        """Read what has changed since the last time, and write the file if anything has. Blocks."""
        try:
            with self._database.read() as connection:
                if self._policies is None or standby.revisions(connection) != _revisions(self._policies):
                    self._policies = standby.read(connection)
                    self._is_on_disk = False
        except Exception:
            self.has_refused = True
            raise
        self.has_refused = False
        self._answered_at = time.monotonic()
        if not self._is_on_disk:
            standby.save(self._path, self._policies)
            self._is_on_disk = True

    def _tell(self, trouble: str) -> None:
        """One line when it begins to fail, one when it works again; not one a second."""
        if trouble and not self.trouble:
            log.warning(
                "the last policy set cannot be kept in %s, and is tried again every second: %s",
                self._path,
                trouble,
            )
        elif self.trouble and not trouble:
            log.warning("the last policy set is kept in %s again", self._path)
        self.trouble = trouble


def _revisions(policies: PolicySet) -> dict[int, int]:
    return {store_no: state.revision for store_no, state in policies.stores.items()}
