"""The pieces of the benchmarks that could be wrong without anybody noticing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks import results
from benchmarks.figures import GOALS, figures
from benchmarks.open_loop import Tally, drive, due_times, summary
from benchmarks.page import number, write_page
from benchmarks.parts.folding import fold_figures
from benchmarks.parts.latency import over_nothing
from benchmarks.parts.profile import summarised
from benchmarks.rounds import Sample, alternate, cpu_seconds, cpu_seconds_of_all, percentile, resident_mb
from benchmarks.servers import compared
from benchmarks.wrk import Answers, BenchmarkFailed, Load, lua, read_output, run, total
from tests.processes import free_port

HEAD = b"POST /work HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: "


def answers(**changes: Any) -> Answers:
    given: dict[str, Any] = {
        "sums": {"acknowledged": 10, "accepted": 0, "duplicates": 0, "refused_items": 0},
        "statuses": {"200": 10},
        "reasons": {},
        "errors": {"connect": 0, "read": 0, "write": 0, "timeout": 0},
        "latency_us": {"p50": 1000.0, "p99": 2000.0},
        "seconds": 1.0,
        **changes,
    }
    return Answers(**given)


def sample(rate: float, cpu_us: float = 100.0) -> Sample:
    return Sample(round(rate), 1.0, round(rate) * cpu_us / 1e6, answers())


def a_run(rates: list[float], costs: list[float]) -> Callable[[], Sample]:
    made = iter([sample(rate, cost) for rate, cost in zip(rates, costs, strict=True)])
    return lambda: next(made)


# ---- rounds and ratios


def test_a_ratio_is_to_the_mean_of_the_runs_of_nothing_before_and_after() -> None:
    """Nothing 100, path 90, nothing 200, path 100, nothing 300: 90 / 150 and 100 / 250."""
    nothing = a_run([100, 200, 300], [50, 150, 150])
    found = alternate(nothing, {"path": a_run([90, 100], [100, 300])}, 2)["path"]
    assert found.ratios == pytest.approx([0.6, 0.4])
    assert found.cpu_ratios == pytest.approx([1.0, 0.5])  # (50 + 150) / 2 / 100 and 150 / 300


def test_paths_in_turn_share_the_run_of_nothing_between_them() -> None:
    nothing = a_run([100, 200, 400], [1, 1, 1])
    found = alternate(nothing, {"a": a_run([150], [1]), "b": a_run([150], [1])}, 1)
    assert found["a"].ratios == pytest.approx([150 / 150])
    assert found["b"].ratios == pytest.approx([150 / 300])


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0.5, 0.9, 0.99, 0.999, 1.0)] == [50, 90, 99, 100, 100]
    assert percentile([7], 0.5) == 7


def test_cpu_of_a_process_holds_that_of_the_processes_it_started() -> None:
    before, alone = cpu_seconds_of_all(os.getpid()), cpu_seconds(os.getpid())
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert cpu_seconds_of_all(os.getpid()) - before >= 0.25
    assert cpu_seconds(os.getpid()) - alone < 0.25
    assert 10 < resident_mb(os.getpid()) < 10_000


# ---- what counts as done


def test_fallbacks_are_answers_but_no_decisions() -> None:
    found = answers(
        counts="decisions", reasons={"assigned": 6, "sticky": 1, "fallback": 1, "stale": 1, "overloaded": 1}
    )
    assert (found.items, found.undecided, found.enrolled) == (7, 3, 6)
    assert total([found, found])["fallback"] == 2


def test_events_count_by_what_was_accepted() -> None:
    sums = {"acknowledged": 2, "accepted": 150, "duplicates": 50, "refused_items": 0}
    assert answers(counts="events", sums=sums).items == 150


@pytest.mark.parametrize(
    "changes",
    [
        {"statuses": {"200": 9, "500": 1}},
        {"statuses": {"200": 9, "401": 1}},
        {"errors": {"connect": 0, "read": 1, "write": 0, "timeout": 0}},
        {"sums": {"acknowledged": 10, "accepted": 9, "duplicates": 0, "refused_items": 1}},
        {"sums": {"acknowledged": 0, "accepted": 0, "duplicates": 0, "refused_items": 0}},
        {"counts": "decisions", "reasons": {"fallback": 10}},
    ],
)
def test_a_run_with_any_other_answer_is_no_measurement(changes: dict[str, Any]) -> None:
    assert answers().problem() is None
    assert answers(statuses={"200": 10, "503": 3}).problem() is None
    assert answers(**changes).problem() is not None


def test_a_row_acknowledged_and_not_in_the_ledger_fails_the_benchmark() -> None:
    assert compared("event", 11, 10, 2) == {"acknowledged": 10, "held": 11}
    with pytest.raises(BenchmarkFailed, match="10 of event acknowledged"):
        compared("event", 9, 10, 2)
    with pytest.raises(BenchmarkFailed, match="13 in the ledger"):
        compared("event", 13, 10, 2)


def test_what_the_script_prints_is_read() -> None:
    printed = (
        'Running\nRESULT {"sums":{"acknowledged":2,"accepted":0,"duplicates":0,"refused_items":0},'
        '"statuses":{"200":2},"reasons":{"assigned":2},"errors":{},"latency_us":{"p50":12.0},"seconds":0.5,'
        '"wrong":""}\nbye\n'
    )
    found = read_output(printed, Load("/", {}, counts="decisions"))
    assert found is not None
    assert (found.items, found.seconds) == (2, 0.5)
    assert read_output("wrk: unable to connect", Load("/", {})) is None


# ---- the open loop


def test_latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent() -> None:
    """Due at 0, 1, 2 and 3; the second is sent late, the third never answered."""
    tally = Tally([0.0, 1.0, 2.0, 3.0], sent=[0.0, 1.8, 2.0, 3.0], answered={0: 0.5, 1: 2.0, 3: 3.25})
    assert tally.latencies(end=8.0) == pytest.approx([0.5, 1.0, 6.0, 0.25])
    assert tally.latencies(end=8.0, warm_up_s=1.5) == pytest.approx([6.0, 0.25])
    assert tally.lateness() == pytest.approx([0.0, 0.8, 0.0, 0.0])
    found = summary(tally, 8.0)
    assert (found["requests"], found["answered"], found["p99_ms"]) == (4, 3, 6000.0)


class Stalling(BaseHTTPRequestHandler):
    """Answers at once, but for one stall of all connections together."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stall_from, stall_until = 0.0, 0.0
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        now = time.perf_counter()
        if self.stall_from <= now < self.stall_until:
            time.sleep(self.stall_until - now)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_GET(self) -> None:
        self.rfile.read()  # until the client goes: what /drain does

    def log_message(self, format: str, *args: Any) -> None: ...


