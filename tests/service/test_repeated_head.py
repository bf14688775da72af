"""A request with the last one's head is answered as if its head had been parsed again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from service.app import HOT
from service.auth import Presented
from service.connection import HEADS_MAX, HotConnection
from service.repeated_head import RepeatedHead
from tests.service.test_connection import ASK, Site, on_site, read_answer

HEAD = b"POST /v1/assign HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-Last: 1\r\n\r\n"
PRESENTED = Presented("", "", None, None, "")


def head_of(data: bytes) -> RepeatedHead | None:
    return RepeatedHead.of(data, HOT[0], PRESENTED)


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"Content-Length: ", b"content-length:")])
@pytest.mark.parametrize("body", [b"", b"1", b"0123456789", b"\r\n\r\n", b"x" * 70_000])
def test_the_length_of_the_body_alone_may_vary(head: bytes, body: bytes) -> None:
    found = head_of(head + b"abc")
    assert found is not None
    again = head.replace(b"3\r\nX", b"%d\r\nX" % len(body)) + body
    assert found.body(again) == body


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"ab",
        HEAD + b"abcd",
        HEAD + b"abc" + HEAD + b"abc",
        HEAD,
        HEAD[:-2],
        HEAD[:20],
        b"",
        HEAD.replace(b"3\r\nX", b"+3\r\nX") + b"abc",
        HEAD.replace(b"3\r\nX", b"3 4\r\nX") + b"abc",
        HEAD.replace(b"3\r\nX", b"\r\nX") + b"abc",
        HEAD.replace(b"3\r\nX", b"000000003\r\nX") + b"abc",
        HEAD.replace(b"X-Last", b"X-Other") + b"abc",
        HEAD.replace(b"assign", b"events") + b"abc",
        b"\r\n" + HEAD + b"abc",
        HEAD.replace(b"Content-Length", b"content-length") + b"abc",
    ],
)
def test_anything_else_is_parsed(data: bytes) -> None:
    found = head_of(HEAD + b"abc")
    assert found is not None
    assert found.body(data) is None


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"ab",
        HEAD + b"abc" + HEAD,
        HEAD.replace(b"X-Last: 1", b"Content-Length: 3") + b"abc",
        HEAD.replace(b"Content-Length: 3\r\n", b"") + b"abc",
        HEAD.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ],
)
def test_a_request_that_is_not_whole_and_plain_is_not_remembered(data: bytes) -> None:
    assert head_of(data) is None


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[HotConnection]:
    """The connection of each request that is parsed."""
    found: list[HotConnection] = []
    plain = HotConnection.on_message_begin

    def on_message_begin(connection: HotConnection) -> None:
        found.append(connection)
        plain(connection)

    monkeypatch.setattr(HotConnection, "on_message_begin", on_message_begin)
    return found


def unit(name: str) -> bytes:
    return ASK.replace(b'"u"', b'"%b"' % name.encode())


def test_a_client_that_asks_again_is_parsed_once(tmp_path: Path, parsed: list[HotConnection]) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        request_ids: set[str] = set()
        for number in range(30):
            writer.write(made.request(unit("n" * (1 + number % 12))))
            status, fields, answer = await read_answer(reader)
            assert (status, answer["reason"]) == (200, "assigned" if number < 12 else "sticky")
            request_ids.add(fields["x-request-id"])
        assert parsed.count(made.connections[-1]) == 1
        assert len(request_ids) == 30
        assert made.by_asgi == []
        writer.close()

    on_site(tmp_path, test)


def test_heads_that_never_come_again_are_no_longer_remembered(
    tmp_path: Path, parsed: list[HotConnection]
) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        for number in range(2 * HEADS_MAX):
            writer.write(made.request(ASK, f"X-Request-Id: id-{number}"))
            assert (await read_answer(reader))[1]["x-request-id"] == f"id-{number}"
        for _ in range(3):
            writer.write(made.request())
            await read_answer(reader)
        assert parsed.count(made.connections[-1]) == 2 * HEADS_MAX + 3
        writer.close()

    on_site(tmp_path, test)


def test_a_key_that_was_revoked_is_refused_though_its_head_is_known(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        for _ in range(2):
            writer.write(made.request())
            assert (await read_answer(reader))[0] == 200
        principal = next(iter(made.service.keys._known.values()))
        with made.service.database.write() as connection:
            connection.exec_driver_sql("UPDATE api_key SET revoked_at_us = 1")
        made.service.keys.drop(principal.public_id)
        writer.write(made.request())
        status, _, answer = await read_answer(reader)
        assert (status, answer["code"]) == (401, "unauthorised")
        writer.close()

    on_site(tmp_path, test)


def test_a_connection_is_not_taken_for_resting_while_an_answer_is_made(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        for _ in range(2):
            writer.write(made.request())
            await read_answer(reader)
        connection = made.connections[-1]
        async with made.service.writer.ledger.turns:
            writer.write(made.request(unit("waits")))
            while connection.cycle.response_complete:
                await asyncio.sleep(0)
            assert connection._rests_since_s is None
        assert (await read_answer(reader))[0] == 200
        writer.close()

    on_site(tmp_path, test)


def test_who_asks_again_before_the_answer_is_answered_in_turn(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(made.request())
        await read_answer(reader)
        connection = made.connections[-1]
        async with made.service.writer.ledger.turns:
            writer.write(made.request(unit("waits")))
            while connection.cycle.response_complete:
                await asyncio.sleep(0)
            writer.write(made.request())
            await asyncio.sleep(0.05)
        answers = [await read_answer(reader) for _ in range(2)]
        assert [answer["reason"] for _, _, answer in answers] == ["assigned", "sticky"]
        writer.close()

    on_site(tmp_path, test)


def test_a_request_within_a_body_is_a_body(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        inner = made.request()
        outer = made.request(inner)
        for _ in range(3):
            writer.write(inner)
            assert (await read_answer(reader))[0] == 200
            for part in (outer.removesuffix(inner), inner):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            status, _, answer = await read_answer(reader)
            assert (status, answer["errors"][0]["code"]) == (400, "malformed_json")
        writer.close()

    on_site(tmp_path, test)


def test_a_request_within_a_head_is_a_field(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        for parts in ([made.request()], [b"POST /v1/elsewhere HTTP/1.1\r\nX-Said: ", made.request()]):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            assert (await read_answer(reader))[0] == (200 if len(parts) == 1 else 404)
        writer.close()

    on_site(tmp_path, test)


def test_a_body_longer_than_is_read_here_goes_the_long_way(tmp_path: Path) -> None:
    async def test(made: Site) -> None:
        made.shortcut.body_max = len(unit("short"))
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        for name, ways in (("short", []), ("longer", ["/v1/assign"])):
            writer.write(made.request(unit(name)))
            assert (await read_answer(reader))[2]["reason"] == "assigned"
            assert made.by_asgi == ways
        writer.close()

    on_site(tmp_path, test)


def requests_of(made: Site) -> list[bytes]:
    """Some that are alike but for their bodies, some with other heads, some that are refused."""
    event = b'{"event_id":"%d","type":"product_view","unit_id":"u","sku":"A"}'
    return [
        *(made.request(unit("u" * n)) for n in (1, 2, 40)),
        *(made.request(event % n, target="/v1/events") for n in (1, 2, 10)),
        made.request(b"{"),
        made.request(b""),
        made.request(ASK, "X-Request-Id: mine"),
        made.request(ASK, "Origin: https://evil.example"),
        made.request().replace(b"Bearer sk_", b"Bearer sk-"),
        made.request(target="/v1/assign?x=1"),
        made.request(b"x" * 70_000),
        made.request(b"", "Transfer-Encoding: chunked", length=False) + b"0\r\n\r\n",
    ]


@pytest.mark.parametrize("seed", range(6))
def test_on_a_kept_connection_each_is_answered_as_on_one_of_its_own(
    tmp_path: Path, parsed: list[HotConnection], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """In any order, in any pieces, several at once."""
    monkeypatch.setattr("service.connection.HEADS_MAX", 1000)
    chance = random.Random(seed)

    async def test(made: Site) -> None:
        requests = requests_of(made)
        for raw in requests:
            await made.tell(raw)  # now what is new is known
        alone = [(await made.tell(raw))[0] for raw in requests]
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        sent, kind = 0, 0
        for _ in range(100):
            chosen: list[int] = []
            for _ in range(chance.choice((*[1] * 6, 2, 3))):
                kind = kind if chance.random() < 0.7 else chance.randrange(len(requests))
                chosen.append(kind)
            sent += len(chosen)
            raw = b"".join(requests[number] for number in chosen)
            cuts = sorted(chance.randrange(len(raw)) for _ in range(chance.choice((*[0] * 6, 1, 3))))
            for first, last in zip([0, *cuts], [*cuts, len(raw)], strict=True):
                writer.write(raw[first:last])
                await writer.drain()
                await asyncio.sleep(0.002 if cuts else 0)
            for number in chosen:
                assert told(await read_answer(reader)) == told(alone[number]), requests[number][:200]
        assert sent > parsed.count(made.connections[-1]) + 10
        writer.close()

    on_site(tmp_path, test)


def told(answer: tuple[int, dict[str, str], Any]) -> object:
    status, fields, content = answer
    varies = {"date", "content-length", "connection"}
    named = {name: value for name, value in fields.items() if name not in varies}
    if named["x-request-id"] != "mine":
        del named["x-request-id"]
    return status, named, content
