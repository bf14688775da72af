"""Starting and ending an ASGI application from within another, as a server does."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar.types import ASGIApp


class Lifespan:
    """The life of one application; it starts and ends in one task, as its resources may demand."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_asked = False

    async def start(self) -> None:
        """Start it. Raises what its start raised."""
        self._task = asyncio.create_task(self._live())
        await self._started

    async def stop(self) -> None:
        """End it in order. Raises what its end raised."""
        assert self._task is not None, "not started"
        self._stopping.set()
        await self._task

    async def _live(self) -> None:
        scope: Any = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _receive(self) -> Any:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        if self._started.done():
            return
        if message["type"] == "lifespan.startup.complete":
            self._started.set_result(None)
        elif message["type"] == "lifespan.startup.failed":
            self._started.set_exception(RuntimeError(message.get("message") or "the start failed"))
