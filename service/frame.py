"""Around every request, routed or not: its id, its log line, its count, and CORS."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Iterable, Mapping

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.auth import CORS_ORIGIN
from service.logs import log_request
from service.metrics import Metrics

BROWSER_PATHS = frozenset({"/v1/assign", "/v1/events", "/rialto.js"})
_PROCESS, _COUNT = secrets.token_hex(4), itertools.count(secrets.randbits(31))
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_PREFLIGHT_AGE_S = 600
REQUEST_ID = "rialto_request_id"
"""In the scope of a request that the frame takes note of."""


class Frame:
    """The outermost layer of the service."""

    def __init__(
        self,
        inner: ASGIApp,
        metrics: Metrics,
        methods: Mapping[str, Iterable[str]],
        hot: Mapping[str, ASGIApp] | None = None,
    ) -> None:
        self._inner = inner
        # Handlers, by path, that do all of this themselves, for POST. They are routes like any other; this
        # spares nearly all of the traffic the way there, which takes longer than reading the request.
        self._hot = hot or {}
        self._metrics = metrics
        # The framework's own answer to OPTIONS knows the first call of a path alone.
        self._allow = {path: ", ".join(sorted(names)).encode() for path, names in methods.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        hot = self._hot.get(scope["path"])
        if hot is not None and scope["method"] == "POST":
            scope["path_template"] = scope["path"]  # what traces call it, as the router would have said
            await hot(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if is_request_id(given) else new_request_id()
        scope[REQUEST_ID] = request_id  # type: ignore[typeddict-unknown-key]
        started = time.perf_counter()
        status = 500

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(b"x-request-id", request_id.encode()), *_cors_headers(scope)]
                message["headers"] = [*self._with_allow(scope, message.get("headers", [])), *more]
            await send(message)

        try:
            if _is_preflight(scope, headers):
                await _answer_preflight(headers, send_framed)
            else:
                await self._inner(scope, receive, send_framed)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - started)

    def _with_allow(self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        allow = self._allow.get(str(scope.get("path_template")))  # none of a 405, which names them all
        return [(name, (allow or value) if name.lower() == b"allow" else value) for name, value in headers]

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        # The pattern of the route, not its path: a path may hold a shopper's id.
        route = str(scope.get("path_template") or "none")
        method = str(scope.get("method", ""))
        self._metrics.observe(method, route, status, seconds)
        log_request(request_id, method, route, status, seconds, scope.get("rialto_trace_id"))


def new_request_id() -> str:
    """An id no other request of any process has: a random beginning, then a count."""
    return f"{_PROCESS}{next(_COUNT) & 0xFFFFFFFF:08x}"


def is_request_id(given: bytes) -> bool:
    """Whether what a caller calls the request may stand in logs and headers."""
    return _REQUEST_ID.fullmatch(given) is not None


def _cors_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    if scope["path"] not in BROWSER_PATHS:
        return []
    return cors_headers(scope.get("state", {}).get(CORS_ORIGIN))


def cors_headers(origin: str | None) -> list[tuple[bytes, bytes]]:
    """Who may read the answer: a page of the origin that was admitted."""
    if origin is None:
        return [(b"vary", b"Origin")]
    return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]


def _is_preflight(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    return (
        scope.get("method") == "OPTIONS"
        and scope["path"] in BROWSER_PATHS
        and b"origin" in headers
        and b"access-control-request-method" in headers
    )


async def _answer_preflight(headers: dict[bytes, bytes], send: Send) -> None:
    """A preflight carries no key, so no store's list can be asked: the call itself checks the origin."""
    answer = [
        (b"access-control-allow-origin", headers[b"origin"]),
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type, x-api-key"),
        (b"access-control-max-age", str(_PREFLIGHT_AGE_S).encode()),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": answer})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
