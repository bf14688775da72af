"""A small HTTP/1.1 client that sends as fast as answers come: kept-alive connections, one request each.

It does less per request than a general client, so that on a machine of two cores the server is measured and
not the caller. Only answers with Content-Length are understood, which is what Rialto gives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Call:
    """One POST, over and over: the path, and the bodies still to send."""

    path: str
    bodies: Iterator[object]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did."""

    requests: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds


async def drive(port: int, key: str, call: Call, *, connections: int, seconds: float) -> Round:
    """Send for so many seconds over so many connections. Raises RuntimeError on any answer but 200."""
    start = time.perf_counter()
    counts = await asyncio.gather(
        *(_one_connection(port, key, call, start + seconds) for _ in range(connections))
    )
    return Round(sum(counts), time.perf_counter() - start)


async def _one_connection(port: int, key: str, call: Call, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST {call.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    count = 0
    try:
        while time.perf_counter() < until:
            body = msgspec.json.encode(next(call.bodies))
            writer.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            await _answer(reader)
            count += 1
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return count


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    body = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{head.splitlines()[0]!r}: {body[:500]!r}")
    if b'"problem"' in body or b'"index"' in body or b'"overloaded"' in body or b'"fallback"' in body:
        raise RuntimeError(f"not every item was taken: {body[:500]!r}")
