"""Hot calls answered on the connection itself; everything unusual goes uvicorn's way to the same answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.app import HOT, create_app
from service.connection import BODY_MAX, HotConnection, Shortcut
from service.context import Service
from service.lifespan import Lifespan
from service.settings import Settings
from tests.launched import new_store
from tests.service.conftest import document

ASK = b'{"touchpoint":"checkout","unit_id":"u"}'


@dataclass
class Site:
    """A service on a port, in this process; what came to its ASGI application; and its connections."""

    port: int
    shortcut: Shortcut
    keys: dict[str, str]
    state: ServerState
    by_asgi: list[str] = field(default_factory=list)
    connections: list[HotConnection] = field(default_factory=list)

    @property
    def service(self) -> Service:
        assert self.shortcut.service is not None
        return self.shortcut.service

    def request(
        self,
        body: bytes = ASK,
        *more: str,
        target: str = "/v1/assign",
        version: str = "1.1",
        length: bool = True,
    ) -> bytes:
        lines = [f"POST {target} HTTP/{version}", "Host: shop.test", "Content-Type: application/json"]
        lines += [f"Authorization: Bearer {self.keys['secret_key']}", *more]
        lines += [f"Content-Length: {len(body)}"] * length
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def tell(self, raw: bytes, answers: int = 1) -> list[tuple[int, dict[str, str], Any]]:
        """Send bytes on a connection of their own; so many answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(raw)
        found = [await read_answer(reader) for _ in range(answers)]
        writer.close()
        return found


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().split("\r\n")
    if head[0] == "HTTP/1.1 100 Continue":
        return await read_answer(reader)
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(fields["content-length"]))
    return int(head[0].split(" ")[1]), fields, json.loads(body)


@asynccontextmanager
async def site(folder: Path) -> AsyncGenerator[Site]:
    url = f"sqlite:///{folder / 'site.db'}"
    keys = new_store(url)
    shortcut = Shortcut({call.path: call for call in HOT})
    app = create_app(Settings(database_url=url, state_dir=str(folder)), shortcut=shortcut)
    life = Lifespan(app)
    await life.start()
    made: Site

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        made.by_asgi.append(scope["path"])
        await app(scope, receive, send)

    config = uvicorn.Config(noted, http="httptools", ws="none", log_config=None, server_header=False)
    config.load()
    state = ServerState()

    def connect() -> HotConnection:
        made.connections.append(shortcut.connection(config=config, server_state=state, app_state={}))
        return made.connections[-1]

    server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)
    made = Site(server.sockets[0].getsockname()[1], shortcut, keys, state)
    try:
        await start_experiment(made)
        made.by_asgi.clear()
        yield made
    finally:
        server.close()
        for connection in made.connections:
            if not connection.transport.is_closing():
                connection.transport.close()
        await life.stop()


async def start_experiment(made: Site) -> None:
    new = made.request(json.dumps(document()).encode(), target="/v1/experiments")
    start = made.request(b"", target="/v1/experiments/checkout-addon/start")
    assert [(await made.tell(raw))[0][0] for raw in (new, start)] == [201, 200]
    assert (await made.tell(made.request()))[0][0] == 200, "now key and store are in memory"


