"""The two calls that are nearly all of the traffic, as functions from bytes to bytes.

What the framework's typed handlers would do is two thirds of such a request's time. The calls here read the
same structs, refuse with the same problem documents and stand in the same OpenAPI document; what they leave
out is the framework's request, response and dependency machinery. They are reached in two ways: as bare ASGI
handlers, and by `service/connection.py` with nothing in between at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope
from litestar.types import Send as SendMessage

from service.api.routing import Endpoint
from service.auth import CORS_ORIGIN, Presented, admit, find_principal, known_principal
from service.catalogue import StoreState
from service.context import Service
from service.errors import to_problem
from service.frame import REQUEST_ID, cors_headers, is_request_id, new_request_id
from service.hot.waiting import Waiting
from service.keys import Principal
from service.logs import log_failure, log_request
from service.problems import MEDIA_TYPE, Problem, content_of

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Later:
    """An answer that waits for the writer."""

    made: Waiting
    finish: Callable[[Waiting], bytes]
    """The content, once that is done. Raises Problem."""

    async def content(self) -> bytes:
        """Wait for it."""
        return self.finish(await self.made)


Answer = Callable[[Service, StoreState, Principal, bytes], bytes | Later]


Send = Callable[[int, bytes, bytes], None]
"""Takes an answer's status, the lines of its headers but for its length and the server's own, and content."""


class Reply(NamedTuple):
    """An answer as ASGI has it."""

    status: int
    headers: Headers
    content: bytes


@dataclass(slots=True)
class _Asked:
    """A request that is answered without ASGI."""

    service: Service
    request_id: str
    answer: Send
    started: float
    origin: str | None = None  # which may read the answer


_JSON = (b"content-type", b"application/json")
_JSON_LINE = b"%b: %b\r\n" % _JSON
_PROBLEM = (b"content-type", MEDIA_TYPE.encode())
_METHODS = "POST, OPTIONS"


class HotCall:
    """A call declared like any other, answered by a function from bytes to bytes."""

    def __init__(self, path: str, endpoint: Endpoint, answer: Answer) -> None:
        self.path = path
        self.endpoint = endpoint
        self.answer = answer

    def handler(self, service: Service) -> ASGIApp:
        """The function that answers this call of a service."""

        async def handle(scope: Scope, receive: Receive, send: SendMessage) -> None:
            await self._handle(service, scope, receive, send)

        handle.__doc__ = self.answer.__doc__
        return handle

    def route(self, handler: ASGIApp) -> ASGIRouteHandler:
        """The handler as a route of an application, for whatever form of the path the framework knows."""
        opt = {"endpoint": self.endpoint, "method": "POST"}
        return ASGIRouteHandler(self.path, opt=opt, copy_scope=False)(handler)

    async def _handle(self, service: Service, scope: Scope, receive: Receive, send: SendMessage) -> None:
        started = time.perf_counter()
        presented = presented_of(scope["headers"], scope["query_string"], scope["client"])
        request_id = presented.request_id or new_request_id()
        origin = None
        try:
            if scope["method"] != "POST":  # type: ignore[typeddict-item]
                reply = _other_method(scope)
            else:
                principal = await find_principal(service, self.endpoint, presented)
                origin = admit(service, self.endpoint, principal, presented)
                raw = await _body(receive, presented.content_length, service.settings.body_bytes_max)
                found = self.answer(service, await service.store(principal.store_no), principal, raw)
                reply = Reply(200, [_JSON], found if isinstance(found, bytes) else await found.content())
        except Exception as error:
            reply = _refused(error, request_id)
        status, headers, content = reply
        framed = REQUEST_ID in scope  # by the frame, which names paths in one form only
        headers.append((b"content-length", b"%d" % len(content)))
        if not framed:
            headers += _frame_headers(request_id, origin)
        elif origin is not None:
            scope["state"][CORS_ORIGIN] = origin  # type: ignore[typeddict-item]
        start: Message = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        body = b"" if scope["method"] == "HEAD" else content  # type: ignore[typeddict-item]
        await send({"type": "http.response.body", "body": body, "more_body": False})
        if not framed:
            trace_id = scope.get("rialto_trace_id")
            self._note(service, request_id, status, time.perf_counter() - started, trace_id)

    def begin(self, service: Service, presented: Presented, raw: bytes, answer: Send) -> bool:
        """Answer a POST, now or when the writer is done; False, and nothing done, if more is to be awaited.

        It is when the key or its store is not in memory. Several requests may show the same of themselves.
        """
        principal = known_principal(service, self.endpoint, presented)
        store = None if principal is None else service.store_in_memory(principal.store_no)
        if principal is None or store is None:
            return False
        request_id = presented.request_id or new_request_id()
        asked = _Asked(service, request_id, answer, time.perf_counter())
        try:
            asked.origin = admit(service, self.endpoint, principal, presented)
            found = self.answer(service, store, principal, raw)
            if isinstance(found, Later):
                found.made.tell = partial(self._finish, asked, found.finish)
                return True
        except Exception as error:
            found = error
        self._end(asked, found)
        return True

    def _finish(self, asked: _Asked, finish: Callable[[Waiting], bytes], made: Waiting) -> None:
        try:
            found = finish(made)
        except Exception as error:
            found = error
        self._end(asked, found)

    def _end(self, asked: _Asked, found: bytes | Exception) -> None:
        if isinstance(found, bytes):
            status, head, content = 200, _JSON_LINE, found
        else:
            status, fields, content = _refused(found, asked.request_id)
            head = b"".join([b"%b: %b\r\n" % field for field in fields])
        framing = b"x-request-id: %b\r\n%b" % (asked.request_id.encode(), _cors_lines(asked.origin))
        asked.answer(status, head + framing, content)
        self._note(asked.service, asked.request_id, status, time.perf_counter() - asked.started)

    def _note(
        self,
        service: Service,
        request_id: str,
        status: int,
        seconds: float,
        trace_id: str | None = None,
    ) -> None:
        service.metrics.observe("POST", self.path, status, seconds)
        log_request(request_id, "POST", self.path, status, seconds, trace_id)


def presented_of(
    headers: Iterable[tuple[bytes, bytes]], query_string: bytes, client: Sequence[Any] | None
) -> Presented:
    """What a request shows of itself, in one pass over its headers; of two of a name the first counts."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _WANTED and name not in found:
            found[name] = value
    given = found.get(b"x-request-id")
    return Presented(
        authorization=found.get(b"authorization", b"").decode("latin-1"),
        api_key=found.get(b"x-api-key", b"").decode("latin-1"),
        query_key=_query_key(query_string) if query_string else None,
        origin=found[b"origin"].decode("latin-1") if b"origin" in found else None,
        address=client[0] if client else "",
        request_id=given.decode() if given and is_request_id(given) else None,
        content_length=found.get(b"content-length", b""),
    )


