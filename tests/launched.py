"""`rialto serve` as a process of a test's own: on any ledger, its code changed before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.processes import free_port, wait_until_ready
from tests.service.conftest import ROOT, clean_environment, rialto

LAUNCH = "\nfrom service.entry import main\nmain()\n"


@dataclass(frozen=True)
class Serving:
    """A running service."""

    process: subprocess.Popen[bytes]
    url: str
    port: int
    log: Path

    def client(self, key: str, *, timeout_s: float = 20) -> httpx.Client:
        """A client with this key."""
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)


@contextmanager
def serving(
    folder: Path,
    database_url: str,
    *,
    changes: str = "",
    arguments: tuple[str, ...] = (),
    name: str = "serve",
) -> Iterator[Serving]:
    """`rialto serve` until the block ends. `changes` is code that runs in it first."""
    script = folder / f"{name}.py"
    script.write_text(changes + LAUNCH)
    port = free_port()
    log = folder / f"{name}.log"
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, str(script), "serve"),
                *("--database", database_url, "--port", str(port), *arguments),
            ],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=ROOT,
            env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, f"{url}/health/ready", log)
        yield Serving(process, url, port, log)
    finally:
        process.kill()
        process.wait()


def new_store(database_url: str, *arguments: str) -> dict[str, str]:
    """The keys of a new store; its ledger is made when there is none."""
    made = rialto("init", "--database", database_url, "--json", *arguments)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)
