"""What is counted: exactness, the text against its reference parser, workers that share a folder."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.exposition import Family, text_of
from service.ledger.database import DatabaseKind
from service.metrics import LABELLED_MAX, SECONDS, Metrics
from service.release import commit
from service.series import Row, rows_in
from tests.service.conftest import ROOT, Shop

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    """What Prometheus' own parser reads."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_a_histogram_counts_every_observation_in_its_bucket() -> None:
    """Against counting by hand, with observations on the bounds themselves."""
    metrics, rng = Metrics(), random.Random(3)
    seconds = [*SECONDS, 0.0, 60.0, *(rng.expovariate(10) for _ in range(500))]
    for took in seconds:
        metrics.observe("GET", "/v1/x", 200, took)
    samples = samples_of(metrics.exposition())
    for bound in SECONDS:
        counted = one(samples, "rialto_request_seconds_bucket", method="GET", route="/v1/x", le=f"{bound:g}")
        assert counted == sum(took <= bound for took in seconds)
    route = {"method": "GET", "route": "/v1/x"}
    assert one(samples, "rialto_request_seconds_bucket", **route, le="+Inf") == len(seconds)
    assert one(samples, "rialto_request_seconds_count", **route) == len(seconds)
    assert one(samples, "rialto_request_seconds_sum", **route) == pytest.approx(sum(seconds))
    assert one(samples, "rialto_requests_total", **route, status="200") == len(seconds)


def test_batches_commits_and_fallbacks_are_counted() -> None:
    metrics = Metrics()
    for size in (1, 20, 20, 1024, 3000):
        metrics.observe_batch(size)
    metrics.observe_commit(0.0004)
    metrics.count_fallback("stale")
    metrics.count_fallback("stale")
    metrics.count_fallback("overloaded")
    samples = samples_of(metrics.exposition())
    assert one(samples, "rialto_batch_size_sum") == 4065
    assert one(samples, "rialto_batch_size_bucket", le="32") == 3
    assert one(samples, "rialto_batch_size_bucket", le="1024") == 4
    assert one(samples, "rialto_batch_size_count") == 5
    assert one(samples, "rialto_commit_seconds_bucket", le="0.0005") == 1
    assert one(samples, "rialto_fallbacks_total", reason="stale") == 2
    assert one(samples, "rialto_fallbacks_total", reason="overloaded") == 1


def test_gauges_show_what_is_read_now_and_forget_what_is_gone() -> None:
    metrics, ages = Metrics(), {("shop", "a"): 1.5, ("shop", "b"): 2.0}
    metrics.gauge("age", "Age.", lambda: ages, labels=("store", "experiment"))
    metrics.gauge("level", "Level.", lambda: float(len(ages)))
    before = samples_of(metrics.exposition())
    del ages["shop", "a"]
    after = samples_of(metrics.exposition())
    assert one(before, "age", store="shop", experiment="a") == 1.5
    assert ("age", (("experiment", "a"), ("store", "shop"))) not in after
    assert one(after, "age", store="shop", experiment="b") == 2.0
    assert (one(before, "level"), one(after, "level")) == (2.0, 1.0)


def test_labels_are_bounded_and_methods_are_a_list() -> None:
    metrics = Metrics()
    many = {(f"e{n}",): 1.0 for n in range(5000)}
    metrics.gauge("many", "Many.", lambda: many, labels=("experiment",))
    for n in range(100):
        metrics.observe(f"M{n}", "none", 405, 0.001)
    samples = samples_of(metrics.exposition())
    assert sum(name == "many" for name, _ in samples) == LABELLED_MAX
    assert one(samples, "rialto_requests_total", method="other", route="none", status="405") == 100


def test_series_beyond_the_capacity_are_dropped_and_nothing_fails() -> None:
    row = Row()
    places = {row.place((f"s{n}",), 60) for n in range(1000)}
    assert len(places) < 1000
    assert max(places) + 60 <= len(row.values)


def test_text_is_escaped_and_numbers_are_exact() -> None:
    odd = 'a "quoted" \\ line\nbreak'
    text = text_of([Family("x", odd, "gauge", {(("label", odd),): [0.1 + 0.2], (): [2.0**53]})])
    samples = samples_of(text)
    assert one(samples, "x", label=odd) == 0.1 + 0.2
    assert one(samples, "x") == 2.0**53


WORKER = """
import sys
from pathlib import Path
from service.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]), int(sys.argv[2]))
metrics.counter("hits_total", "Hits.", lambda: 5.0)
metrics.gauge("queue", "Queue.", lambda: 7.0)
for _ in range(int(sys.argv[3])):
    metrics.observe("POST", "/v1/assign", 200, 0.002)
metrics.count_fallback("stale")
metrics.publish()
"""


