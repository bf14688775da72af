"""Processes that tests start: a port for them, and waiting until they answer or until something holds."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

READY_S = 120.0
"""A machine busy with other things may take long to start a service."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_until_ready(process: subprocess.Popen[Any], url: str, log: Path | None = None) -> None:
    """Wait until the process answers well at that address; quote its log when it does not."""

    def said() -> str:
        return f"{process.args}: {log.read_text('utf-8')[-2000:] if log else ''}"

    until = time.monotonic() + READY_S
    while True:
        assert process.poll() is None, f"it ended by itself: {said()}"
        assert time.monotonic() < until, f"it did not become ready: {said()}"
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until the condition holds."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.02)
