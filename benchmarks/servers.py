"""The processes that are measured: started on a free port, driven by wrk, stopped in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks import shop
from benchmarks.databases import counts, mark_watch
from benchmarks.rounds import Sample, cpu_seconds, cpu_seconds_of_all
from benchmarks.wrk import Answers, BenchmarkFailed, Load, run

CONNECTIONS = 64
READY_S = 90.0
FOLD_S_MAX = 300.0
ROOT = Path(__file__).parents[1]


@dataclass(slots=True)
class Server:
    """A running process and what was acknowledged by it."""

    pid: int
    port: int
    database_cpu: Callable[[], float] | None = None  # of the database's own processes
    driven: list[Answers] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def measure(self, load: Load, seconds: float, *, connections: int = CONNECTIONS) -> Sample:
        """Drive it for so many seconds."""
        before, beside_before = cpu_seconds(self.pid), self._beside_cpu()
        answers = run(load, self.port, connections=connections, seconds=seconds)
        own, beside = cpu_seconds(self.pid) - before, self._beside_cpu() - beside_before
        self.driven.append(answers)
        return Sample(answers.items, answers.seconds, own, answers, beside)

    def _beside_cpu(self) -> float:
        """CPU of the processes it started, and of the database's."""
        started = cpu_seconds_of_all(self.pid) - cpu_seconds(self.pid)
        return started + (self.database_cpu() if self.database_cpu is not None else 0.0)


@dataclass(slots=True)
class Rialto(Server):
    """The service, with one store, its experiment running, and units it knows."""

    database_url: str = ""
    secret_key: str = ""
    publishable_key: str = ""
    decisions: list[str] = field(default_factory=list)
    enrolled_before: int = 0  # rows the ledger had when the process started
    by_hand: int = 0  # events accepted besides those driven

    @property
    def browser(self) -> Mapping[str, str]:
        """Headers as a browser sends them: key checked, origin checked, limiter asked."""
        return {"Authorization": f"Bearer {self.publishable_key}", "Origin": shop.ORIGIN}

    @property
    def backend(self) -> Mapping[str, str]:
        """Headers of the shop's own server."""
        return {"Authorization": f"Bearer {self.secret_key}"}

    def http(self) -> httpx.Client:
        """A client with the secret key."""
        return httpx.Client(base_url=self.url, headers=dict(self.backend), timeout=FOLD_S_MAX)

    def nothing(self, seconds: float) -> Sample:
        """The handler that does nothing, while nothing waits to be folded."""
        self.wait_until_folded()
        return self.measure(shop.nothing(self.browser), seconds)

    def wait_until_folded(self) -> float:
        """Wait until no mark waits, so that the folder takes nothing from what is measured next."""
        start = time.perf_counter()
        with mark_watch(self.database_url) as marks_wait:
            while marks_wait():
                if time.perf_counter() > start + FOLD_S_MAX:
                    raise BenchmarkFailed(f"the folder has not come through in {FOLD_S_MAX:.0f} s")
                time.sleep(0.05)
        return time.perf_counter() - start

    def check_ledger(self) -> dict[str, dict[str, int]]:
        """Rows of the ledger, and how many were acknowledged; raises when one is missing or too many.

        There may be more rows than acknowledged where an answer said that nothing is known to be done (a
        503, a fall-back), but no more than there were such answers. The page shows them.
        """
        acknowledged = {
            "assignment": self.enrolled_before
            + len(self.decisions)
            + sum(answers.enrolled for answers in self.driven),
            "event": self.by_hand + sum(answers.sums["accepted"] for answers in self.driven),
        }
        unknown = {
            "assignment": sum(answers.undecided for answers in self.driven),
            "event": sum(answers.refused * answers.per_body for answers in self.driven),
        }
        held = counts(self.database_url)
        return {
            table: compared(table, held[table], wanted, unknown[table])
            for table, wanted in acknowledged.items()
        }


def compared(table: str, held: int, acknowledged: int, unknown: int) -> dict[str, int]:
    """Both numbers. Raises BenchmarkFailed when rows are missing, or more than answers can account for.

    >>> compared("event", 3, 3, 0)
    {'acknowledged': 3, 'held': 3}
    """
    if not acknowledged <= held <= acknowledged + unknown:
        raise BenchmarkFailed(
            f"{acknowledged} of {table} acknowledged, {unknown} answered without, {held} in the ledger"
        )
    return {"acknowledged": acknowledged, "held": held}


@contextmanager
def rialto(
    folder: Path, database_url: str | None = None, *, known: int = shop.KNOWN_UNITS
) -> Generator[Rialto]:
    """The service on a new ledger with so many units enrolled."""
    keys = initialise(folder, database_url)
    with serving(folder, keys) as server:
        with server.http() as http:
            shop.set_up(http)
            server.decisions = shop.enrol(http, shop.known_units(known))
        server.wait_until_folded()
        yield server


def initialise(folder: Path, database_url: str | None = None) -> dict[str, str]:
    """Create a ledger with `rialto init`; its address and keys."""
    database_url = database_url or f"sqlite:///{folder / 'ledger.db'}"
    made = subprocess.run(
        [sys.executable, "-m", "service.entry", "init", "--database", database_url, "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if made.returncode:
        raise BenchmarkFailed(f"rialto init: {made.stderr.strip()[-300:]}")
    return json.loads(made.stdout) | {"database": database_url}


@contextmanager
def serving(folder: Path, keys: Mapping[str, str]) -> Generator[Rialto]:
    """The service on a ledger there is."""
    database_url = keys["database"]
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.server", database_url, str(port), str(folder)]
    with process(command, f"http://127.0.0.1:{port}/health/ready", folder / "server.log") as pid:
        yield Rialto(
            pid,
            port,
            database_url=database_url,
            secret_key=keys["secret_key"],
            publishable_key=keys["publishable_key"],
        )


@contextmanager
def process(
    command: Sequence[str], ready_url: str, log: Path, env: Mapping[str, str] | None = None
) -> Generator[int]:
    """A process that answers at that address, until the end; its id."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RIALTO_")}
    with log.open("w", encoding="utf-8") as output:
        started = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env={**environment, **(env or {})}
        )
        try:
            _wait_until_ready(started, ready_url, log)
            yield started.pid
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(60)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _wait_until_ready(started: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and started.poll() is None:
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise BenchmarkFailed(f"{started.args} did not become ready: {log.read_text('utf-8')[-800:]}")
