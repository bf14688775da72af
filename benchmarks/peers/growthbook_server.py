"""GrowthBook's Python SDK evaluated inside a typed Litestar handler, run by the Python that has it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import msgspec
import uvicorn
from litestar import Litestar, get, post

FEATURES: dict[str, Any] = {
    "bench": {
        "defaultValue": "none",
        "rules": [
            {
                "key": "bench",
                "condition": {"device": {"$in": ["mobile", "desktop"]}, "cart_value": {"$gte": 1000}},
                "variations": [f"offer-{number}" for number in range(10)],
                "weights": [0.1] * 10,
                "hashAttribute": "id",
            }
        ],
    }
}


class Question(msgspec.Struct, frozen=True):
    """Who asks, and what the conditions read."""

    unit_id: str
    device: str
    cart_value: int


class Reply(msgspec.Struct, frozen=True):
    """The variation."""

    variant: str


@get("/ready")
async def ready() -> str:
    """The server answers."""
    return "ok"


def main(port: int) -> None:
    """Serve until a signal."""
    growthbook = import_module("growthbook").GrowthBook

    @post("/evaluate", status_code=200)
    async def evaluate(data: Question) -> Reply:
        attributes = {"id": data.unit_id, "device": data.device, "cart_value": data.cart_value}
        asked = growthbook(attributes=attributes, features=FEATURES)
        try:
            return Reply(asked.get_feature_value("bench", "none"))
        finally:
            asked.destroy()

    app = Litestar(route_handlers=[evaluate, ready], openapi_config=None, logging_config=None)
    uvicorn.run(app, port=port, log_config=None, access_log=False, server_header=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
