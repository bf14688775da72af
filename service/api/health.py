"""Whether the service is alive and ready, and the storefront's script."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from litestar import Response
from sqlalchemy import text

from service.api.routing import AnyRequest, call
from service.context import Service, service_of
from service.ledger.database import DatabaseUnusable
from service.problems import Problem
from service.wire import answer

STATIC = Path(__file__).parent.parent / "static"


class Health(msgspec.Struct, frozen=True):
    """All is well."""

    status: str


@call("GET", "/health/live", scope=None, summary="The process answers", answer=Health)
async def live(request: AnyRequest) -> Response[bytes]:
    """Answer without touching anything."""
    return answer(Health("ok"))


@call(
    "GET",
    "/health/ready",
    scope=None,
    summary="The ledger answers and writes are taken",
    answer=Health,
    problems=(503,),
)
async def ready(request: AnyRequest) -> Response[bytes]:
    """Read the ledger, compare its schema, look at the writer's queue."""
    service = service_of(request)
    if service.writer.waiting >= service.settings.queue_max:
        raise Problem(503, "overloaded", "the writer's queue is full", headers={"Retry-After": "1"})
    try:
        await asyncio.to_thread(_check_database, service)
    except DatabaseUnusable as error:
        raise Problem(503, "database_unavailable", str(error), headers={"Retry-After": "5"}) from error
    return answer(Health("ok"))


def _check_database(service: Service) -> None:
    service.database.require_current()
    with service.database.read() as connection:
        connection.execute(text("SELECT 1"))


@call("GET", "/rialto.js", scope=None, summary="The storefront's script", media_type="text/javascript")
async def rialto_js(request: AnyRequest) -> Response[bytes]:
    """Serve the script; browsers may keep it for five minutes."""
    content = await asyncio.to_thread((STATIC / "rialto.js").read_bytes)
    headers = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
    return Response(content, media_type="text/javascript", headers=headers)


router = [live, ready, rialto_js]
