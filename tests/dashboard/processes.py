"""The dashboard and a store as processes, on free ports: started when they answer, stopped by their id."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.processes import free_port, wait_until_ready

RIALTO = [sys.executable, "-m", "service.entry"]
SCOPES = "assign,events,read,write,admin,import"


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
        wait_until_ready(self.process, f"{self.url}/_stcore/health")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


@dataclass(frozen=True)
class Store:
    """A served store whose clock is set over the API."""

    url: str
    secret_key: str
    http: httpx.Client


@contextmanager
def served(folder: Path) -> Iterator[Store]:
    """A new simulated store in that folder, served until it is left."""
    database = f"sqlite:///{folder / 'rialto.db'}"
    made = subprocess.run(
        [*RIALTO, "init", "--database", database, "--simulated", "--scopes", SCOPES, "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    key = json.loads(made.stdout)["secret_key"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = [*RIALTO, "serve", "--database", database, "--port", str(port), "--clock", "external"]
    process = subprocess.Popen(
        serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
    )
    try:
        wait_until_ready(process, f"{url}/health/ready")
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            yield Store(url, key, http)
    finally:
        process.terminate()
        process.wait(30)
