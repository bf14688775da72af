"""What a running service holds: built once in `app.py`, handed to everything that needs it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from litestar import Request
from sqlalchemy import Connection

from service.catalogue import Catalogue, StoreState
from service.clock import Clock
from service.hot.writer import Writer
from service.jobs.folding import Folding
from service.jobs.leader import Leader
from service.keys import KeyRing
from service.last_known import LastKnown
from service.ledger.database import Database
from service.ledger.notices import announce
from service.metrics import Metrics
from service.rate_limit import RateLimiter
from service.settings import Settings

Result = TypeVar("Result")
FETCH_S = 2.0
"""How long a store that is not in memory is read, before it is served as it last was."""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    database: Database
    writer: Writer
    catalogue: Catalogue
    clock: Clock
    keys: KeyRing
    last_known: LastKnown
    limiter: RateLimiter
    metrics: Metrics
    leader: Leader
    folding: Folding
    advancing: defaultdict[int, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """Held by store while its steps are taken or its clock is set: a step never sees half of a time."""
    stepped_at_us: dict[int, int] = field(default_factory=dict)  # last allocation step by experiment_no
    on_units: list[Callable[[Sequence[int] | None], None]] = field(default_factory=list)
    """Told of units that another replica linked or erased; of None when such news may have been missed."""

    @property
    def is_ledger_away(self) -> bool:
        """Whether what is in memory cannot be compared with the ledger at this moment."""
        known = self.last_known
        return self.writer.has_refused or known.has_refused or known.is_away

    def now_us(self, store: StoreState) -> int:
        """The time in a store, in microseconds."""
        return self.clock.now_us(store.simulated_now_us)

    async def store(self, store_no: int) -> StoreState:
        """A store's snapshot; as it last was when the ledger cannot be asked."""
        known = self.store_in_memory(store_no)
        if known is not None:
            return known
        try:
            return await asyncio.wait_for(self.catalogue.fetch(store_no), FETCH_S)
        except Exception:
            last = self.last_known.store(store_no)
            if last is None:
                raise
            return last

    def store_at_once(self, store_no: int) -> StoreState:
        """A store's snapshot where nothing can be awaited; blocks when it must be read."""
        return self.store_in_memory(store_no) or self.catalogue.store(store_no)

    async def read(self, run: Callable[[Connection], Result]) -> Result:
        """Run a function on a snapshot of the ledger, in a thread."""

        def in_thread() -> Result:
            with self.database.read() as connection:
                return run(connection)

        return await asyncio.to_thread(in_thread)

    async def change(
        self,
        store_no: int,
        run: Callable[[Connection], Result],
        *,
        background: bool = False,
        after: Callable[[Result], None] | None = None,
    ) -> Result:
        """Run a change of a store in the writer and announce it; then forget the store's snapshot.

        `after` is called with the result once it is committed, before anything else is decided.
        """

        def announced(connection: Connection) -> Result:
            result = run(connection)
            announce(connection, store_no)
            return result

        try:
            return await self.writer.submit(announced, background=background, after=after)
        finally:
            self.catalogue.drop(store_no)

    async def follow(self, store_nos: Sequence[int]) -> None:
        """Take over what another replica may have changed of these stores."""
        for store_no in store_nos:
            self.keys.drop_store(store_no)
            await self.catalogue.refresh(store_no)

    def store_in_memory(self, store_no: int) -> StoreState | None:
        """A store's snapshot, if nothing needs to be read for it."""
        known = self.catalogue.known(store_no)
        return self.last_known.store(store_no) if known is None and self.last_known.is_away else known

    def forget_units(self, unit_nos: Sequence[int] | None) -> None:
        """Pass the news of units on."""
        for tell in self.on_units:
            tell(unit_nos)


def service_of(request: Request[Any, Any, Any]) -> Service:
    """The service that answers this request."""
    return request.app.state.service
