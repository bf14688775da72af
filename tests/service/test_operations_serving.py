"""`rialto serve` as an operator sees it: draining, signals, workers, and what the log may hold."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.ledger.database import Database
from tests.processes import eventually, free_port, wait_until_ready
from tests.service.conftest import (
    ROOT,
    ServiceProcess,
    clean_environment,
    document,
    new_stores,
    rialto,
    rialto_here,
)
from tests.service.test_metrics import one, samples_of

Start = Callable[..., ServiceProcess]
DRAIN_S = 10
BUSY_S = 30.0
"""A machine busy with other things may take as long for what takes a moment."""


@dataclass
class Load:
    """Clients that assign until nobody listens any more; every other way to end is a fault."""

    url: str
    key: str
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def run(self, name: str) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=20) as client:
            for turn in range(100_000):
                unit = f"{name}-{turn}"
                try:
                    body = {"touchpoint": "checkout", "unit_id": unit}
                    answer = client.post(f"{self.url}/v1/assign", json=body)
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    self.faults.append(f"{unit}: {error!r}")
                    return
                if answer.status_code != 200:
                    self.faults.append(f"{unit}: {answer.text}")
                self.answered[unit] = answer.json()


def started(running: ServiceProcess) -> ServiceProcess:
    with running.client() as client:
        assert client.post("/v1/experiments", json=document()).status_code == 201
        assert client.post("/v1/experiments/checkout-addon/start").status_code == 200
    return running


def test_sigterm_under_load_loses_no_answer_and_no_write(start_service: Start) -> None:
    """Every request that was sent is answered, and everything answered is there after a restart."""
    running = started(start_service())
    load = Load(running.url, running.keys["secret_key"])
    clients = [threading.Thread(target=load.run, args=(f"c{n}",)) for n in range(8)]
    for client in clients:
        client.start()
    eventually(lambda: len(load.answered) >= 100, BUSY_S)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(DRAIN_S + 5) == 0
    for client in clients:
        client.join()
    assert load.faults == []
    recorded = {unit: answer for unit, answer in load.answered.items() if answer["decision_id"]}
    assert len(recorded) >= 100
    again = start_service(keys=running.keys)
    with again.client() as client:
        for unit, first in recorded.items():
            body = {"touchpoint": "checkout", "unit_id": unit}
            answer = client.post("/v1/assign", json=body).json()
            assert (answer["reason"], answer["decision_id"]) == ("sticky", first["decision_id"])


def request_on(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}") and (part := connection.recv(4096)):
        answer += part
    return answer


def test_a_request_that_comes_while_draining_is_answered_and_its_connection_closed(
    start_service: Start,
) -> None:
    running = start_service()
    port = int(running.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as kept:
        assert b"connection: close" not in request_on(kept)
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: '"draining"' in running.log.read_text(), BUSY_S)
        answer = request_on(kept)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert running.process.wait(DRAIN_S) == 0


def test_a_second_signal_ends_at_once(start_service: Start) -> None:
    """A request whose body never comes holds the first; the second does not wait for it."""
    running = start_service()
    port = int(running.url.rsplit(":", 1)[1])
    key = running.keys["secret_key"]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as open_one:
        headers = f"Host: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 50\r\n\r\n"
        open_one.sendall(f"POST /v1/assign HTTP/1.1\r\n{headers}".encode())
        assert httpx.get(f"{running.url}/health/live").status_code == 200  # by then the head is read
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: '"draining"' in running.log.read_text(), BUSY_S)
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(0.3)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(2) == 128 + signal.SIGTERM


PERSONAL = ("anna.bianchi@example.com", "cust-7731", "ord-990017", "ring-77", "4242424242", "Via Roma 12")


def test_no_personal_data_is_logged(start_service: Start) -> None:
    """At the most talkative level, with mistakes in the requests and refusals among them."""
    who, customer, order, cart, amount, place = PERSONAL
    running = started(start_service(serve=("--log-level", "debug")))
    with running.client() as client:
        assign = {"touchpoint": "checkout", "unit_id": who, "context": {"city": place}}
        decision = client.post("/v1/assign", json=assign, headers={"X-Request-Id": "req-1"}).json()
        events = [
            {"event_id": f"e-{who}", "type": "exposure", "decision_id": decision["decision_id"]},
            {
                **{"event_id": f"o-{who}", "type": "order", "unit_id": who, "order_id": order},
                **{"amount": int(amount), "currency": "EUR", "cart_id": cart},
            },
            {"event_id": f"i-{who}", "type": "identify", "unit_id": customer, "anonymous_id": who},
            {"event_id": f"r-{who}", "type": "refund", "order_id": order, "amount": int(amount)},
            {"event_id": f"b-{who}", "type": "rating", "unit_id": who, "score": place, "scale": 5},
        ]
        assert client.post("/v1/events", json={"events": events}).json()["accepted"] == 4
        client.post("/v1/events", json={**events[1], "amount": 1})
        client.post("/v1/assign", json={"touchpoint": "checkout", "unit_id": [who]})
        client.post("/v1/assign", content=b"{" + who.encode())
        client.get(f"/v1/units/{who}")
        client.get(f"/{who}?unit={customer}")
        client.get("/v1/ledger/events", params={"unit": who})
        client.delete(f"/v1/units/{who}")
        client.get("/v1/store", headers={"Authorization": f"Bearer {customer}"})
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(DRAIN_S) == 0
    log = running.log.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    mine = [line for line in lines if line.get("request_id") == "req-1"]
    assert [(m["method"], m["route"], m["status"]) for m in mine] == [("POST", "/v1/assign", 200)]
    assert {"at", "level", "logger", "message", "ms"} <= mine[0].keys()
    for text in (*PERSONAL, running.keys["secret_key"]):
        assert text not in log


def test_what_fails_inside_is_logged_without_what_it_quotes(tmp_path: Path) -> None:
    """A defect planted in a route whose exception quotes the caller: type and place are logged, no quote."""
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        "from service.api import units\n"
        "def broken(*_arguments, **_more):\n"
        "    raise KeyError('anna.bianchi@example.com')\n"
        "units.person_units = broken\n"
        "from service.entry import main\nmain()\n"
    )
    database = f"sqlite:///{tmp_path / 'shop.db'}"
    keys = json.loads(rialto_here("init", "--database", database, "--json").stdout)
    port, log = free_port(), tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(launcher), "serve", "--database", database, "--port", str(port)],
            stderr=stderr,
            cwd=ROOT,
            env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready", log)
        headers = {"Authorization": f"Bearer {keys['secret_key']}", "X-Request-Id": "broken-1"}
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/units/anna.bianchi@example.com", headers=headers)
        assert answer.status_code == 500
    finally:
        process.terminate()
        process.wait(15)
    assert "anna" not in log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (failed,) = [line for line in lines if line["message"] == "request failed"]
    assert failed["request_id"] == "broken-1"
    assert failed["errors"][0]["type"] == "builtins.KeyError"
    assert failed["errors"][0]["trace"][-1].endswith("broken")


def test_hot_requests_that_end_well_are_logged_at_debug_only(start_service: Start) -> None:
    running = started(start_service())
    with running.client() as client:
        for body in ({"touchpoint": "checkout", "unit_id": "u"}, {"touchpoint": "checkout"}, {"wrong": 1}):
            client.post("/v1/assign", json=body)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(DRAIN_S) == 0
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert [line["status"] for line in lines if line.get("route") == "/v1/assign"] == [400]


def test_several_workers_on_sqlite_are_refused_with_the_remedy(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'shop.db'}"
    assert rialto_here("init", "--database", database).returncode == 0
    done = rialto("serve", "--database", database, "--workers", "2", "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--workers 2 needs PostgreSQL" in done.stderr


@dataclass
class Workers:
    """A supervisor of two workers on PostgreSQL."""

    process: subprocess.Popen[bytes]
    url: str
    key: str
    log: Path

    @property
    def pids(self) -> list[int]:
        """The workers that run, by their number."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]
        begun = {line["worker"]: line["pid"] for line in lines if line["message"] == "worker started"}
        return [begun[number] for number in sorted(begun)]


