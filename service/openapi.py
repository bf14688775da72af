"""The OpenAPI document, built from the declarations of the routes: it cannot say what they do not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, cast

import msgspec
from litestar import Litestar
from litestar.handlers import BaseRouteHandler
from litestar.routes import ASGIRoute, HTTPRoute
from msgspec import inspect

from service.api.descriptions import description_of
from service.api.routing import Endpoint
from service.problems import MEDIA_TYPE, ProblemDocument
from service.wire import CallerId

_REF = "#/components/schemas/{name}"
_PATH_SCHEMAS = {"unit_id": msgspec.json.schema(CallerId)}
_ALWAYS = (400, 401, 403, 413, 500, 503)
_PHRASES = {
    400: "The request is wrong; `errors` names the fields",
    401: "No key, or one unknown or revoked",
    403: "The key may not do this",
    404: "Not in this store",
    409: "Not in this state of things",
    412: "Changed since it was read",
    413: "The body is larger than 1 MiB",
    428: "If-Match is missing",
    429: "Too many requests; see Retry-After",
    500: "A defect of Rialto",
    503: "Try again in a moment; see Retry-After",
}


def openapi_document(app: Litestar) -> dict[str, Any]:
    """The OpenAPI 3.1 document of every declared route."""
    calls: list[tuple[str, str, Endpoint, BaseRouteHandler]] = [
        (route.path_format, method, handler.opt["endpoint"], handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if "endpoint" in handler.opt
        for method in sorted(str(m).lower() for m in handler.http_methods)
    ]
    calls += [
        (route.path_format, handler.opt["method"].lower(), handler.opt["endpoint"], handler)
        for route in app.routes
        if isinstance(route, ASGIRoute) and "endpoint" in (handler := route.route_handler).opt
    ]
    schemas = _Schemas([endpoint for _, _, endpoint, _ in calls])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, endpoint, handler in sorted(calls, key=lambda c: (c[0], c[1])):
        paths.setdefault(path, {})[method] = _operation(path, method, endpoint, handler, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Rialto",
            "version": version("rialto"),
            "description": "Which offer should this shopper see here, now? Errors are RFC 9457 problems.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "beacon": {
                    **{"type": "apiKey", "in": "query", "name": "key"},
                    "description": "A publishable key, for beacons, which can set no header.",
                },
            },
        },
    }


class _Schemas:
    """JSON Schemas of the types that occur; named ones become components."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        types: list[Any] = [ProblemDocument]
        for endpoint in endpoints:
            types += [*_types_in(endpoint.body), *_types_in(endpoint.answer)]
        schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
        self.components = {name: _described(name, schema) for name, schema in components.items()}
        self._by_type = dict(zip(map(repr, types), schemas, strict=True))

    def of(self, kind: Any) -> Any:
        """The schema of a type; in a schema written by hand, of every type that stands in it."""
        if isinstance(kind, dict):
            members = cast(dict[str, Any], kind)
            return {name: self.of(member) for name, member in members.items()}
        if isinstance(kind, list):
            return [self.of(member) for member in cast(list[Any], kind)]
        return kind if _is_plain(kind) else self._by_type[repr(kind)]


def _described(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what its fields are, where their types do not say it."""
    if "properties" not in schema:
        return schema
    fields = {
        field: member if "description" in member else {**member, "description": description_of(name, field)}
        for field, member in schema["properties"].items()
    }
    return {**schema, "properties": fields}


def _types_in(kind: Any) -> list[Any]:
    if isinstance(kind, dict | list):
        members = cast(dict[str, Any], kind).values() if isinstance(kind, dict) else cast(list[Any], kind)
        return [found for member in members for found in _types_in(member)]
    return [] if _is_plain(kind) else [kind]


def _is_plain(kind: Any) -> bool:
    return kind is None or isinstance(kind, str | int | float)


def _operation(
    path: str, method: str, endpoint: Endpoint, handler: BaseRouteHandler, schemas: _Schemas
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{method}_{re.sub('[^a-z0-9]+', '_', path.lower()).strip('_')}",
        "summary": endpoint.summary,
        "description": _description(endpoint, handler),
        "tags": [path.removeprefix("/v1").split("/")[1] or "service"],
        "security": [{name: []} for name in _security(endpoint)],
        "parameters": _parameters(path, method, endpoint),
        "responses": _responses(method, endpoint, schemas),
    }
    if endpoint.body is not None:
        is_optional = type(None) in _members(endpoint.body)
        content: dict[str, Any] = {"application/json": {"schema": schemas.of(endpoint.body)}}
        if method == "patch":
            content["application/merge-patch+json"] = content["application/json"]
        if endpoint.key_in_query:
            content["text/plain"] = content["application/json"]
        operation["requestBody"] = {"required": not is_optional, "content": content}
    return operation


def _security(endpoint: Endpoint) -> Sequence[str]:
    """The schemes by any of which a call is allowed."""
    if endpoint.scope is None:
        return ()
    return ("bearer", "key", "beacon") if endpoint.key_in_query else ("bearer", "key")


def _description(endpoint: Endpoint, handler: BaseRouteHandler) -> str:
    said = (handler.fn.__doc__ or endpoint.summary).strip()
    if endpoint.scope is None:
        return f"{said} Public."
    browser = " A publishable key may call it too." if endpoint.publishable else ""
    return f"{said} Scope: `{endpoint.scope}`.{browser}"


def _parameters(path: str, method: str, endpoint: Endpoint) -> list[dict[str, Any]]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS.get(name, {"type": "string"})}
        for name in re.findall(r"{(\w+)}", path)
    ]
    if endpoint.query is not None:
        (_,), components = msgspec.json.schema_components([endpoint.query], ref_template=_REF)
        schema = components[endpoint.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": name in schema["required"], "schema": member}
            for name, member in schema["properties"].items()
        ]
    if method == "patch":
        schema = {"type": "string", "pattern": '^"[0-9]{1,18}"$', "description": "The ETag last read."}
        parameters.append({"name": "If-Match", "in": "header", "required": True, "schema": schema})
    return parameters


def _responses(method: str, endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    good: dict[str, Any] = {"description": endpoint.summary}
    if endpoint.answer is not None:
        good["content"] = {endpoint.media_type: {"schema": schemas.of(endpoint.answer)}}
    else:
        good["content"] = {endpoint.media_type: {}}
    responses = {str(endpoint.status): good}
    if endpoint.etag:
        responses["304"] = {"description": "The client has it already: If-None-Match names its ETag"}
    if endpoint.status == 201 and 409 in endpoint.problems:
        responses["200"] = {**good, "description": "It was so already"}
    always = _ALWAYS if endpoint.scope is not None else (500,)
    limited = (429,) if endpoint.publishable else ()
    problem = {MEDIA_TYPE: {"schema": schemas.of(ProblemDocument)}}
    for status in sorted({*always, *limited, *endpoint.problems}):
        responses[str(status)] = {"description": _PHRASES[status], "content": problem}
    return responses


def _members(kind: Any) -> list[Any]:
    if isinstance(kind, dict):
        return []
    node = inspect.type_info(kind)
    types = node.types if isinstance(node, inspect.UnionType) else (node,)
    return [type(None) for t in types if isinstance(t, inspect.NoneType)]
