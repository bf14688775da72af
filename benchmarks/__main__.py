"""`make bench`: what the service does per second here, as ratios to doing nothing, in under two minutes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.client import Call, drive
from benchmarks.page import Figures, write_page

ROUNDS = 5
SECONDS = 1.0
CONNECTIONS = 32
BATCH = 1000
EVENTS = 100
REPORT_UNITS = (10_000, 100_000)
EXPERIMENT = {
    "key": "bench",
    "touchpoint": "checkout",
    "attribution_window": "1d",
    "policy": {"kind": "fixed"},
    "variants": [
        {"key": "none", "is_control": True, "offer": {"kind": "none"}},
        {"key": "socks", "offer": {"kind": "cross_sell", "sku": "SOCK-3", "price": 1290, "cost": 410}},
        {"key": "kit", "offer": {"kind": "bundle", "sku": "KIT-1", "price": 2490, "cost": 1990}},
    ],
}


def main() -> None:
    """Start a service on a temporary ledger, measure it, write benchmarks/README.md."""
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder)) as (port, key):
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120) as http:
            for document in (EXPERIMENT, EXPERIMENT | {"key": "reported", "touchpoint": "report"}):
                http.post("/v1/experiments", json=document).raise_for_status()
                http.post(f"/v1/experiments/{document['key']}/start").raise_for_status()
            reports_ms = _reports(http)
            rates = _rates(port, key)
            busy_ms = _one_caller(port, key, "busy")  # the rounds before have left the folder a backlog
            http.get("/v1/store/summary").raise_for_status()  # folds it
            figures = Figures(rates, _one_caller(port, key, "alone"), busy_ms, reports_ms)
    sys.stdout.write(write_page(Path(__file__).with_name("README.md"), figures))


def _rates(port: int, key: str) -> dict[str, list[float]]:
    """Each call for a second in turn, five times over: neighbours in time share the machine's mood."""
    asks = itertools.count()
    rounds: dict[str, list[float]] = {}
    calls: dict[str, tuple[Call, int]] = {
        "nothing": (Call("/nothing", _asks(asks)), 1),
        "assign": (Call("/v1/assign", _asks(asks)), 1),
        "sticky": (Call("/v1/assign", _asks(iter(lambda: 0, 1))), 1),
        "batch": (Call("/v1/assign/batch", _batches(asks, "checkout")), BATCH),
        "events": (Call("/v1/events", _orders("unit")), EVENTS),
    }
    for _ in range(ROUNDS):
        for name, (call, per_request) in calls.items():
            connections = CONNECTIONS if per_request == 1 else 2
            done = asyncio.run(drive(port, key, call, connections=connections, seconds=SECONDS))
            rounds.setdefault(name, []).append(done.per_second * per_request)
    return rounds


def _one_caller(port: int, key: str, name: str) -> float:
    """Milliseconds from question to durable answer, one at a time: the median of five rounds' means."""
    call = Call(
        "/v1/assign", ({"touchpoint": "checkout", "unit_id": f"{name}-{n}"} for n in itertools.count())
    )
    rounds = [asyncio.run(drive(port, key, call, connections=1, seconds=SECONDS / 2)) for _ in range(ROUNDS)]
    return 1000 * sorted(done.seconds / done.requests for done in rounds)[ROUNDS // 2]


def _reports(http: httpx.Client) -> dict[int, float]:
    """Milliseconds of a report by units enrolled, everything folded: the median of five."""
    numbers = itertools.count()
    batches = _batches(numbers, "report")
    orders = _orders("report")
    milliseconds: dict[int, float] = {}
    for units in REPORT_UNITS:
        for _ in range(max(milliseconds, default=0), units, BATCH):
            http.post("/v1/assign/batch", json=next(batches)).raise_for_status()
            http.post("/v1/events", json=next(orders)).raise_for_status()
        report = http.get("/v1/experiments/reported/report").raise_for_status().json()
        if report["units_assigned"] != units:
            raise SystemExit(f"error: {report['units_assigned']} units reported, {units} enrolled")
        times: list[float] = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            http.get("/v1/experiments/reported/report").raise_for_status()
            times.append(time.perf_counter() - start)
        milliseconds[units] = 1000 * sorted(times)[ROUNDS // 2]
    return milliseconds


def _asks(numbers: Iterator[int]) -> Iterator[object]:
    return ({"touchpoint": "checkout", "unit_id": f"unit-{number}"} for number in numbers)


def _batches(numbers: Iterator[int], touchpoint: str) -> Iterator[object]:
    while True:
        units = itertools.islice(numbers, BATCH)
        yield {"requests": [{"touchpoint": touchpoint, "unit_id": f"{touchpoint}-{n}"} for n in units]}


def _orders(units: str) -> Iterator[object]:
    """Bodies of a hundred orders each, from the first 5,000 units of that name in turn."""
    numbers = itertools.count()
    while True:
        yield {
            "events": [
                {
                    "event_id": f"{units}-{number}",
                    "type": "order",
                    "unit_id": f"{units}-{number % 5000}",
                    "order_id": f"{units}-{number}",
                    "amount": 8900 + number % 1000,
                    "cost": 4000,
                    "currency": "EUR",
                }
                for number in itertools.islice(numbers, EVENTS)
            ]
        }


@contextmanager
def _service(folder: Path) -> Generator[tuple[int, str]]:
    """The service on a fresh ledger: its port and a secret key."""
    database = f"sqlite:///{folder / 'bench.db'}"
    made = subprocess.run(
        [sys.executable, "-m", "service.entry", "init", "--database", database, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server", database, str(port)])
    try:
        _wait_until_ready(process, port)
        yield port, json.loads(made.stdout)["secret_key"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("error: the service did not start")


if __name__ == "__main__":
    os.environ.pop("RIALTO_DATABASE", None)
    main()