@pytest.fixture
def workers(postgres_url: str, tmp_path: Path) -> Generator[Workers]:
    database = Database(postgres_url)
    keys, _ = new_stores(database, is_simulated=False)
    database.close()
    port, log = free_port(), tmp_path / "serve.log"
    where = ("--database", postgres_url, "--port", str(port), "--state-dir", str(tmp_path))
    command = ["serve", "--workers", "2", *where]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.entry", *command],
            stderr=stderr,
            cwd=ROOT,
            env=clean_environment(),
        )
    running = Workers(process, f"http://127.0.0.1:{port}", keys.secret_key, log)
    try:
        wait_until_ready(process, f"{running.url}/health/ready", log)
        yield running
    finally:
        if process.poll() is None:
            process.kill()  # its workers notice, and end
        process.wait()


def live_workers(running: Workers) -> set[str]:
    """The workers that publish, whoever is asked."""
    samples = samples_of(httpx.get(f"{running.url}/metrics", timeout=20).text)
    shown = [dict(labels) for name, labels in samples if name == "process_resident_memory_bytes"]
    return {labels["worker"] for labels in shown}


def live_requests(running: Workers) -> float:
    samples = samples_of(httpx.get(f"{running.url}/metrics", timeout=20).text)
    return one(samples, "rialto_requests_total", method="GET", route="/health/live", status="200")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_workers_share_the_port_and_any_of_them_answers_for_all(workers: Workers) -> None:
    eventually(lambda: live_workers(workers) == {"0", "1"}, BUSY_S)
    assert httpx.get(f"{workers.url}/health/live").status_code == 200
    before = live_requests(workers)
    for _ in range(30):  # a connection each, so that both workers get some
        assert httpx.get(f"{workers.url}/health/live").status_code == 200
    totals = [live_requests(workers) for _ in range(5)]
    assert totals == [before + 30] * 5


