"""How a call is declared: its scope, its types and its summary in one place.

The guard reads the scope from here and the OpenAPI document its schemas, so neither can be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from inspect import signature
from typing import Any

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from service.keys import Scope

AnyRequest = Request[Any, Any, Any]
Handler = Callable[..., Coroutine[Any, Any, Response[bytes] | Stream]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a call takes and answers; `scope` None means public."""

    scope: Scope | None
    summary: str
    body: Any = None  # a msgspec type, or a JSON Schema in which such types may stand
    answer: Any = None
    query: Any = None  # a msgspec Struct of the query parameters
    status: int = 200
    media_type: str = "application/json"
    problems: tuple[int, ...] = ()
    publishable: bool = False  # a pk_ may call it, from a browser
    etag: bool = False  # 304 to whoever names the ETag he has in If-None-Match
    key_in_query: bool = False  # beacons cannot set headers: ?key=pk_...


def call(
    method: str,
    path: str,
    *,
    scope: Scope | None,
    summary: str,
    **more: Any,
) -> Callable[[Handler], HTTPRouteHandler]:
    """Declare a call; `more` are the other fields of `Endpoint`."""
    endpoint = Endpoint(scope=scope, summary=summary, **more)

    def declare(handler: Handler) -> HTTPRouteHandler:
        named = [name for name in signature(handler).parameters if name != "request"]

        # The framework sees the request alone: what a handler takes from the path is handed on as text.
        async def answered(request: AnyRequest) -> Response[bytes] | Stream:
            return await handler(request, **{name: request.path_params[name] for name in named})

        answered.__doc__, answered.__name__ = handler.__doc__, handler.__name__
        route = HTTPRouteHandler(
            path,
            http_method=method,  # pyright: ignore[reportArgumentType] - a string is coerced to the enum
            status_code=endpoint.status,
            opt={"endpoint": endpoint},
        )
        return route(answered)

    return declare
