"""What runs beside the API: fold, time carts out, allocate; once a second, or as simulated time moves."""

from __future__ import annotations

import asyncio
import logging

from service.context import Service
from service.jobs import allocator
from service.jobs.folder import abandon_pending, fold_pending

TICK_S = 1.0
log = logging.getLogger(__name__)


async def run(service: Service) -> None:
    """Advance every store, once a second, until cancelled."""
    while True:
        try:
            for store_no in await asyncio.to_thread(service.catalogue.all_store_nos):
                await _advance_safely(service, store_no)
        except Exception:
            log.exception("the stores cannot be listed; it is tried again")
        await asyncio.sleep(TICK_S)


async def _advance_safely(service: Service, store_no: int) -> None:
    """Advance a store; what fails in one never holds up the others."""
    try:
        await advance(service, store_no)
    except Exception:
        log.exception("a background step failed; it is tried again")


async def advance(service: Service, store_no: int) -> int:
    """Take every step due in a store now; the number of allocation steps taken."""
    await fold_pending(service, store_no)
    await abandon_pending(service, store_no)
    steps = await service.read(lambda connection: allocator.steps_due(connection, service, store_no))
    if steps:
        await service.writer.submit(lambda c: allocator.take(c, service, store_no, steps), background=True)
        service.catalogue.drop(store_no)
        await fold_pending(service, store_no)  # caps fixed by a step restate their units
    return len(steps)