def test_a_worker_that_dies_is_replaced_and_takes_nobody_down(workers: Workers) -> None:
    eventually(lambda: live_workers(workers) == {"0", "1"}, BUSY_S)
    assert httpx.get(f"{workers.url}/health/live").status_code == 200
    count = live_requests(workers)
    first, second = workers.pids
    os.kill(first, signal.SIGKILL)
    eventually(lambda: is_gone(first), BUSY_S)
    for _ in range(10):
        assert httpx.get(f"{workers.url}/health/live", timeout=20).status_code == 200
    eventually(lambda: workers.pids[0] != first and live_workers(workers) == {"0", "1"}, BUSY_S)
    assert workers.pids[1] == second
    after = live_requests(workers)
    assert after >= count + 10  # what the dead one had counted is counted


def test_sigterm_drains_all_workers(workers: Workers) -> None:
    load = Load(workers.url, "pk_nobody")
    eventually(lambda: live_workers(workers) == {"0", "1"}, BUSY_S)
    clients = [threading.Thread(target=ask_live, args=(workers.url, load)) for _ in range(6)]
    for client in clients:
        client.start()
    eventually(lambda: len(load.answered) > 100, BUSY_S)
    pids = workers.pids
    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(DRAIN_S + 5) == 0
    for client in clients:
        client.join()
    assert load.faults == []
    assert all(is_gone(pid) for pid in pids)
    assert workers.log.read_text().count('"drained"') == 2


def test_a_second_signal_kills_the_workers(workers: Workers) -> None:
    """A request whose body never comes holds its worker; the supervisor does not wait for it any longer."""
    eventually(lambda: live_workers(workers) == {"0", "1"}, BUSY_S)
    pids = workers.pids
    with socket.create_connection(("127.0.0.1", int(workers.url.rsplit(":", 1)[1])), timeout=20) as held:
        headers = f"Host: x\r\nAuthorization: Bearer {workers.key}\r\nContent-Length: 50\r\n\r\n"
        held.sendall(f"POST /v1/assign HTTP/1.1\r\n{headers}".encode())
        workers.process.send_signal(signal.SIGTERM)
        eventually(lambda: '"draining"' in workers.log.read_text(), BUSY_S)
        workers.process.send_signal(signal.SIGTERM)
        assert workers.process.wait(5) == 1
    assert all(is_gone(pid) for pid in pids)


def ask_live(url: str, load: Load) -> None:
    with httpx.Client(timeout=20) as client:
        while True:
            try:
                answer = client.get(f"{url}/health/live")
            except httpx.ConnectError:
                return
            except httpx.TransportError as error:
                load.faults.append(repr(error))
                return
            load.answered[f"{time.monotonic_ns()}"] = answer.json()


def test_workers_end_when_their_supervisor_is_killed(workers: Workers) -> None:
    eventually(lambda: live_workers(workers) == {"0", "1"}, BUSY_S)
    pids = workers.pids
    workers.process.kill()
    workers.process.wait()
    eventually(lambda: all(is_gone(pid) for pid in pids), BUSY_S)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{workers.url}/health/live")