@lru_cache(maxsize=256)  # an origin that comes so far is in its store's list
def _cors_lines(origin: str | None) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in cors_headers(origin)])


def _frame_headers(request_id: str, origin: str | None) -> Headers:
    return [(b"x-request-id", request_id.encode()), *cors_headers(origin)]


_WANTED = frozenset({b"authorization", b"x-api-key", b"origin", b"x-request-id", b"content-length"})


def _query_key(query: bytes) -> str | None:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return next((value for name, value in pairs if name == "key"), None)


async def _body(receive: Receive, content_length: bytes, maximum: int) -> bytes:
    if content_length.isdigit() and int(content_length) > maximum:
        raise _too_large()
    message: Any = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > maximum:
            raise _too_large()
        return body
    parts, length = [body], len(body)
    while message.get("more_body"):
        if length > maximum:
            raise _too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "cut_short", "the connection ended within the body")
        parts.append(message.get("body", b""))
        length += len(parts[-1])
    if length > maximum:
        raise _too_large()
    return b"".join(parts)


def _too_large() -> Problem:
    return Problem(413, "body_too_large", "a body may have at most 1 MiB; split it")


def _other_method(scope: Scope) -> Reply:
    if scope["method"] == "OPTIONS":  # type: ignore[typeddict-item]
        return Reply(204, [(b"allow", b"OPTIONS, POST")], b"")
    allow = {"allow": _METHODS}
    raise Problem(405, "method_not_allowed", f"this path takes {_METHODS}; see /schema", headers=allow)


def _refused(error: Exception, request_id: str) -> Reply:
    problem = to_problem(error)
    if problem.status == 500:
        log_failure(error, request_id)
    more = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return Reply(problem.status, [_PROBLEM, *more], content_of(problem))
