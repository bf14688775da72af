"""The service, and beside it in the same process a typed Litestar handler that does nothing.

`/nothing` goes to a Litestar application of its own, without guard, counters or ledger: it costs what the
framework and the HTTP server cost, so a ratio to it says what Rialto's own work costs, on any machine.
`/naive` is there too, for contrast, and `/drain`, which is never answered.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import msgspec
from litestar import Litestar, post
from sqlalchemy import Engine

from benchmarks.naive import assign_naively, naive_engine
from service.serving import application_of, serve_on
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


def main(database_url: str, port: int, folder: str) -> None:
    """Serve all on one port until a signal, as `rialto serve` serves."""
    # Limits are on, with bounds no benchmark reaches: each request still pays for being counted.
    settings = Settings(
        database_url=database_url,
        fold_in_process=True,
        publishable_rate_per_s=1_000_000,
        publishable_burst=1_000_000,
        state_dir=folder,
    )
    naive = _naive(naive_engine(f"{folder}/naive.db"))
    address = ("127.0.0.1", port)
    empty = Litestar(route_handlers=[nothing, naive], openapi_config=None, logging_config=None)
    with application_of(settings) as (service, shortcut), socket.create_server(address) as listener:

        async def all_of_them(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"] in ("/nothing", "/naive"):
                await empty(scope, receive, send)
            elif scope["type"] == "http" and scope["path"] == "/drain":
                while (await receive())["type"] != "http.disconnect":
                    pass
            else:
                await service(scope, receive, send)

        serve_on(settings, all_of_them, shortcut, listener)


def _naive(engine: Engine) -> Any:
    @post("/naive", status_code=200, sync_to_thread=True)
    def naive(data: Question) -> Reply:
        return Reply(data.unit_id, str(assign_naively(engine, data.unit_id)), 0.1)

    return naive


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