def on_site(folder: Path, test: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        async with site(folder) as made:
            await test(made)

    asyncio.run(run())


def test_a_plain_call_never_comes_to_the_application(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        event = b'{"event_id":"1","type":"product_view","unit_id":"u","sku":"A"}'
        calls = [made.request(), made.request(ASK.replace(b'"u"', b'"new"')), made.request(b"{")]
        calls.append(made.request(event, target="/v1/events"))
        calls.append(made.request(event, target="/v1/events"))
        answers = [(await made.tell(raw))[0] for raw in calls]
        assert [status for status, _, _ in answers] == [200, 200, 400, 200, 200]
        assert answers[0][2]["reason"] == "sticky"
        assert answers[2][1]["content-type"] == "application/problem+json"
        assert [answer[2]["duplicates"] for answer in answers[3:]] == [0, 1]
        assert made.by_asgi == []
        counted = made.service.metrics.exposition()
        assert 'route="/v1/assign",status="400"} 1' in counted

    on_site(tmp_path, test)


def test_a_connection_that_rests_is_closed_in_time_and_one_in_use_is_not(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        await asyncio.sleep(0)
        while not made.connections[-1].transport:
            await asyncio.sleep(0)
        made.connections[-1].timeout_keep_alive = 1
        for _ in range(9):  # longer than it may rest
            writer.write(made.request())
            assert (await read_answer(reader))[0] == 200
            await asyncio.sleep(0.15)
        at = asyncio.get_running_loop().time()
        assert await asyncio.wait_for(reader.read(), 10) == b"", "closed"
        assert asyncio.get_running_loop().time() - at < 5
        writer.close()

    on_site(tmp_path, test)


UNUSUAL: dict[str, Callable[[Site], bytes]] = {
    "a query": lambda made: made.request(target="/v1/assign?x=1"),
    "a long body": lambda made: made.request(ASK.ljust(BODY_MAX + 1)),
    "the connection's last": lambda made: made.request(ASK, "Connection: close"),
    "HTTP/1.0": lambda made: made.request(version="1.0"),
    "a client that waits before it sends": lambda made: made.request(ASK, "Expect: 100-continue"),
    "chunks": lambda made: (
        made.request(b"", "Transfer-Encoding: chunked", length=False)
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ASK), ASK)
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_goes_the_long_way_to_the_same_answer(tmp_path: Path, name: str) -> None:
    async def test(made: Site) -> None:
        ((status, _, answer),) = await made.tell(UNUSUAL[name](made))
        assert (status, answer["reason"]) == (200, "sticky")
        assert made.by_asgi == ["/v1/assign"]

    on_site(tmp_path, test)


def test_a_key_not_in_memory_is_looked_up_the_long_way_with_the_whole_body(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        made.service.keys.drop_store(1)
        answers = [(await made.tell(made.request()))[0][2]["reason"] for _ in range(2)]
        assert answers == ["sticky", "sticky"]
        assert made.by_asgi == ["/v1/assign"], "the second finds it in memory"

    on_site(tmp_path, test)


def test_requests_sent_at_once_are_answered_in_order(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        new = [made.request(ASK.replace(b'"u"', b'"new-%d"' % number)) for number in range(3)]
        longer = made.request(target="/v1/assign?x=1")
        answers = await made.tell(b"".join([*new, longer, made.request(), new[0]]), 6)
        reasons = [answer["reason"] for _, _, answer in answers]
        assert reasons == ["assigned"] * 3 + ["sticky"] * 3
        assert answers[0][2]["decision_id"] == answers[5][2]["decision_id"] != answers[1][2]["decision_id"]
        assert made.by_asgi[0] == "/v1/assign"

    on_site(tmp_path, test)


def test_a_body_may_come_in_pieces(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        raw = made.request()
        for start in range(0, len(raw), 7):
            writer.write(raw[start : start + 7])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await read_answer(reader))[2]["reason"] == "sticky"
        assert made.by_asgi == []
        writer.close()

    on_site(tmp_path, test)


def test_who_leaves_before_the_answer_harms_nobody(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        for number in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", made.port)
            writer.write(made.request(ASK.replace(b'"u"', b'"gone-%d"' % number)))
            await writer.drain()
            writer.transport.abort()
        ((status, _, answer),) = await made.tell(made.request(ASK.replace(b'"u"', b'"stays"')))
        assert (status, answer["reason"]) == (200, "assigned")
        assert not [connection for connection in made.state.connections if not connection.transport]

    on_site(tmp_path, test)


def test_at_the_end_the_answer_is_the_connections_last(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        made.state.default_headers = [(b"date", b"now"), (b"connection", b"close")]
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(made.request())
        status, fields, _ = await read_answer(reader)
        assert (status, fields["connection"], fields["date"]) == (200, "close", "now")
        assert await reader.read() == b"", "closed"
        assert made.by_asgi == []
        writer.close()

    on_site(tmp_path, test)


def test_a_connection_told_to_end_while_its_answer_is_made_sends_it_first(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(made.request(ASK.replace(b'"u"', b'"late"')))
        while not (made.connections[-1].cycle and not made.connections[-1].cycle.response_complete):
            await asyncio.sleep(0)
        made.connections[-1].shutdown()
        status, fields, answer = await read_answer(reader)
        assert (status, fields["connection"], answer["reason"]) == (200, "close", "assigned")
        assert await reader.read() == b"", "closed"
        writer.close()

    on_site(tmp_path, test)


@pytest.mark.parametrize(
    "said", ["203.0.113.9", "203.0.113.9, 198.51.100.7", "203.0.113.9:77", "", "nonsense"]
)
def test_both_ways_know_the_same_client_behind_a_proxy(tmp_path: Path, said: str) -> None:
    async def test(made: Site) -> None:
        asked: list[str] = []
        wait_s = made.service.limiter.wait_s

        def noted(key_id: str, address: str, now_s: float) -> int:
            asked.append(address)
            return wait_s(key_id, address, now_s)

        made.service.limiter.wait_s = noted
        made.keys["secret_key"] = made.keys["publishable_key"]
        await made.tell(made.request())  # the key is in memory now
        del asked[:], made.by_asgi[:]
        for target in ("/v1/assign", "/v1/assign?x=1"):
            await made.tell(made.request(ASK, f"X-Forwarded-For: {said}", target=target))
        assert made.by_asgi == ["/v1/assign"], "the one with a query"
        assert len(asked) == 2
        assert asked[0] == asked[1]

    on_site(tmp_path, test)


def test_no_body_is_read_here_that_the_service_would_not_take() -> None:
    shortcut = Shortcut({})
    for wanted, expected in ((100, 100), (1 << 20, BODY_MAX)):
        service: Any = SimpleNamespace(settings=SimpleNamespace(body_bytes_max=wanted))
        shortcut.open(service)
        assert shortcut.body_max == expected
