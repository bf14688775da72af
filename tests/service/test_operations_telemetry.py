"""OpenTelemetry against a real OTLP receiver: spans, metrics, what they never hold, and their absence."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.processes import free_port
from tests.service.conftest import ROOT, ServiceProcess, document

Start = Callable[..., ServiceProcess]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
PERSONAL = ("anna.bianchi@example.com", "ord-990017")


@dataclass
class Received:
    """What a receiver was sent."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes_of(sent.resource))
                self.spans += [span for scope in sent.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for sent in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in sent.scope_metrics:
                    self.metrics |= {metric.name: metric for metric in scope.metrics}


def attributes_of(holder: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in holder.attributes}


@pytest.fixture
def receiver() -> Generator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_and_metrics_arrive_and_name_no_shopper(start_service: Start, receiver: Received) -> None:
    who, order = PERSONAL
    running = start_service(serve=("--otel-endpoint", receiver.url))
    with running.client() as client:
        assert client.post("/v1/experiments", json=document()).status_code == 201
        assert client.post("/v1/experiments/checkout-addon/start").status_code == 200
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "req-1"}
        body = {"touchpoint": "checkout", "unit_id": who}
        assert client.post("/v1/assign", json=body, headers=headers).status_code == 200
        event = {"event_id": "o", "type": "order", "unit_id": who, "order_id": order}
        assert client.post("/v1/events", json={**event, "amount": 5, "currency": "EUR"}).status_code == 200
        assert client.get(f"/v1/units/{who}").status_code == 200
        not_sampled = {"traceparent": f"00-{TRACE}-{PARENT}-00", "X-Request-Id": "req-2"}
        client.get("/health/live", headers=not_sampled)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) == 0
    by_request = {attributes_of(span)["rialto.request_id"]: span for span in receiver.spans}
    span = by_request["req-1"]
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST /v1/assign", TRACE, PARENT)
    attributes = attributes_of(span)
    assert attributes["http.route"] == "/v1/assign"
    assert attributes["http.response.status_code"] == 200
    assert attributes["rialto.reason"] == "assigned"
    assert "req-2" not in by_request  # its caller has decided that this trace is not sampled
    assert {span.name for span in receiver.spans} >= {"POST /v1/events", "GET /v1/units/{unit_id}"}
    assert receiver.resources[0]["service.name"] == "rialto"
    duration = receiver.metrics["http.server.request.duration"].histogram.data_points
    counted = [p for p in duration if attributes_of(p)["http.route"] == "/v1/assign"]
    assert [point.count for point in counted] == [1]
    commits = receiver.metrics["rialto.commit.seconds.count"].sum.data_points[0]
    assert commits.as_double >= 1
    assert receiver.metrics["process.resident.memory.bytes"].gauge.data_points[0].as_double > 1e6
    sent = b"".join(receiver.bodies)
    for text in (*PERSONAL, running.keys["secret_key"]):
        assert text.encode() not in sent


def test_a_collector_that_is_away_holds_nothing_up(start_service: Start) -> None:
    running = start_service(serve=("--otel-endpoint", f"http://127.0.0.1:{free_port()}"))
    with running.client() as client:
        assert client.get("/v1/store").status_code == 200
    started = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) == 0
    assert time.monotonic() - started < 10


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, service.serving, service.worker\n"
        "print([name for name in sys.modules if 'telemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
