"""kill -9 under load: what was acknowledged is there afterwards, unchanged, and the sums are exact.

The writer's COMMIT is held open so that the kill falls between an answer and its commit wherever the code
would let it. A service that answers before COMMIT is the control: the same test must catch it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.processes import free_port, wait_until_ready
from tests.service.conftest import ROOT, clean_environment, document, rialto

HELD = """
import time
from sqlalchemy import event
from service.ledger.writer import Writer

commit = Writer._commit

def held(self, connection, batch):
    def hold(_connection):
        time.sleep(0.03)
    event.listen(connection.engine, "commit", hold)
    try:
        commit(self, connection, batch)
    finally:
        event.remove(connection.engine, "commit", hold)

Writer._commit = held
"""
HASTY = """
import time
from service.ledger import writer

def hasty(self, connection, batch):
    with connection.begin():
        for job in batch:
            result, error = writer._in_savepoint(connection, job)
            job.done.set_exception(error) if error else job.done.set_result(result)
        time.sleep(0.15)

writer.Writer._commit = hasty
"""
LAUNCH = "\nfrom service.entry import main\nmain()\n"
THREADS = 3


@dataclass
class Acknowledged:
    """Every answer that said that something was recorded."""

    assigned: dict[str, tuple[str, str]] = field(default_factory=dict)  # unit -> decision_id, variant
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)


@contextmanager
def serving(folder: Path, launcher: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`rialto serve` on the ledger of the folder, the launcher's changes made to it first."""
    script = folder / "launcher.py"
    script.write_text(launcher + LAUNCH)
    port = free_port()
    log = folder / "serve.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(script), "serve", "--database", database(folder), "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=ROOT,
            env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, f"{url}/health/ready", log)
        yield process, url
    finally:
        process.kill()
        process.wait()


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'killed.db'}"


def client_of(url: str, keys: dict[str, str]) -> httpx.Client:
    return httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {keys['secret_key']}"}, timeout=20, trust_env=False
    )


def load(url: str, keys: dict[str, str], name: str, acknowledged: Acknowledged) -> None:
    """Assign and order until the service is gone."""
    with client_of(url, keys) as client:
        for turn in range(100_000):
            units = [f"{name}-{turn}-{i}" for i in range(10)]
            try:
                requests = [{"touchpoint": "checkout", "unit_id": unit} for unit in units]
                answer = client.post("/v1/assign/batch", json={"requests": requests})
                for unit, made in zip(units, answer.json()["decisions"], strict=True):
                    if made["decision_id"] is None:
                        acknowledged.unexpected.append(made["reason"])
                    acknowledged.assigned[unit] = (made["decision_id"], made["variant"])
                events = [order_of(unit) for unit in units]
                answer = client.post("/v1/events", json={"events": events})
                if answer.json()["accepted"] != len(events):
                    acknowledged.unexpected.append(answer.text)
                acknowledged.events |= {event["event_id"]: event for event in events}
            except httpx.TransportError:
                return


def order_of(unit: str) -> dict[str, Any]:
    return {
        **{"event_id": f"order {unit}", "type": "order", "unit_id": unit, "order_id": f"o {unit}"},
        **{"amount": 100 + len(unit), "currency": "EUR", "cost": 40},
    }


def run_and_kill(folder: Path, launcher: str, keys: dict[str, str], name: str) -> Acknowledged:
    acknowledged = Acknowledged()
    with serving(folder, launcher) as (process, url):
        threads = [
            threading.Thread(target=load, args=(url, keys, f"{name}{i}", acknowledged))
            for i in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 20
        while len(acknowledged.events) < 150 and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()  # SIGKILL: nothing of the process runs on
        for thread in threads:
            thread.join()
    assert acknowledged.unexpected == []
    assert len(acknowledged.events) >= 150
    return acknowledged


def missing_after_restart(folder: Path, keys: dict[str, str], acknowledged: Acknowledged) -> list[str]:
    """Acknowledged assignments and events that the restarted service does not know, or knows otherwise."""
    lost: list[str] = []
    with serving(folder, "") as (_, url), client_of(url, keys) as client:
        units = list(acknowledged.assigned)
        for start in range(0, len(units), 500):
            part = units[start : start + 500]
            requests = [{"touchpoint": "checkout", "unit_id": unit} for unit in part]
            answer = client.post("/v1/assign/batch", json={"requests": requests}).json()
            for unit, made in zip(part, answer["decisions"], strict=True):
                is_same = (made["decision_id"], made["variant"]) == acknowledged.assigned[unit]
                if not is_same or made["reason"] != "sticky":
                    lost.append(unit)
        events = list(acknowledged.events.values())
        for start in range(0, len(events), 500):
            part_of_events = events[start : start + 500]
            told = client.post("/v1/events", json={"events": part_of_events}).json()
            lost += ["an event"] * (len(part_of_events) - told["duplicates"])
        summary = client.get("/v1/store/summary").json()
        assert summary["orders"] >= len(events)
        report = client.get("/v1/experiments/checkout-addon/report").json()
        assert report["units_assigned"] >= len(units)
    return lost


def new_ledger(folder: Path) -> dict[str, str]:
    """A ledger with a running experiment; its keys."""
    made = rialto("init", "--database", database(folder), "--json")
    assert made.returncode == 0, made.stderr
    keys = json.loads(made.stdout)
    with serving(folder, "") as (_, url), client_of(url, keys) as client:
        assert client.post("/v1/experiments", json=document()).status_code == 201
        assert client.post("/v1/experiments/checkout-addon/start").status_code == 200
    return keys


def test_nothing_acknowledged_is_lost_and_the_sums_are_exact(tmp_path: Path) -> None:
    keys = new_ledger(tmp_path)
    for turn in ("first", "second"):
        acknowledged = run_and_kill(tmp_path, HELD, keys, turn)
        assert missing_after_restart(tmp_path, keys, acknowledged) == []
        verified = rialto("verify", "--database", database(tmp_path), "--json")
        assert verified.returncode == 0, verified.stdout
        assert json.loads(verified.stdout)["exact"]


def test_a_service_that_answers_before_it_commits_is_caught(tmp_path: Path) -> None:
    keys = new_ledger(tmp_path)
    acknowledged = run_and_kill(tmp_path, HASTY, keys, "hasty")
    assert missing_after_restart(tmp_path, keys, acknowledged) != []
