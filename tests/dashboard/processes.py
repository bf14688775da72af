"""Processes of the tests, on free ports: started when they answer, stopped by their id."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def started(process: subprocess.Popen[bytes], health: str, within_s: float = 60) -> None:
    """Wait until the process answers there."""
    deadline = time.monotonic() + within_s
    while True:
        assert process.poll() is None, f"it ended by itself: {process.args}"
        assert time.monotonic() < deadline, f"it did not start: {process.args}"
        try:
            if httpx.get(health, timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


class Running:
    """The dashboard as a process of its own, ready to be asked."""

    def __init__(self, url: str, key: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        code = "from dashboard.commands import dashboard; dashboard()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "--url", url, "--port", str(port), "--headless"],
            env={**os.environ, "RIALTO_KEY": key},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started(self.process, f"{self.url}/_stcore/health")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
