"""fast-feature's OFREP server with one flag of ten variants, run by the Python that has it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import uvicorn

VARIANTS = [f"offer-{number}" for number in range(10)]
TARGETING: dict[str, Any] = {
    "if": [
        {"in": [{"var": "device"}, ["mobile", "desktop"]]},
        {"fractional": [[name, 10] for name in VARIANTS]},
        VARIANTS[0],
    ]
}


def main(port: int) -> None:
    """Serve until a signal."""
    core, storage = import_module("fast_feature.core"), import_module("fast_feature.storage.inmemory")
    flag = core.Flag(
        key="bench",
        variants={name: name for name in VARIANTS},
        default_variant=VARIANTS[0],
        targeting=TARGETING,
    )
    router = import_module("fast_feature.ofrep").OfrepRouter.build(storage.InMemoryFlagRepository([flag]))
    app = import_module("fastapi").FastAPI()
    app.include_router(router)
    uvicorn.run(app, port=port, log_config=None, access_log=False, server_header=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
