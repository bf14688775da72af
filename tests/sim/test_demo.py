"""The demo: its traffic keeps time, its errors name the option, and nothing outlives it."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from sim.demo_command import demo
from sim.demo_processes import Child, DemoFailed, check_ports, free_port, stop_all
from sim.demo_report import print_report, shares_line
from sim.demo_run import load_document
from sim.demo_signals import Stop
from sim.shop.api import Api, Json, ServiceRefused
from sim.shop.traffic import HOURLY, Traffic
from sim.shop.truth import truth
from sim.shop.world import shop_of
from tests.processes import eventually

START = datetime(2026, 3, 2, tzinfo=UTC)
DOCUMENT = load_document()


class RecordingApi(Api):
    """A service that gives one variant to everybody and remembers what it was told."""

    def __init__(self, variant: str, offer_kind: str) -> None:
        super().__init__("http://127.0.0.1:9", "sk_test")
        self.now = START
        self.requests: list[Json] = []
        self.events: list[tuple[datetime, Json]] = []
        self._answer: Json = {"variant": variant, "offer": {"kind": offer_kind}}

    def assign(self, requests: Sequence[Json]) -> list[Json]:
        self.requests += requests
        return [{**self._answer, "decision_id": f"d-{request['unit_id']}"} for request in requests]

    def set_clock(self, now: datetime) -> Json:
        assert now > self.now
        self.now = now
        return {"now": now.isoformat(), "steps": 1}

    def record(self, events: Sequence[Json]) -> int:
        self.events += [(self.now, event) for event in events]
        return len(events)


def traffic_of(api: Api, *, step: timedelta = timedelta(hours=1), per_day: float = 400) -> Traffic:
    rng = np.random.default_rng(5)
    return Traffic(api, shop_of(DOCUMENT), DOCUMENT, start=START, step=step, per_day=per_day, rng=rng)


def test_every_event_is_sent_in_the_step_in_which_it_happened() -> None:
    with RecordingApi("pro-shoe", "upsell") as api:
        traffic = traffic_of(api)
        for _ in range(24 * 9):
            traffic.step()
        lags = [now - datetime.fromisoformat(event["occurred_at"]) for now, event in api.events]
        assert min(lags) >= timedelta(0)
        assert max(lags) <= timedelta(hours=1)
        assert {event["type"] for _, event in api.events} >= {"order", "refund", "accept", "abandonment"}
        ids = [event["event_id"] for _, event in api.events]
        assert len(set(ids)) == len(ids)
        assert len({request["unit_id"] for request in api.requests}) == len(api.requests)


@pytest.mark.parametrize("hours", [1, 4, 24])
def test_a_day_brings_the_visitors_it_should_whatever_the_step(hours: int) -> None:
    """Poisson(2,000 a day) over 5 days: 10,000, standard deviation 100."""
    with RecordingApi("none", "none") as api:
        traffic = traffic_of(api, step=timedelta(hours=hours), per_day=2000)
        visitors = sum(traffic.step().shoppers for _ in range(5 * 24 // hours))
        assert abs(visitors - 10_000) < 500
        assert visitors == len(api.requests)


def test_evenings_are_busier_than_nights() -> None:
    with RecordingApi("none", "none") as api:
        traffic = traffic_of(api, per_day=20_000)
        by_hour = [traffic.step().shoppers for _ in range(24)]
        expected = 20_000 * HOURLY / HOURLY.sum()
        assert np.all(np.abs(np.array(by_hour) - expected) < 5 * np.sqrt(expected))


def test_shoppers_who_are_shown_nothing_behave_like_control() -> None:
    with RecordingApi("pro-shoe", "none") as api:
        traffic = traffic_of(api)
        for _ in range(48):
            traffic.step()
        kinds = {event["type"] for _, event in api.events}
        assert "exposure" in kinds
        assert not kinds & {"accept", "decline"}


def test_a_rejected_event_stops_the_demo_and_says_which(answering: "Answering") -> None:
    answering.body = b'{"accepted": 1, "rejected": [{"index": 1, "problem": {"detail": "no such order"}}]}'
    with Api(answering.url, "sk_x") as api, pytest.raises(ServiceRefused, match=r"event e-2 .*no such order"):
        api.record([{"event_id": "e-1"}, {"event_id": "e-2"}])


def test_a_problem_document_becomes_one_line_with_its_fields(answering: "Answering") -> None:
    answering.status = 400
    answering.body = (
        b'{"title": "Bad", "detail": "Refused.", "errors": [{"pointer": "/a", "remedy": "drop it"}]}'
    )
    with Api(answering.url, "sk_x") as api, pytest.raises(ServiceRefused) as refused:
        api.post("/v1/experiments", {})
    assert str(refused.value) == "POST /v1/experiments: 400 /a: drop it"
    answering.body = b'{"title": "Bad", "detail": "Refused."}'
    with Api(answering.url, "sk_x") as api, pytest.raises(ServiceRefused, match=r"400 Refused\.$"):
        api.post("/v1/experiments", {})


def test_a_service_that_is_away_is_one_line() -> None:
    with Api(f"http://127.0.0.1:{free_port()}", "sk_x") as api, pytest.raises(ServiceRefused) as refused:
        api.get("/v1/store")
    assert "\n" not in str(refused.value)
    assert "/v1/store" in str(refused.value)


def test_a_port_in_use_names_its_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--port", "--dashboard-port", "--shop-port"):
            others = {"--port": free_port(), "--dashboard-port": free_port(), "--shop-port": free_port()}
            chosen = {**others, option: port}
            result = CliRunner().invoke(demo, [word for o, p in chosen.items() for word in (o, str(p))])
            assert result.exit_code == 1
            assert result.stderr == f"error: port {port} is in use: choose another with {option}\n"


def test_one_port_for_two_servers_is_refused() -> None:
    port = free_port()
    with pytest.raises(DemoFailed, match=f"--port and --shop-port are both {port}"):
        check_ports({"--port": port, "--shop-port": port})


def test_a_directory_that_holds_a_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rialto.db").write_text("precious")
    result = CliRunner().invoke(demo, ["--once", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "give --data an empty directory" in result.stderr
    assert (tmp_path / "rialto.db").read_text() == "precious"


def test_stopping_a_child_leaves_no_grandchild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    script = (
        "import subprocess, sys, time, pathlib\n"
        "made = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(made.pid))\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr("sim.demo_processes.rialto", lambda *words: [sys.executable, "-c", script])
    child = Child("service", [], tmp_path, {})
    eventually(lambda: pid_file.exists() and pid_file.read_text() != "")
    stop_all([child])
    assert not child.is_running
    eventually(lambda: not is_alive(int(pid_file.read_text())))


def test_a_child_that_dies_at_its_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sim.demo_processes.rialto", lambda *words: [sys.executable, "-c", "raise SystemExit('no such file')"]
    )
    child = Child("service", [], tmp_path, {})
    with pytest.raises(DemoFailed, match="no such file"):
        child.wait_ready(f"http://127.0.0.1:{free_port()}/", within_s=20, stop=Stop())
    stop_all([child])


def test_the_first_signal_asks_the_second_interrupts_and_neither_while_closing() -> None:
    stop = Stop()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_asked
        with stop.closing():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_report_without_figures_prints_dashes_not_zeros() -> None:
    empty = {"value": None, "ci_low": None, "ci_high": None, "prob_best": None, "reason": "insufficient_data"}
    report = {
        "experiment": "checkout-offer",
        "currency": "EUR",
        "units_assigned": 0,
        "variants": [
            {
                "key": "none",
                "is_control": True,
                "share": 0.2,
                "assigned": 0,
                "metrics": {"margin_per_unit": empty},
            }
        ],
        "guardrails": [{"metric": "refund_rate", "variant": "socks", "state": "kill"}],
        "verdict": {"sentence": "Too early to tell."},
    }
    console = Console(width=150, record=True, file=io.StringIO())
    print_report(console, report, truth(shop_of(DOCUMENT)))
    text = console.export_text()
    assert "0.00" not in text
    assert "- to -" in text
    assert "22.43" in text, "the true margin of the control"
    assert "guardrail refund_rate of socks: kill" in text
    assert "Too early to tell." in text


def test_the_shares_line_shows_the_set_seen_most() -> None:
    assert shares_line({"sets": [{"shares": {"none": 0.2, "socks": 0.8}}, {"shares": {"none": 1.0}}]}) == (
        "none 20%  socks 80%"
    )
    assert shares_line({"sets": []}) == "no shares yet"


@pytest.mark.slow
def test_once_prints_the_report_and_verifies(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.entry", "demo", "--once", "--seconds", "6"]
    ran = subprocess.run([*command, "--data", str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "pro-shoe" in ran.stdout
    assert "24.56" in ran.stdout, "the true margin of the good offer"
    assert "verdict:" in ran.stdout
    assert "is equal" in ran.stdout
    assert (tmp_path / "rialto.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_live_demo_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    ports = [free_port() for _ in range(3)]
    options = zip(("--port", "--dashboard-port", "--shop-port"), map(str, ports), strict=True)
    command = [sys.executable, "-m", "service.entry", "demo", *(word for pair in options for word in pair)]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert running.stdout is not None
        shown: list[str] = []
        for line in running.stdout:
            shown.append(line)
            if line.startswith("day"):
                break
        children = descendants(running.pid)
        assert len(children) >= 2, "".join(shown)
        running.send_signal(number)
        rest, errors = running.communicate(timeout=40)
    finally:
        running.kill()
        running.wait()
    text = "".join(shown) + rest
    assert running.returncode == 0, text + errors
    for expected in (*(f"http://127.0.0.1:{port}" for port in ports), "pk_", "sk_", "/schema", "stopped"):
        assert expected in text
    assert "Traceback" not in errors
    eventually(lambda: not any(is_alive(pid) for pid in children))
    assert list(tmp_path.iterdir()) == [], "the temporary store is removed"
    check_ports({"--port": ports[0], "--dashboard-port": ports[1], "--shop-port": ports[2]})


class Answering:
    """A server that gives one answer to everything."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def answering() -> Generator[Answering]:
    made = Answering()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def descendants(pid: int) -> list[int]:
    """All processes below one, read from /proc."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        parents.setdefault(parent, []).append(int(folder.name))
    found, front = [], [pid]
    while front:
        front = [child for parent in front for child in parents.get(parent, [])]
        found += front
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie waiting for a parent to ask does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
