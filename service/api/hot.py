"""The two calls that are nearly all of the traffic, as bare ASGI handlers.

What the framework's typed handlers would do is two thirds of such a request's time. The handlers here read
the same structs, refuse with the same problem documents and stand in the same OpenAPI document; what they
leave out is the framework's request, response and dependency machinery.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.api.routing import Endpoint
from service.auth import CORS_ORIGIN, Presented, admit, find_principal
from service.catalogue import StoreState
from service.context import Service
from service.errors import to_problem
from service.frame import REQUEST_ID, cors_headers, is_request_id, new_request_id
from service.keys import Principal
from service.logs import log_failure, log_request
from service.problems import MEDIA_TYPE, Problem, content_of

Answer = Callable[[Service, StoreState, Principal, bytes], Awaitable[bytes]]
Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
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

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            await self._handle(service, scope, receive, send)

        handle.__doc__ = self.answer.__doc__
        return handle

    def route(self, handler: ASGIApp) -> ASGIRouteHandler:
        """The handler as a route of an application, for whatever form of the path the framework knows."""
        opt = {"endpoint": self.endpoint, "method": "POST"}
        return ASGIRouteHandler(self.path, opt=opt, copy_scope=False)(handler)

    async def _handle(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        presented = _presented(scope)
        status, origin = 200, None
        headers: Headers = [_JSON]
        try:
            if scope["method"] != "POST":  # type: ignore[typeddict-item]
                status, content, headers = _other_method(scope)
            else:
                principal = await find_principal(service, self.endpoint, presented)
                origin = admit(service, self.endpoint, principal, presented)
                raw = await _body(receive, presented.content_length, service.settings.body_bytes_max)
                store = await service.store(principal.store_no)
                content = await self.answer(service, store, principal, raw)
        except Exception as error:
            status, content, headers = _refused(error, presented.request_id)
        framed = REQUEST_ID in scope  # by the frame, which names paths in one form only
        headers.append((b"content-length", b"%d" % len(content)))
        if not framed:
            headers.append((b"x-request-id", presented.request_id.encode()))
            headers += cors_headers(origin)
        elif origin is not None:
            scope["state"][CORS_ORIGIN] = origin  # type: ignore[typeddict-item]
        # All answers of this turn of the loop are written in a row: to wake whoever waits for them one by one
        # costs more than the writing.
        await asyncio.sleep(0)
        start: Message = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        body = b"" if scope["method"] == "HEAD" else content  # type: ignore[typeddict-item]
        await send({"type": "http.response.body", "body": body, "more_body": False})
        if not framed:
            seconds = time.perf_counter() - started
            service.metrics.observe("POST", self.path, status, seconds)
            trace_id = scope.get("rialto_trace_id")
            log_request(presented.request_id, "POST", self.path, status, seconds, trace_id)


def _presented(scope: Scope) -> Presented:
    """What the request shows of itself, in one pass over its headers; of two of a name the first counts."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _WANTED and name not in found:
            found[name] = value
    given = found.get(b"x-request-id")
    client = scope["client"]
    return Presented(
        authorization=found.get(b"authorization", b"").decode("latin-1"),
        api_key=found.get(b"x-api-key", b"").decode("latin-1"),
        query_key=_query_key(scope["query_string"]) if scope["query_string"] else None,
        origin=found[b"origin"].decode("latin-1") if b"origin" in found else None,
        address=client[0] if client else "",
        request_id=given.decode() if given and is_request_id(given) else new_request_id(),
        content_length=found.get(b"content-length", b""),
    )


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


def _other_method(scope: Scope) -> tuple[int, bytes, Headers]:
    if scope["method"] == "OPTIONS":  # type: ignore[typeddict-item]
        return 204, b"", [(b"allow", b"OPTIONS, POST")]
    allow = {"allow": _METHODS}
    raise Problem(405, "method_not_allowed", f"this path takes {_METHODS}; see /schema", headers=allow)


def _refused(error: Exception, request_id: str) -> tuple[int, bytes, Headers]:
    problem = to_problem(error)
    if problem.status == 500:
        log_failure(error, request_id)
    more = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return problem.status, content_of(problem), [_PROBLEM, *more]