class Listening(ThreadingHTTPServer):
    """Takes all connections at once: one that is turned away is tried again only after a second."""

    request_queue_size = 128
    daemon_threads = True


@pytest.fixture
def stalling() -> Generator[tuple[int, type[Stalling]]]:
    handler = type("Handler", (Stalling,), {"bodies": []})
    server = Listening(("127.0.0.1", free_port()), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], handler
    server.shutdown()
    server.server_close()


def test_a_stall_holds_up_every_request_that_falls_due_in_it(stalling: tuple[int, type[Stalling]]) -> None:
    """100 a second for a second, all held up from 0.4 to 0.7 s: 30 requests, by 300 ms down to none.

    A closed loop of one connection would have sent one request into the stall and seen no other.
    """
    port, handler = stalling
    start = time.perf_counter()
    handler.stall_from, handler.stall_until = start + 0.4, start + 0.7
    tally, end = drive(port, HEAD, b"<new>", b"ok", due_times(100, 1.0), b"p", 5.0)
    latencies = tally.latencies(end)
    assert len(latencies) == len(tally.answered) == 100
    assert sum(latency > 0.05 for latency in latencies) >= 20
    assert max(latencies) > 0.2
    assert not tally.strange
    assert len(set(handler.bodies)) == 100


def test_another_answer_than_was_asked_for_is_told_apart(stalling: tuple[int, type[Stalling]]) -> None:
    tally, _ = drive(stalling[0], HEAD, b"x", b'"reason":"assigned"', due_times(50, 0.1), b"p", 5.0)
    assert len(tally.strange) == 5


