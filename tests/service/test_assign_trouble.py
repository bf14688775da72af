"""What assign answers when the ledger is slow, busy or gone: the control, and nothing written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.hot.ledger import LedgerUnavailable
from tests.service.asking import EMPTY, NOTHING, ask, assigned, settings
from tests.service.conftest import Shop


@contextmanager
def held_writer(shop: Shop) -> Iterator[None]:
    """The writer busy with a job that does not end."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(_connection: Any) -> None:
        begun.set()
        go_on.wait(20)

    writer = shop.client.app.state.service.writer
    done = asyncio.run_coroutine_threadsafe(writer.submit(slow), writer._pumps[0].get_loop())
    assert begun.wait(10)
    try:
        yield
    finally:
        go_on.set()
        done.result(20)


@pytest.mark.usefixtures("sqlite_only")  # where a job holds decisions up; on PostgreSQL it does not
def test_after_the_deadline_the_control_is_shown_and_nobody_is_enrolled(shop: Shop) -> None:
    shop.running()
    settings(shop, deadline_ms=60)
    with held_writer(shop):
        before = time.monotonic()
        made = ask(shop, "late")
        assert time.monotonic() - before < 5
    assert made == {**NOTHING, "experiment": "checkout-addon", "variant": "none", "reason": "fallback"}
    assert sum(assigned(shop).values()) == 0
    settings(shop, deadline_ms=5000)
    assert ask(shop, "late")["reason"] == "assigned"


def test_with_a_full_queue_assign_shows_the_control_and_events_are_asked_to_wait(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.running()
    with held_writer(shop):
        monkeypatch.setattr(shop.client.app.state.service.writer, "_queue_max", 0)
        made = ask(shop)
        event = {"event_id": "1", "type": "custom", "unit_id": "u", "name": "n"}
        told = shop.post("/v1/events", event)
    assert (made["reason"], made["decision_id"], made["offer"]) == ("overloaded", None, EMPTY)
    assert (told.status_code, told.json()["code"]) == (503, "overloaded")
    assert int(told.headers["retry-after"]) >= 1
    monkeypatch.undo()
    assert sum(assigned(shop).values()) == 0


def test_when_the_ledger_cannot_commit_nothing_is_acknowledged(
    open_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop()
    shop.running()

    async def fails(_batch: Any) -> Any:
        raise LedgerUnavailable("disk I/O error")

    monkeypatch.setattr(shop.client.app.state.service.writer.ledger, "commit", fails)
    settings(shop, deadline_ms=5000)
    made = ask(shop)
    told = shop.post("/v1/events", {"event_id": "1", "type": "custom", "unit_id": "u", "name": "n"})
    assert (made["reason"], made["decision_id"], made["offer"]) == ("fallback", None, EMPTY)
    assert (told.status_code, told.json()["code"]) == (503, "database_unavailable")
    assert "retry-after" in told.headers
