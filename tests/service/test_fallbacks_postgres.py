"""PostgreSQL that is gone, or that hangs, under a running service: what is answered meanwhile, and after."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.last_known import AWAY_S
from tests.launched import Serving, new_store, serving
from tests.processes import eventually
from tests.service.asking import CART, NOTHING
from tests.service.test_fallbacks_hanging import DEADLINE_MS, OVERHEAD_S, Storefront, send


class Road:
    """A TCP connection to the database through us: open, silent (nothing passes) or closed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._passes = threading.Event()
        self._passes.set()
        self._is_closed = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def silent(self) -> Iterator[None]:
        self._passes.clear()
        yield
        self._passes.set()

    @contextmanager
    def closed(self) -> Iterator[None]:
        self._is_closed = True
        self._cut()
        yield
        self._is_closed = False

    def end(self) -> None:
        self._passes.set()
        self._is_closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if self._is_closed:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(65536):
                self._passes.wait()
                other.sendall(content)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        one.close()


@dataclass
class Site:
    """A running service with a road to its database."""

    running: Serving
    keys: dict[str, str]
    road: Road
    open: ExitStack

    def storefront(self, key: str = "secret_key") -> Storefront:
        return Storefront(self.open.enter_context(self.running.client(self.keys[key])))

    def readiness(self) -> dict[str, Any]:
        before = time.monotonic()
        answer = httpx.get(f"{self.running.url}/health/ready")
        assert time.monotonic() - before < 1 + OVERHEAD_S
        return answer.json()

    def states(self) -> dict[str, str]:
        return {check["name"]: check["state"] for check in self.readiness()["checks"]}

    def is_ready(self) -> bool:
        return self.readiness()["status"] == "ready"


@pytest.fixture
def site(postgres_url: str, tmp_path: Path) -> Generator[Site]:
    keys = new_store(postgres_url)
    start, _, name = postgres_url.rpartition("/")
    host, _, port = start.rpartition(":")
    road = Road(int(port))
    url = f"{host}:{road.port}/{name}"
    try:
        with ExitStack() as clients:
            running = clients.enter_context(serving(tmp_path, url, arguments=("--state-dir", str(tmp_path))))
            yield Site(running, keys, road, clients)
    finally:
        road.end()


@pytest.mark.parametrize("trouble", [Road.silent, Road.closed], ids=["silent", "gone"])
def test_storefronts_are_answered_in_time_and_it_goes_on_by_itself(
    site: Site, trouble: Callable[[Road], Any]
) -> None:
    shop, unused = site.storefront(), site.storefront("publishable_key")
    shop.prepare(deadline_ms=DEADLINE_MS)
    (unchanged, first), (changed, second) = shop.units_of("socks", 2).items()
    assert shop.ask(changed, **CART)["offer"] == {"kind": "none"}
    eventually(site.is_ready, 30)
    nothing = {**NOTHING, "experiment": "checkout-addon", "variant": "none", "reason": "fallback"}
    with ThreadPoolExecutor(12) as threads, trouble(site.road):
        assert shop.ask_in_time(unchanged) in [{**first, "reason": one} for one in ("sticky", "stale")]
        assert shop.ask_in_time(changed) == {**second, "reason": "stale"}
        assert list(threads.map(shop.ask_in_time, [f"new {i}" for i in range(12)])) == [nothing] * 12
        told = threads.submit(send, shop, "e-1")
        assert site.readiness()["status"] == "degraded"
        eventually(lambda: site.states()["database"] == "degraded", 10)
        eventually(lambda: shop.ask_in_time(unchanged) == {**first, "reason": "stale"}, 10)
        # A key that this process has never seen: what was last known of it counts, after a while at once.
        until = time.monotonic() + AWAY_S + 1
        while time.monotonic() < until:
            assert unused.ask("another")["reason"] == "fallback"
        for i in range(12):
            assert unused.ask_in_time(f"late {i}")["reason"] == "fallback"
        if trouble is Road.closed:
            refused = told.result(20)
            assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        else:
            assert not told.done() or told.result().status_code == 503
    eventually(site.is_ready, 60)
    assert shop.ask(unchanged) == {**first, "reason": "sticky"}
    assert shop.ask(changed) == {**second, "reason": "sticky"}
    for unit in [f"new {i}" for i in range(12)]:
        made = shop.ask(unit)
        assert made["reason"] in ("assigned", "sticky")
        assert made["decision_id"] is not None
    sent = send(shop, "e-1")
    assert sent.status_code == 200
    assert sent.json()["accepted"] + sent.json()["duplicates"] == 1