def count_in_process(folder: Path, worker: int, times: int) -> None:
    command = [sys.executable, "-c", WORKER, str(folder), str(worker), str(times)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


def test_workers_add_up_and_one_started_again_goes_on(tmp_path: Path) -> None:
    """Real processes that are gone when the sum is taken; the second run of 1 replaces the first."""
    count_in_process(tmp_path, 1, 10)
    count_in_process(tmp_path, 1, 30)
    count_in_process(tmp_path, 2, 100)
    metrics = Metrics(tmp_path, 0)
    metrics.counter("hits_total", "Hits.", lambda: 1.0)
    metrics.gauge("queue", "Queue.", lambda: 3.0)
    metrics.observe("POST", "/v1/assign", 200, 0.002)
    samples = samples_of(metrics.exposition())
    assign = {"method": "POST", "route": "/v1/assign"}
    assert one(samples, "rialto_requests_total", **assign, status="200") == 141
    assert one(samples, "rialto_request_seconds_bucket", **assign, le="0.0025") == 141
    assert one(samples, "rialto_fallbacks_total", reason="stale") == 3
    assert one(samples, "hits_total") == 16
    assert [one(samples, "queue", worker=w) for w in "012"] == [3.0, 7.0, 7.0]


def test_gauges_of_a_worker_that_is_gone_are_not_shown(tmp_path: Path) -> None:
    count_in_process(tmp_path, 1, 10)
    gone = Row(tmp_path, 1)
    gone.values[gone.place(("seen",))] = time.time() - 60
    metrics = Metrics(tmp_path, 0)
    metrics.gauge("queue", "Queue.", lambda: 3.0)
    samples = samples_of(metrics.exposition())
    assert ("queue", (("worker", "1"),)) not in samples
    assert one(samples, "queue", worker="0") == 3.0
    assert one(samples, "rialto_requests_total", method="POST", route="/v1/assign", status="200") == 10


def test_a_key_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    row = Row(tmp_path, 4)
    row.values[row.place(("whole",))] = 2.0
    with open(tmp_path / "4.keys", "a") as file:
        file.write('[1, 1, "ha')
    assert list(rows_in(tmp_path)) == [(4, {("whole",): [2.0]})]


def test_the_service_shows_what_is_promised(shop: Shop) -> None:
    shop.running()
    for n in range(3):
        assert shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": f"u{n}"}).status_code == 200
    assert shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": "u0"}).json()["reason"] == "sticky"
    shop.get("/v1/units/nobody")
    answer = shop.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = samples_of(answer.text)
    assert one(samples, "rialto_requests_total", method="POST", route="/v1/assign", status="200") == 4
    assert one(samples, "rialto_sticky_hits_total") == 1
    assert one(samples, "rialto_sticky_entries") == 3
    assert one(samples, "rialto_is_leader") == 1 or shop.database.kind is DatabaseKind.POSTGRES
    assert one(samples, "rialto_batch_size_sum") >= 3
    assert one(samples, "rialto_commit_seconds_count") >= 3
    assert one(samples, "rialto_requests_total", method="GET", route="/v1/units/{unit_id}", status="404") == 1
    names = {"store": shop.keys.store, "experiment": "checkout-addon"}
    assert one(samples, "rialto_policy_version", **names) == 1
    assert one(samples, "rialto_policy_version_published", **names) == 1
    assert one(samples, "rialto_ledger_up") == 1
    assert one(samples, "rialto_marks_waiting") >= 0
    assert one(samples, "rialto_folder_lag_seconds") >= 0
    assert one(samples, "rialto_writer_queue") == 0
    assert one(samples, "process_resident_memory_bytes") > 1e6
    assert not any(math.isnan(value) for value in samples.values())


def test_the_allocators_age_is_shown_once_it_has_stepped(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(is_simulated=True)
    assert shop.post("/v1/clock", {"now": "2026-01-01T00:00:00Z"}).status_code == 200
    shop.running(policy={"kind": "thompson", "cadence": "60s"})
    for now in ("2026-01-01T00:10:00Z", "2026-01-01T00:10:40Z"):
        assert shop.post("/v1/clock", {"now": now}).status_code == 200
    samples = samples_of(shop.client.get("/metrics").text)
    names = {"store": shop.keys.store, "experiment": "checkout-addon"}
    assert one(samples, "rialto_allocator_age_seconds", **names) == 40


def test_metrics_answer_while_the_ledger_does_not(shop: Shop) -> None:
    if shop.database.kind is not DatabaseKind.SQLITE:
        pytest.skip("only a file can be moved away")
    shop.database.path.rename(shop.database.path.with_suffix(".away"))
    shop.database.close()  # the next read opens the file anew, and finds none
    samples = samples_of(shop.client.get("/metrics").text)
    assert one(samples, "rialto_ledger_up") == 0
    assert ("rialto_marks_waiting", ()) not in samples
    (release,) = [dict(labels) for name, labels in samples if name == "rialto_build_info"]
    assert release == {"version": version("rialto"), "commit": commit()}
    assert re.fullmatch(r"unknown|[0-9a-f]{7,}\+?", commit())


def test_counting_costs_a_few_function_calls() -> None:
    """Against a call that does nothing, in the same run: thirty of them are a bound for any machine."""
    metrics = Metrics()

    def nothing(_method: str, _route: str, _status: int, _seconds: float) -> None: ...

    def best(count: Callable[[str, str, int, float], None]) -> float:
        times: list[float] = []
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(20_000):
                count("POST", "/v1/assign", 200, 0.003)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best(metrics.observe) < 30 * best(nothing)
