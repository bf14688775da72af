"""Who may call what: keys, scopes, origins, rate.

One guard on every route. It runs before the body is read, so nobody without a key makes us parse.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from service.api.routing import AnyRequest, Endpoint
from service.catalogue import StoreState
from service.context import Service, service_of
from service.keys import KeyKind, Principal, Scope
from service.problems import Problem

_PRINCIPAL = "rialto_principal"
CORS_ORIGIN = "rialto_origin"


async def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let the request pass, leaving its principal with it, or raise the Problem."""
    endpoint = endpoint_of(handler)
    if endpoint is None or endpoint.scope is None:
        return
    service: Service = connection.app.state.service
    principal = await _principal(connection, service, endpoint)
    origin = connection.headers.get("origin")
    if principal.kind is KeyKind.SECRET:
        _check_secret(principal, endpoint.scope, origin)
    else:
        _check_publishable(connection, service, principal, endpoint, origin)
    connection.scope["state"][_PRINCIPAL] = principal


def endpoint_of(handler: BaseRouteHandler) -> Endpoint | None:
    """The declaration of a route; None for the OPTIONS routes that Litestar adds."""
    if isinstance(handler, HTTPRouteHandler) and handler.http_methods == {HttpMethod.OPTIONS}:
        return None
    return handler.opt["endpoint"]


def principal_of(request: AnyRequest) -> Principal:
    """Who asks, on a route that is not public."""
    return request.scope["state"][_PRINCIPAL]


def store_of(request: AnyRequest) -> StoreState:
    """The store of the key that asks: every query is bound to it."""
    return service_of(request).catalogue.store(principal_of(request).store_no)


async def _principal(
    connection: ASGIConnection[Any, Any, Any, Any], service: Service, endpoint: Endpoint
) -> Principal:
    key = _given_key(connection, endpoint)
    if key is None:
        raise _unauthorised("send a key: Authorization: Bearer sk_... or X-API-Key: sk_...")
    principal = service.keys.known(key) or await asyncio.to_thread(service.keys.look_up, key)
    if principal is None:
        raise _unauthorised("this key is unknown or revoked")
    return principal


def _given_key(connection: ASGIConnection[Any, Any, Any, Any], endpoint: Endpoint) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if key := connection.headers.get("x-api-key"):
        return key.strip()
    key = connection.query_params.get("key") if endpoint.key_in_query else None
    # A secret key in an address would end in logs and histories.
    return key if key and key.startswith(f"{KeyKind.PUBLISHABLE}_") else None


def _check_secret(principal: Principal, scope: Scope, origin: str | None) -> None:
    if origin is not None:
        detail = "a secret key must never be in a browser: revoke it, and use a pk_ key there"
        raise Problem(403, "secret_key_in_browser", detail)
    if scope not in principal.scopes:
        raise Problem(403, "scope_missing", f"this call needs a key with the scope {scope}")


def _check_publishable(
    connection: ASGIConnection[Any, Any, Any, Any],
    service: Service,
    principal: Principal,
    endpoint: Endpoint,
    origin: str | None,
) -> None:
    if not endpoint.publishable or endpoint.scope not in principal.scopes:
        raise Problem(403, "secret_key_required", "this call needs an sk_ key, from a server")
    if origin is not None:
        if origin not in service.catalogue.store(principal.store_no).settings.origins:
            detail = f"add {origin[:256]} to the store's origins (PATCH /v1/store) to allow it"
            raise Problem(403, "origin_not_allowed", detail)
        connection.scope["state"][CORS_ORIGIN] = origin
    address = connection.client.host if connection.client else ""
    wait_s = service.limiter.wait_s(principal.public_id, address, time.monotonic())
    if wait_s:
        detail = f"too many requests with this key from this address; wait {wait_s} s"
        raise Problem(429, "rate_limited", detail, headers={"Retry-After": str(wait_s)})


def _unauthorised(detail: str) -> Problem:
    return Problem(401, "unauthorised", detail, headers={"WWW-Authenticate": "Bearer"})
