"""What a running service holds: built once in `app.py`, handed to everything that needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from litestar import Request
from sqlalchemy import Connection

from service.catalogue import Catalogue, StoreState
from service.clock import Clock
from service.keys import KeyRing
from service.ledger.database import Database
from service.ledger.writer import Writer
from service.metrics import Metrics
from service.rate_limit import RateLimiter
from service.settings import Settings

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    database: Database
    writer: Writer
    catalogue: Catalogue
    clock: Clock
    keys: KeyRing
    limiter: RateLimiter
    metrics: Metrics
    stepped_at_us: dict[int, int] = field(default_factory=dict)  # last allocation step by experiment_no

    def now_us(self, store: StoreState) -> int:
        """The time in a store, in microseconds."""
        return self.clock.now_us(store.simulated_now_us)

    async def read(self, run: Callable[[Connection], Result]) -> Result:
        """Run a function on a snapshot of the ledger, in a thread."""

        def in_thread() -> Result:
            with self.database.read() as connection:
                return run(connection)

        return await asyncio.to_thread(in_thread)

    async def change(self, store_no: int, run: Callable[[Connection], Result]) -> Result:
        """Run a change of a store in the writer; when it is committed, forget the store's snapshot."""
        try:
            return await self.writer.submit(run)
        finally:
            self.catalogue.drop(store_no)


def service_of(request: Request[Any, Any, Any]) -> Service:
    """The service that answers this request."""
    return request.app.state.service