def test_requests_never_answered_count_with_the_time_they_were_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        port: int = silent.getsockname()[1]
        tally, end = drive(port, HEAD, b"x", b"ok", due_times(100, 0.1), b"p", 0.2)
    assert not tally.answered
    assert min(tally.latencies(end)) >= 0.19


# ---- wrk and its script


def needs_wrk() -> None:
    if shutil.which("wrk") is None:
        if os.environ.get("RIALTO_CI") == "1":
            pytest.fail("wrk is not installed: apt-get install wrk")
        pytest.skip("wrk is not installed: apt-get install wrk")


def test_every_request_sent_is_answered_and_counted_before_wrk_ends(
    stalling: tuple[int, type[Stalling]],
) -> None:
    """The server stalls over the end of the run: what it holds then is waited for, not lost."""
    needs_wrk()
    port, handler = stalling
    start = time.perf_counter()
    handler.stall_from, handler.stall_until = start + 0.3, start + 1.2
    load = Load("/work", {}, ['{"unit":"<random>","key":"<item>"}'], before="[", after="]", per_body=3)
    found = run(load, port, connections=4, seconds=0.5)
    assert found.sums["acknowledged"] == len(handler.bodies) == found.items
    assert found.seconds >= 0.5
    items = [item for body in handler.bodies for item in json.loads(body)]
    assert len(items) == 3 * len(handler.bodies)
    assert len({item["key"] for item in items}) == len({item["unit"] for item in items}) == len(items)


def test_values_become_lua() -> None:
    assert lua(['a"b\\\n', 1.5, False]) == '{"a\\034b\\092\\010",1.5,false}'
    with pytest.raises(TypeError):
        lua(None)


# ---- figures and the page


def test_folding_is_compared_by_rate_and_by_cpu() -> None:
    """1,000 events in 1 s, half of them waiting; those took 2 s and 1 s of CPU; 3 s of CPU in all.

    An event costs 1 s / 500 = 2,000 us to fold, and 3,000 - 2,000 us to take.
    """
    found = fold_figures(events=1000, ingest_s=1, waiting=500, drain_s=2, drain_cpu_s=1, cpu_s=3)
    assert found["fold_per_s"] == 250
    assert found["rate_ratio"] == 0.25
    assert found["fold_cpu_us"] == pytest.approx(2000)
    assert found["cpu_ratio"] == pytest.approx(0.5)
    kept_up = fold_figures(events=1000, ingest_s=1, waiting=0, drain_s=0, drain_cpu_s=0, cpu_s=3)
    assert kept_up == {"ingest_per_s": 1000, "share_waiting": 0}


def test_a_p99_is_compared_without_the_disks() -> None:
    assert over_nothing({"assign": {"p99_ms": 9.0}, "nothing": {"p99_ms": 2.0}}, 5.0) == 2.0


def part(data: dict[str, Any]) -> dict[str, Any]:
    machine = {
        "processor": "one, 2 cores",
        "memory": "8 GB",
        "system": "Linux",
        "disk": "ext4",
        "load": "0.1",
    }
    return {
        "at": "2026-01-01 00:00",
        "commit": "abc",
        "machine": machine,
        "versions": {"python": "3.11"},
        "rounds": 3,
        "round_s": 1.0,
        "seconds": 1,
        "data": data,
    }


