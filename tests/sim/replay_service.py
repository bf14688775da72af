"""A real service on a free port, that can be killed and started again on the same ledger."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.processes import free_port, wait_until_ready

ENTRY = (sys.executable, "-m", "service.entry")


class RealService:
    """`rialto serve` over a fresh simulated store."""

    def __init__(self, folder: Path, *, currency: str) -> None:
        self.database = f"sqlite:///{folder / 'rialto.db'}"
        scopes = "assign,events,read,write,admin,import"
        made = rialto(
            *("init", "--database", self.database, "--simulated", "--currency", currency),
            *("--scopes", scopes, "--json"),
        )
        assert made.returncode == 0, made.stderr
        self.key: str = json.loads(made.stdout)["secret_key"]
        self._log = folder / "service.log"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.kills = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._restarter: threading.Timer | None = None
        self.start()

    def start(self) -> None:
        """Serve, and return when it answers."""
        arguments = ("serve", "--database", self.database, "--port", str(self._port), "--clock", "external")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*ENTRY, *arguments], stdout=log, stderr=log)
        wait_until_ready(self._process, f"{self.url}/health/ready", self._log)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.kills += 1

    def stop(self) -> None:
        """End it politely, once a restart under way is through."""
        self._join()
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    def verify(self) -> subprocess.CompletedProcess[str]:
        """`rialto verify` of its ledger."""
        return rialto("verify", "--database", self.database)

    def get(self, path: str) -> dict[str, Any]:
        """The JSON of a GET."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=30.0).raise_for_status().json()

    def killed_at(self, *points: float) -> Callable[[str, int], Callable[[int], None]]:
        """A progress listener: when those shares of the work are done, a thread kills and restarts.

        The replay goes on meanwhile, so the kill falls into whatever request is under way.
        """
        left = sorted(points)

        def begin(task: str, total: int) -> Callable[[int], None]:
            done = 0

            def tick(count: int) -> None:
                nonlocal done
                done += count
                if left and done >= left[0] * total:
                    left.pop(0)
                    self._join()
                    self._restarter = threading.Timer(0.02, self._restart)
                    self._restarter.start()

            return tick

        return begin

    def _restart(self) -> None:
        self.kill()
        self.start()

    def _join(self) -> None:
        if self._restarter is not None:
            self._restarter.join()


def rialto(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run([*ENTRY, *arguments], capture_output=True, text=True, timeout=250, check=False)
