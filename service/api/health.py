"""Whether the service is alive and ready, and the storefront's script."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from litestar import Response

from experiments.errors import FieldError
from service.api.routing import AnyRequest, call
from service.context import service_of
from service.problems import Problem
from service.readiness import Readiness, State
from service.wire import answer

STATIC = Path(__file__).parent.parent / "static"


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class CheckView(msgspec.Struct, frozen=True):
    """One part of the service: ok or degraded, and what to know or do about it."""

    name: str
    state: State
    detail: str


class ReadyView(msgspec.Struct, frozen=True):
    """`ready`, or `degraded` when some check is: traffic may come all the same."""

    status: str
    checks: list[CheckView]


@call("GET", "/health/live", scope=None, summary="The process answers", answer=Health)
async def live(request: AnyRequest) -> Response[bytes]:
    """Answer without touching anything."""
    return answer(Health("ok"))


@call(
    "GET",
    "/health/ready",
    scope=None,
    summary="Whether this process should get traffic, and what is not as it should be",
    answer=ReadyView,
    problems=(503,),
)
async def ready(request: AnyRequest) -> Response[bytes]:
    """Answer within a deadline, whatever hangs; 503 only when nothing could be answered rightly."""
    checks = await _readiness_of(request).checks(service_of(request))
    refused = [check for check in checks if check.state is State.REFUSED]
    if refused:
        faults = [FieldError(f"/checks/{check.name}", "refused", check.detail) for check in refused]
        detail = "; ".join(check.detail for check in refused)
        raise Problem(503, "not_ready", detail, errors=faults, headers={"Retry-After": "5"})
    status = "ready" if all(check.state is State.OK for check in checks) else "degraded"
    return answer(ReadyView(status, [CheckView(c.name, c.state, c.detail) for c in checks]))


def _readiness_of(request: AnyRequest) -> Readiness:
    """The one of this application: whoever asks while a look is under way waits for that one."""
    state = request.app.state
    if "readiness" not in state:
        state["readiness"] = Readiness()
    return state["readiness"]


@call("GET", "/rialto.js", scope=None, summary="The storefront's script", media_type="text/javascript")
async def rialto_js(request: AnyRequest) -> Response[bytes]:
    """Serve the script; browsers may keep it for five minutes."""
    content = await asyncio.to_thread((STATIC / "rialto.js").read_bytes)
    headers = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
    return Response(content, media_type="text/javascript", headers=headers)


router = [live, ready, rialto_js]
