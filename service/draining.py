"""An end in order: whoever has sent a request gets its answer, and the process is gone in time."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

import uvicorn

LINGER_S = 0.5
"""How long open connections may still bring a request: one that was under way when the end was asked for."""
_REQUESTS_SHARE = 0.7
_GLANCE_S = 0.02
_CLOSE = (b"connection", b"close")

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Uvicorn with a gentler end.

    Uvicorn closes idle connections the moment it is told to stop; a request that is on its way on one of
    them, or on a connection the kernel has accepted and nobody has taken yet, would be reset. Here such
    requests are answered, with `Connection: close`, and only then idle connections are closed.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float, *, is_supervised: bool) -> None:
        config.timeout_graceful_shutdown = max(1, int(drain_s * _REQUESTS_SHARE))
        super().__init__(config)
        self._drain_s = drain_s
        self._is_supervised = is_supervised

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end at the first signal; end at once at the second, unless a supervisor decides that."""
        if self.should_exit and not self._is_supervised:
            os._exit(128 + sig)  # what was acknowledged is on disk
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what has begun or is on its way, then let the service stop."""
        started = time.perf_counter()
        log.info("draining", extra={"fields": {"connections": len(self.server_state.connections)}})
        limit = threading.Timer(self._drain_s, _give_up, [self._drain_s])
        limit.daemon = True  # not cancelled: what hangs after the last answer is cut off too
        limit.start()
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        await self._take_the_last(sockets or [])
        for server in self.servers:
            server.close()
        until = time.monotonic() + LINGER_S
        while self._last_answers() and time.monotonic() < until:
            await asyncio.sleep(_GLANCE_S)
        await super().shutdown(sockets)
        log.info("drained", extra={"fields": {"ms": round(1000 * (time.perf_counter() - started))}})

    async def _take_the_last(self, listeners: list[socket.socket]) -> None:
        """Accept every connection there is; closing a listener resets those that still wait in it."""
        for listener in listeners:
            let_nobody_connect(listener)
        until = time.monotonic() + LINGER_S
        await asyncio.sleep(_GLANCE_S)
        while listeners and time.monotonic() < until and select.select(listeners, [], [], 0)[0]:
            await asyncio.sleep(_GLANCE_S)

    def _last_answers(self) -> bool:
        """Let every answer now in the making be its connection's last; whether connections are open."""
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                connection.shutdown()
        return bool(self.server_state.connections)


def let_nobody_connect(listener: socket.socket) -> None:
    """Drop what asks for a connection from here on, whichever process shares the socket.

    Who asks now is refused when the socket is closed, a moment later, instead of being accepted by the
    kernel and reset with its request. Where the system cannot do it, that moment stays as it was.
    """
    if sys.platform == "linux":
        drop = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
        program = struct.pack("HL", 1, ctypes.addressof(drop))
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


_BPF_RETURN = 0x06
_SO_ATTACH_FILTER = 26


def _give_up(drain_s: float) -> None:
    log.error("not drained within %g s: ending; what was acknowledged is on disk", drain_s)
    os._exit(1)


def exit_in_order(_number: int, _frame: FrameType | None) -> None:
    """The signal's handler while there is nothing to drain yet."""
    raise SystemExit(0)


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
