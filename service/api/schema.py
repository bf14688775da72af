"""The API's own description: the OpenAPI document, and a page to read it that needs no network."""

from __future__ import annotations

import asyncio

import msgspec
from litestar import Response

from service.api.health import STATIC
from service.api.routing import AnyRequest, call
from service.openapi import openapi_document


@call("GET", "/schema", scope=None, summary="This description, to read", media_type="text/html")
async def page(request: AnyRequest) -> Response[bytes]:
    """Serve the page; it reads `/schema/openapi.json`."""
    content = await asyncio.to_thread((STATIC / "schema.html").read_bytes)
    return Response(content, media_type="text/html")


@call("GET", "/schema/openapi.json", scope=None, summary="This description, for machines")
async def document(request: AnyRequest) -> Response[bytes]:
    """Serve the OpenAPI 3.1 document."""
    return Response(msgspec.json.encode(openapi_document(request.app)), media_type="application/json")


router = [page, document]
