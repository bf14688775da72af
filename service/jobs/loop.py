"""What runs beside the API: lead or follow; the leader folds, times carts out and allocates.

Once a second, or as simulated time moves, whichever replica is told of that.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import DBAPIError, OperationalError

from service.context import Service
from service.jobs import allocator
from service.jobs.folder import abandon_pending, fold_pending
from service.jobs.operations import tell
from service.ledger.database import said
from service.ledger.notices import Audience, Follower

TICK_S = 1.0
TELL_S = 10.0
"""Between two tellings of what was answered: a breaker looks at an hour."""
log = logging.getLogger(__name__)


async def run(service: Service) -> None:
    """Lead or follow, until cancelled."""
    follower = Follower(service.database, Audience(service.follow, service.forget_units))
    await asyncio.gather(service.leader.run(), follower.run(), _advance_all(service), _tell(service))


async def _advance_all(service: Service) -> None:
    """Advance every store, once a second, while this service leads."""
    while True:
        try:
            if service.leader.is_leader:
                for store_no in await asyncio.to_thread(service.catalogue.all_store_nos):
                    await _advance_safely(service, store_no)
        except DBAPIError as error:  # away for a while, perhaps: a line a second is enough
            log.warning("the stores cannot be listed, it is tried again: %s", said(error))
        except Exception:
            log.exception("the stores cannot be listed; it is tried again")
        await asyncio.sleep(TICK_S)


async def _tell(service: Service) -> None:
    """Add to the ledger's counts what this service has answered, leader or not."""
    answers = service.metrics.answers
    while True:
        await asyncio.sleep(TELL_S)
        counts = answers.pending()
        if counts:
            try:
                await service.writer.submit(lambda c, counts=counts: tell(c, counts), background=True)
            except OperationalError:
                continue  # it stays counted; what is wrong with the ledger others say
            except Exception:
                log.exception("answers cannot be counted in the ledger; it is tried again")
                continue
            answers.told(counts)


async def _advance_safely(service: Service, store_no: int) -> None:
    """Advance a store; what fails in one never holds up the others."""
    try:
        await advance(service, store_no)
    except OperationalError as error:
        log.warning("a background step failed, it is tried again: %s", said(error))
    except Exception:
        log.exception("a background step failed; it is tried again")


async def advance(service: Service, store_no: int) -> int:
    """Take every step due in a store now; the number of allocation steps taken."""
    async with service.advancing[store_no]:
        return await take_steps(service, store_no)


async def take_steps(service: Service, store_no: int) -> int:
    """The same for who holds the store's turn: no clock is set meanwhile."""
    await fold_pending(service, store_no)
    await abandon_pending(service, store_no)
    steps = await service.read(lambda connection: allocator.steps_due(connection, service, store_no))
    if steps:
        await service.change(store_no, lambda c: allocator.take(c, service, store_no, steps), background=True)
        await fold_pending(service, store_no)  # caps fixed by a step restate their units
    return len(steps)
