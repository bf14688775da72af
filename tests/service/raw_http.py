"""HTTP/1.1 as bytes: what a client library would tidy up before it is sent, sent as it is."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

CHUNK = 65536
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sent:
    """A request. A header here replaces the usual ones of its name; the value "" leaves them out."""

    method: str = "POST"
    target: str = "/v1/assign"
    headers: Headers = ()
    body: bytes = b""
    is_chunked: bool = False


@dataclass(frozen=True)
class Told:
    """An answer: its headers with names in lower case, repeated ones as often as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The only value of a header, or None."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def send(address: tuple[str, int], sent: Sent, usual: Headers = ()) -> Told:
    """Send one request on a connection of its own and read the answer to its end."""
    framing = ("Transfer-Encoding", "chunked") if sent.is_chunked else ("Content-Length", str(len(sent.body)))
    named = {name.lower() for name, _ in sent.headers}
    kept = [pair for pair in (("Host", "shop.test"), ("Connection", "close"), *usual, framing)]
    lines = [f"{sent.method} {sent.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in kept if name.lower() not in named]
    lines += [f"{name}: {value}" for name, value in sent.headers if value]
    with socket.create_connection(address, timeout=20) as connection:
        try:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            for part in _parts(sent):
                connection.sendall(part)
        except OSError:
            pass  # refused before it was read: the answer stands already
        return _read(connection, has_body=sent.method != "HEAD")


def _parts(sent: Sent) -> Iterable[bytes]:
    for start in range(0, len(sent.body), CHUNK):
        part = sent.body[start : start + CHUNK]
        yield b"%x\r\n%b\r\n" % (len(part), part) if sent.is_chunked else part
    if sent.is_chunked:
        yield b"0\r\n\r\n"


def _is_whole(raw: bytes, *, has_body: bool) -> bool:
    """Whether this is an answer to its end, on a connection that stays open."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100 "):
        head, _, body = body.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if length is None or b"connection: close" in head.lower():
        return False
    return len(body) >= int(length[1]) or not has_body


def _read(connection: socket.socket, *, has_body: bool) -> Told:
    raw = b""
    try:
        while not _is_whole(raw, has_body=has_body) and (more := connection.recv(CHUNK)):
            raw += more
    except ConnectionResetError:
        pass  # what was refused unread is thrown away by the other side
    while True:
        head, _, raw = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        if status >= 200:  # not "100 Continue"
            break
    pairs = tuple(line.split(": ", 1) for line in lines)
    told = Told(status, tuple((name.lower(), value) for name, value in pairs), raw)
    length = told.header("content-length")
    if has_body and length is not None:
        assert len(raw) == int(length), told
    return told
