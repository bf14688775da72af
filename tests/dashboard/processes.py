"""The dashboard as a process of its own, on a free port."""

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
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, "the dashboard ended by itself"
            assert time.monotonic() < deadline, "the dashboard did not start"
            try:
                if httpx.get(f"{self.url}/_stcore/health", timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
