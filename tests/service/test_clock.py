"""The clock of a simulated store, and the steps that its moving makes due."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import select

from service.jobs import loop
from service.ledger import schema
from tests.service.conftest import Shop


def test_no_clock_is_set_in_the_middle_of_a_step(
    simulated_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one gives up carts as of the old time and sets shares as of the new, now and then.

    Found by the closed loop's demand that one seed gives the same requests twice.
    """
    shop, right = simulated_shop, loop.abandon_pending
    shop.post("/v1/clock", {"now": "2026-03-02T00:00:00Z"})
    began, seen = threading.Event(), list[tuple[Any, Any]]()

    async def held(service: Any, store_no: int) -> int:
        found = await right(service, store_no)
        if not began.is_set() and store_no == 1:
            before = clock_of(shop)
            began.set()
            await asyncio.sleep(0.5)  # the clock's call comes meanwhile, and has to wait
            seen.append((before, clock_of(shop)))
        return found

    monkeypatch.setattr(loop, "abandon_pending", held)
    assert began.wait(60)
    assert shop.post("/v1/clock", {"now": "2026-03-03T00:00:00Z"}).status_code == 200
    assert seen, "the clock was set before the step had ended"
    ((before, after),) = seen
    assert before == after
    assert clock_of(shop) > after


def clock_of(shop: Shop) -> int:
    store = schema.store.c
    with shop.database.read() as connection:
        wanted = select(store.simulated_now_us).where(store.store_no == 1)
        return connection.execute(wanted).scalar_one()
