"""Who may call what: keys, scopes, origins, rate.

One guard on every route. It runs before the body is read, so nobody without a key makes us parse.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from service.api.routing import AnyRequest, Endpoint
from service.catalogue import StoreState
from service.context import Service, service_of
from service.keys import KeyKind, Principal, Scope, digest_of
from service.problems import Problem

_PRINCIPAL = "rialto_principal"
CORS_ORIGIN = "rialto_origin"
LOOK_UP_S = 2.0
"""How long a key that is not in memory is looked up, before what was last known of it counts."""


@dataclass(slots=True)
class Presented:
    """What a request shows of itself, apart from its body."""

    authorization: str
    api_key: str
    query_key: str | None
    origin: str | None
    address: str
    request_id: str | None = None  # as the caller names it
    content_length: bytes = b""
    key_digest: bytes | None = None  # once it has been asked for


async def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let the request pass, leaving its principal with it, or raise the Problem."""
    endpoint = endpoint_of(handler)
    if endpoint is None or endpoint.scope is None:
        return
    service: Service = connection.app.state.service
    headers = connection.headers
    presented = Presented(
        authorization=headers.get("authorization", ""),
        api_key=headers.get("x-api-key", ""),
        query_key=connection.query_params.get("key"),
        origin=headers.get("origin"),
        address=connection.client.host if connection.client else "",
    )
    principal = await find_principal(service, endpoint, presented)
    origin = admit(service, endpoint, principal, presented)
    if origin is not None:
        connection.scope["state"][CORS_ORIGIN] = origin
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
    return service_of(request).store_at_once(principal_of(request).store_no)


def known_principal(service: Service, endpoint: Endpoint, presented: Presented) -> Principal | None:
    """Whose key it is, when that is in memory."""
    if presented.key_digest is None:
        key = _given_key(presented, endpoint)
        if key is None:
            return None
        presented.key_digest = digest_of(key)
    return service.keys.known(presented.key_digest)


async def find_principal(service: Service, endpoint: Endpoint, presented: Presented) -> Principal:
    """Whose key it is. Raises Problem 401."""
    key = _given_key(presented, endpoint)
    if key is None:
        raise _unauthorised("send a key: Authorization: Bearer sk_... or X-API-Key: sk_...")
    principal = service.keys.known(digest_of(key)) or await _looked_up(service, key)
    if principal is None:
        raise _unauthorised("this key is unknown or revoked")
    return principal


async def _looked_up(service: Service, key: str) -> Principal | None:
    """The principal of a key that is not in memory: from the ledger, else as last known."""
    last = service.last_known.principal(digest_of(key))
    if last is not None and service.last_known.is_away:
        return last
    # A storefront's key waits no longer for the ledger than its store lets an assignment wait.
    patience_s = LOOK_UP_S if last is None else service.last_known.deadline_s(last.store_no)
    try:
        return await asyncio.wait_for(asyncio.to_thread(service.keys.look_up, key), patience_s)
    except Exception:
        if last is None:
            raise
        return last


def admit(service: Service, endpoint: Endpoint, principal: Principal, presented: Presented) -> str | None:
    """Let the key make this call from there, or raise the Problem; the origin that may read the answer."""
    assert endpoint.scope is not None
    if principal.kind is KeyKind.SECRET:
        _check_secret(principal, endpoint.scope, presented.origin)
        return None
    return _check_publishable(service, principal, endpoint, presented)


def _given_key(presented: Presented, endpoint: Endpoint) -> str | None:
    scheme, _, token = presented.authorization.partition(" ")
    if scheme.lower() == "bearer" and (key := token.strip()):
        return key
    if key := presented.api_key.strip():
        return key
    key = presented.query_key if endpoint.key_in_query else None
    # A secret key in an address would end in logs and histories.
    return key if key and key.startswith(f"{KeyKind.PUBLISHABLE}_") else None


def _check_secret(principal: Principal, scope: Scope, origin: str | None) -> None:
    if origin is not None:
        detail = "a secret key must never be in a browser: revoke it, and use a pk_ key there"
        raise Problem(403, "secret_key_in_browser", detail)
    if scope not in principal.scopes:
        raise Problem(403, "scope_missing", f"this call needs a key with the scope {scope}")


def _check_publishable(
    service: Service, principal: Principal, endpoint: Endpoint, presented: Presented
) -> str | None:
    if not endpoint.publishable or endpoint.scope not in principal.scopes:
        raise Problem(403, "secret_key_required", "this call needs an sk_ key, from a server")
    origin = presented.origin
    if origin is not None and origin not in service.store_at_once(principal.store_no).settings.origins:
        detail = f"add {origin[:256]} to the store's origins (PATCH /v1/store) to allow it"
        raise Problem(403, "origin_not_allowed", detail)
    wait_s = service.limiter.wait_s(principal.public_id, presented.address, time.monotonic())
    if wait_s:
        detail = f"too many requests with this key from this address; wait {wait_s} s"
        raise Problem(429, "rate_limited", detail, headers={"Retry-After": str(wait_s)})
    return origin


def _unauthorised(detail: str) -> Problem:
    return Problem(401, "unauthorised", detail, headers={"WWW-Authenticate": "Bearer"})
