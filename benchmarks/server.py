"""The service, and beside it in the same process a typed Litestar handler that does nothing.

`/nothing` goes to a Litestar application of its own, without guard, counters or ledger: it costs what the
framework and the HTTP server cost, so a ratio to it says what Rialto's own work costs, on any machine.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import uvicorn
from litestar import Litestar, post

from service.app import create_app
from service.ledger.database import Database
from service.settings import Settings


class Question(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What an assign asks, in shape."""

    touchpoint: str
    unit_id: str


class Reply(msgspec.Struct, frozen=True):
    """An answer of a few fields."""

    decision_id: str
    variant: str
    propensity: float


@post("/nothing", status_code=200)
async def nothing(data: Question) -> Reply:
    """Read the question, answer the same to everyone."""
    return Reply(data.unit_id, "none", 1.0)


def main(database_url: str, port: int) -> None:
    """Serve both on one port until a signal."""
    database = Database(database_url)
    database.require_current()
    database.lock_for_serving()
    service = create_app(Settings(database_url=database_url), database)
    empty = Litestar(route_handlers=[nothing], openapi_config=None, logging_config=None)

    async def both(scope: Any, receive: Any, send: Any) -> None:
        is_nothing = scope["type"] == "http" and scope["path"] == "/nothing"
        await (empty if is_nothing else service)(scope, receive, send)

    # The same settings of uvicorn as `rialto serve`.
    uvicorn.run(both, port=port, log_config=None, access_log=False, lifespan="on", server_header=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