def path(ratios: list[float]) -> dict[str, Any]:
    return {
        "rates": [10.0] * 3,
        "nothing_rates": [10.0] * 3,
        "ratios": ratios,
        "cpu_ratios": [1.0] * 3,
        "cpu_us": 1.0,
        "beside_cpu_us": 0.0,
        "latency_ms": {"p50": 1.0, "p99": 2.0},
        "answers": {"assigned": 30, "fallback": 2},
    }


def test_the_page_says_what_is_reached_what_falls_short_and_what_was_not_measured(tmp_path: Path) -> None:
    lone = {"nothing": {"p50": 1.0, "p99": 2.0}}
    found = {
        "assign": part(
            {
                "paths": {"new": path([0.9, 1.1, 1.0]), "known": path([1.3, 0.9, 1.19])},
                "lone": lone,
                "ledger": {
                    "assignment": {"acknowledged": 30, "held": 32},
                    "event": {"acknowledged": 0, "held": 0},
                },
            }
        ),
        "events": {**part({}), "failed": "9 of event acknowledged, 8 in the ledger"},
        "profile": part(
            {
                "sqlite known": {
                    "samples": 10,
                    "self": [["f (service/hot.py)", 0.5]],
                    "packages": [["service", 0.5]],
                }
            }
        ),
    }
    del found["events"]["data"]
    by_label = {figure.goal.label: figure for figure in figures(found)}
    assert by_label["assign, new unit, SQLite"].is_reached
    assert not by_label["assign, known unit, SQLite"].is_reached
    text = write_page(tmp_path / "page.md", found)
    assert re.search(
        r"\| assign, new unit, SQLite \| ≥ 1 \| 1.00 \| 0.90 to 1.10 \| 1.00 \| reached \|", text
    )
    assert re.search(r"\| assign, known unit, SQLite \| ≥ 1.2 \| 1.19 .* \*\*falls short\*\* \|", text)
    assert "events, 1 per body, SQLite | ≥ 0.8 | – | – | – | not measured: 9 of event" in text
    assert "2 answered without being acknowledged" in text
    assert "30 assigned, 2 fallback" in text
    assert "`f (service/hot.py)` | 50.0 %" in text, "what falls short stands with its profile"
    assert write_page(tmp_path / "page.md", {}).count("not measured yet") == len(GOALS)


def test_results_are_kept_part_by_part(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results.keep("assign", {"data": {"a": 1}}, file)
    results.keep("events", {"data": {"b": 2}}, file)
    assert results.keep("assign", {"data": {"a": 3}}, file) == results.load(file)
    assert results.load(file) == {"assign": {"data": {"a": 3}}, "events": {"data": {"b": 2}}}


def test_the_committed_page_is_made_of_the_committed_results(tmp_path: Path) -> None:
    page = results.FILE.with_name("README.md").read_text("utf-8")
    assert write_page(tmp_path / "README.md", results.load()) == page


def test_profiles_name_functions_and_packages_without_places_of_a_machine() -> None:
    prefix = "/some/where/.venv/lib/python3.11/site-packages"
    found = summarised(
        f"main (benchmarks/server.py);send ({prefix}/uvicorn/protocols/http.py) 3\n"
        "main (benchmarks/server.py);decide (service/hot/engine.py) 1\n"
        f"_worker ({prefix.replace('/site-packages', '')}/concurrent/futures/thread.py) 99\n"
    )
    assert found["self"] == [
        ["send (uvicorn/protocols/http.py)", 0.75],
        ["decide (service/hot/engine.py)", 0.25],
    ]
    assert dict(found["packages"]) == {"uvicorn": 0.75, "service": 0.25}
    assert found["samples"] == 4


def test_numbers_show_three_digits_that_count() -> None:
    assert [number(value) for value in (1234.5, 12.345, 0.0123)] == ["1,234", "12.35", "0.0123"]


def test_the_peers_are_no_dependency_of_the_product() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    for name in ("fast-feature", "growthbook", "unleash"):
        assert name not in text
    assert importlib.util.find_spec("benchmarks.peers.install") is not None
    assert sys.modules.get("growthbook") is None
