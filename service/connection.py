"""Uvicorn's connection, which answers the two hot calls itself.

Between a parsed request and an ASGI handler stand a task, a scope, an event and two messages, each checked
again: two thirds of what such a request would cost. Here the function that answers it is called when its
body is complete, and the answer is written in one piece when it is there. What is in any way unusual (a
query, a long body, a key not yet in memory, a connection to be closed, a client that reads slowly) goes
uvicorn's way, to the same function. So does everything while requests are traced. A head that is the last
one's again is not parsed anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.hot import HotCall, presented_of
from service.auth import Presented
from service.context import Service
from service.repeated_head import RepeatedHead

BODY_MAX = 1 << 16
"""Of a longer one uvicorn stops reading until it is asked for the rest."""

HEADS_MAX = 16
"""Heads of a connection that are remembered before one has come again: some clients number their requests."""

_TIMER_S = 0.01
"""How much too early a timer may ring."""

Fields = list[tuple[bytes, bytes]]


class Shortcut:
    """The calls that connections answer themselves, while there is a service to answer them."""

    def __init__(self, calls: Mapping[str, HotCall]) -> None:
        self.calls = {path.encode(): call for path, call in calls.items()}
        self.service: Service | None = None
        self.body_max = 0

    def open(self, service: Service | None) -> None:
        """Lead to this service from now on, or (None) to none."""
        self.service = service
        self.body_max = 0 if service is None else min(BODY_MAX, service.settings.body_bytes_max)

    def connection(self, **given: Any) -> HotConnection:
        """A new connection, as uvicorn asks for one."""
        return HotConnection(self, **given)


class _NobodyWaits:
    """Stands for the event that uvicorn sets for whoever reads a body: here nobody does."""

    def set(self) -> None:
        """Do nothing."""


class _Exchange:
    """A request answered here, as far as uvicorn looks at one that is under way."""

    __slots__ = ("body", "call", "disconnected", "keep_alive", "presented", "response_complete")
    message_event = _NobodyWaits()

    def __init__(self, call: HotCall, presented: Presented, body: bytes = b"") -> None:
        self.call = call
        self.presented = presented
        self.body = body
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False


class HotConnection(HttpToolsProtocol):
    """A connection."""

    cycle: Any  # an exchange of ours, or uvicorn's

    def __init__(self, shortcut: Shortcut, **given: Any) -> None:
        super().__init__(**given)
        self._shortcut = shortcut
        self._defaults: Fields = []
        self._default_head = b""
        self._is_ending = False
        self._rests_since_s: float | None = None
        self._is_between = True  # requests, as far as the parser has seen
        self._taken: _Exchange | None = None  # of the bytes that are being parsed
        self._head: RepeatedHead | None = None
        self._heads_left = HEADS_MAX

    def data_received(self, data: bytes) -> None:
        """Take a request with the last one's head over at once; have anything else parsed."""
        is_begin = self._is_between
        if is_begin and self._head is not None and self._is_again(self._head, data):
            return
        self._taken = None
        super().data_received(data)
        if is_begin and self._taken is not None and self._heads_left:
            self._heads_left -= 1
            self._head = RepeatedHead.of(data, self._taken.call, self._taken.presented)

    def _is_again(self, head: RepeatedHead, data: bytes) -> bool:
        """Whether this is a request with that head and nothing is unusual: then it is taken."""
        before, service = self.cycle, self._shortcut.service
        body = head.body(data)
        if body is None or service is None or len(body) > self._shortcut.body_max:
            return False
        if not before.response_complete or self.flow.write_paused:
            return False
        self._unset_keepalive_if_required()
        self.cycle = exchange = _Exchange(head.call, head.presented, body)
        if not head.call.begin(service, head.presented, body, partial(self._answer, exchange)):
            self.cycle = before
            return False
        self._heads_left = HEADS_MAX
        return True

    def on_message_begin(self) -> None:
        """Begin a request; the parser calls this, as it does the next three."""
        self._is_between = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Take the request over, if it is one of ours."""
        call = self._shortcut.calls.get(self.url)
        if call is None or not self._is_plain():
            self._let_uvicorn_begin()
            return
        presented = presented_of(self.headers, b"", (self._address(),))
        length = presented.content_length
        if length.isdigit() and int(length) <= self._shortcut.body_max:
            self.cycle = self._taken = _Exchange(call, presented)
        else:
            self._let_uvicorn_begin()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if type(self.cycle) is _Exchange:
            self.cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Have the request answered."""
        self._is_between = True
        exchange = self.cycle
        if type(exchange) is not _Exchange:
            super().on_message_complete()
            return
        service = self._shortcut.service
        answer = partial(self._answer, exchange)
        if service is None or not exchange.call.begin(service, exchange.presented, exchange.body, answer):
            self._hand_over(exchange)

    def _is_plain(self) -> bool:
        """Whether nothing about the request or the connection is unusual."""
        parser, before = self.parser, self.cycle
        return (
            self._shortcut.service is not None
            and parser is not None
            and (before is None or before.response_complete)
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def _address(self) -> str:
        """Who asks: the client, or whom a trusted proxy says it asks for."""
        host = self.client[0] if self.client else ""
        proxies = self.app
        if isinstance(proxies, ProxyHeadersMiddleware) and host in proxies.trusted_hosts:
            named = [value for name, value in self.headers if name == b"x-forwarded-for"]
            if named:
                said = b", ".join(named).decode("latin1")
                return proxies.trusted_hosts.get_trusted_client_address(said)[0] or host
        return host

    def _let_uvicorn_begin(self) -> None:
        """Have uvicorn make its scope of what has been read, and its task."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # this list is the scope's
        super().on_headers_complete()

    def _hand_over(self, exchange: _Exchange) -> None:
        """Let the request go uvicorn's way after all."""
        exchange.response_complete = True  # there is nothing before it
        self._let_uvicorn_begin()
        super().on_body(exchange.body)
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to happen to the connection."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def on_response_complete(self) -> None:
        """Begin what has been sent meanwhile, or rest.

        Uvicorn sets a timer anew after every answer and takes it back with every request. Here one runs on,
        and looks how long the connection has rested when it rings.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._rests_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._ring_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, if it has rested for so long."""
        rests_since_s = self._rests_since_s
        rested_s = 0.0 if rests_since_s is None else self.loop.time() - rests_since_s
        if rested_s >= self.timeout_keep_alive - _TIMER_S:
            super().timeout_keep_alive_handler()
        else:
            self._ring_in(self.timeout_keep_alive - rested_s)

    def _ring_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self._rests_since_s = None  # something has come

    def _answer(self, exchange: _Exchange, status: int, head: bytes, content: bytes) -> None:
        exchange.response_complete = True
        if self.transport.is_closing():
            return
        is_last = self._read_defaults() or not exchange.keep_alive
        close = b"connection: close\r\n" if is_last else b""
        length = b"content-length: %d\r\n\r\n" % len(content)
        self.transport.write(
            b"".join((STATUS_LINE[status], self._default_head, head, close, length, content))
        )
        if is_last:
            self.transport.close()
        self.on_response_complete()

    def _read_defaults(self) -> bool:
        """Keep up with the fields of every answer; whether they say that it is the connection's last."""
        defaults = self.server_state.default_headers
        if defaults is not self._defaults:
            self._defaults = defaults
            kept = [field for field in defaults if field[0] != b"connection"]
            self._default_head = b"".join([b"%b: %b\r\n" % field for field in kept])
            self._is_ending = len(kept) < len(defaults)
        return self._is_ending
