"""A ledger that hangs under a running service: storefronts are answered in time, and it goes on by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.hot.sqlite import SqliteLedger
from service.ledger.database import Database
from service.ledger.verify import verify
from tests.launched import Serving, new_store, serving
from tests.processes import eventually
from tests.service.asking import CART, NOTHING
from tests.service.conftest import document

DEADLINE_MS = 200
OVERHEAD_S = 4.0
"""What a busy machine may add to the deadline; the trouble itself lasts longer than both."""

HELD_COMMIT = """
import pathlib, time
from service.hot.sqlite import SqliteLedger
hold, commit = pathlib.Path({hold!r}), SqliteLedger._commit
def held(self):
    while hold.exists():
        time.sleep(0.005)
    commit(self)
SqliteLedger._commit = held
"""


@dataclass
class Storefront:
    """A shop's site over HTTP."""

    client: httpx.Client

    def ask(self, unit: str, **context: Any) -> dict[str, Any]:
        body = {"touchpoint": "checkout", "unit_id": unit, "context": context}
        answer = self.client.post("/v1/assign", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask_in_time(self, unit: str, **context: Any) -> dict[str, Any]:
        before = time.monotonic()
        made = self.ask(unit, **context)
        assert time.monotonic() - before < DEADLINE_MS / 1000 + OVERHEAD_S
        return made

    def shown(self, decision_id: str) -> list[str]:
        """What is on record as shown, from the first to the last."""
        found = self.client.get(f"/v1/decisions/{decision_id}")
        assert found.status_code == 200, found.text
        return [step["what"] for step in found.json()["shown"]]

    def prepare(self, **settings: Any) -> None:
        assert self.client.post("/v1/experiments", json=document()).status_code == 201
        assert self.client.post("/v1/experiments/checkout-addon/start").status_code == 200
        self.set(**settings)

    def set(self, **settings: Any) -> None:
        etag = self.client.get("/v1/store").headers["etag"]
        patched = self.client.patch("/v1/store", json=settings, headers={"If-Match": etag})
        assert patched.status_code == 200

    def units_of(self, variant: str, count: int) -> dict[str, dict[str, Any]]:
        """Units that have this variant, and what each was told."""
        found: dict[str, dict[str, Any]] = {}
        for number in range(200):
            made = self.ask(f"unit {number}")
            if made["variant"] == variant:
                found[f"unit {number}"] = made
            if len(found) == count:
                return found
        raise AssertionError(f"nobody in {variant}")


Hang = Callable[[], AbstractContextManager[None]]


@dataclass
class Site:
    """A running service whose ledger can be made to hang."""

    running: Serving
    file: Path
    keys: dict[str, str]
    hang: Hang
    open: ExitStack

    def storefront(self, keys: dict[str, str] | None = None) -> Storefront:
        client = self.running.client((keys or self.keys)["secret_key"])
        return Storefront(self.open.enter_context(client))

    def is_ready(self) -> bool:
        return httpx.get(f"{self.running.url}/health/ready").json().get("status") == "ready"


@pytest.fixture(params=["commit held", "file locked"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Site]:
    file, hold = tmp_path / "shop.db", tmp_path / "hold"

    @contextmanager
    def held_commit() -> Generator[None]:
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    @contextmanager
    def locked_file() -> Generator[None]:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            yield
            holder.execute("ROLLBACK")

    hang, changes = {
        "commit held": (held_commit, HELD_COMMIT.format(hold=str(hold))),
        "file locked": (locked_file, ""),
    }[request.param]
    url = f"sqlite:///{file}"
    keys = new_store(url)
    with serving(tmp_path, url, changes=changes) as running, ExitStack() as clients:
        yield Site(running, file, keys, hang, clients)


def test_who_is_known_keeps_the_variant_and_who_is_not_is_shown_nothing(site: Site) -> None:
    shop = site.storefront()
    shop.prepare(deadline_ms=DEADLINE_MS)
    (unchanged, first), (changed, second) = shop.units_of("socks", 2).items()
    assert shop.ask(changed, **CART)["offer"] == {"kind": "none"}
    nothing = {**NOTHING, "experiment": "checkout-addon", "variant": "none", "reason": "fallback"}
    with ThreadPoolExecutor(12) as threads, site.hang():
        # What is in memory and on record already needs nothing of the ledger.
        assert shop.ask_in_time(unchanged) == {**first, "reason": "sticky"}
        # That the offer is shown again would have to be recorded.
        assert shop.ask_in_time(changed) == {**second, "reason": "stale"}
        assert shop.ask_in_time("new 0") == nothing
        assert list(threads.map(shop.ask_in_time, [f"new {i}" for i in range(1, 12)])) == [nothing] * 11
        told = threads.submit(send, shop, "e-1")
        assert httpx.get(f"{site.running.url}/health/ready").json()["status"] == "degraded"
        assert not told.done(), "an event is not acknowledged before it is on disk"
    assert told.result(30).json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    eventually(site.is_ready, 30)
    shop.set(deadline_ms=5_000)  # a busy machine must not turn an assignment into a fall-back
    assert shop.ask(unchanged) == {**first, "reason": "sticky"}
    assert shop.ask(changed) == {**second, "reason": "sticky"}
    for unit in (f"new {i}" for i in range(12)):
        made = shop.ask(unit)
        assert made["reason"] in ("assigned", "sticky")
        # Who was shown nothing and was enrolled all the same stands so in the record.
        steps = shop.shown(made["decision_id"])
        assert steps == (["offer"] if made["reason"] == "assigned" else ["fallback", "offer"]), unit
    with closing(Database(f"sqlite:///{site.file}")) as database:
        assert verify(database).is_exact


def send(shop: Storefront, event_id: str) -> httpx.Response:
    event = {"event_id": event_id, "type": "custom", "unit_id": "u", "name": "n"}
    return shop.client.post("/v1/events", json=event)


def test_the_deadline_is_the_stores_own(site: Site) -> None:
    other_keys = new_store(f"sqlite:///{site.file}")
    hasty, patient = site.storefront(), site.storefront(other_keys)
    hasty.prepare(deadline_ms=50)
    patient.prepare(deadline_ms=2500)
    waits: dict[str, float] = {}

    def timed(name: str, shop: Storefront) -> str:
        before = time.monotonic()
        reason = shop.ask("new")["reason"]
        waits[name] = time.monotonic() - before
        return reason

    with ThreadPoolExecutor(2) as threads, site.hang():
        asked: list[Future[str]] = [
            threads.submit(timed, "hasty", hasty),
            threads.submit(timed, "patient", patient),
        ]
        assert [future.result(30) for future in asked] == ["fallback", "fallback"]
    assert 0.04 < waits["hasty"] < 2.4 < waits["patient"] < 2.5 + OVERHEAD_S


def test_no_lock_of_others_is_waited_for_on_the_event_loop(tmp_path: Path) -> None:
    """From the first statement on, before any job has run."""

    async def patience_ms(database: Database) -> int:
        ledger = SqliteLedger(database)
        await ledger.open()
        try:
            return ledger._raw.execute("PRAGMA busy_timeout").fetchone()[0]
        finally:
            await ledger.close()

    with closing(Database(f"sqlite:///{tmp_path / 'shop.db'}")) as database:
        database.migrate()
        assert asyncio.run(patience_ms(database)) == 0
