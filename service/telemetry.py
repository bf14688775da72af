"""Traces and metrics over OTLP, when an endpoint is set; else this module is never imported.

A span a request, with the route's pattern, the status, the request id and the reason of a decision; never
the id of a shopper. A caller's W3C `traceparent` is gone on with, and its decision not to sample kept.
Spans that a slow collector cannot take are dropped, and never hold up a request or the end.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import msgspec
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.exposition import Family
from service.metrics import Metrics

STOP_S = 2.0
"""How long the last spans may take to leave."""
SEND_S = 5.0
FRESH_S = 0.5
"""One export reads the metrics once, though every instrument asks."""
_SENT_ON = ("traceparent", "tracestate")

App = Callable[[Any, Any, Any], Any]


_DECIDED = "/v1/assign"


class _Reason(msgspec.Struct):
    """What is read of a decision's answer."""

    reason: str


_reason_of = msgspec.json.Decoder(_Reason).decode


class _Answer:
    """What is seen of an answer on its way out."""

    def __init__(self) -> None:
        self.status = 500
        self.request_id = ""
        self.body = b""

    def note(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.request_id = dict(message["headers"]).get(b"x-request-id", b"").decode()
        elif message["type"] == "http.response.body":
            self.body = message.get("body", b"")


class Telemetry:
    """An application around the service that traces each request and exports the service's metrics."""

    def __init__(self, app: App, endpoint: str, metrics: Metrics, worker_no: int) -> None:
        self._app = app
        resource = Resource.create(
            {
                "service.name": "rialto",
                "service.version": version("rialto"),
                "service.instance.id": uuid.uuid4().hex,
                "rialto.worker": worker_no,
            }
        )
        base = endpoint.rstrip("/")
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=SEND_S)
        self._traces.add_span_processor(BatchSpanProcessor(spans))
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=SEND_S)
        )
        self._meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._tracer = self._traces.get_tracer("rialto")
        self._propagator = TraceContextTextMapPropagator()
        meter = self._meters.get_meter("rialto")
        self._durations = meter.create_histogram("http.server.request.duration", unit="s")
        _export(meter, metrics)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand the request on and trace it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = self._propagator.extract({name: headers[name] for name in _SENT_ON if name in headers})
        span = self._tracer.start_span(str(scope["method"]), context=parent, kind=SpanKind.SERVER)
        scope["rialto_trace_id"] = format(span.get_span_context().trace_id, "032x")
        started, answer = time.perf_counter(), _Answer()

        async def send_noted(message: Any) -> None:
            answer.note(message)
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._end(span, scope, answer, time.perf_counter() - started)

    def stop(self) -> None:
        """Send what is left, but do not wait for a collector that is away."""
        stopping = threading.Thread(target=self._shut_down, name="telemetry-end", daemon=True)
        stopping.start()
        stopping.join(STOP_S)

    def _end(self, span: Span, scope: Any, answer: _Answer, seconds: float) -> None:
        route = str(scope.get("path_template") or "none")
        attributes = {
            "http.request.method": str(scope["method"]),
            "http.route": route,
            "http.response.status_code": answer.status,
        }
        self._durations.record(seconds, attributes)
        span.update_name(f"{scope['method']} {route}")
        span.set_attributes(attributes)
        span.set_attribute("rialto.request_id", answer.request_id)
        if route == _DECIDED and answer.status == 200:
            span.set_attribute("rialto.reason", _reason_of(answer.body).reason)
        if answer.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _shut_down(self) -> None:
        self._traces.shutdown()
        self._meters.shutdown()


def _export(meter: Meter, metrics: Metrics) -> None:
    """An instrument for every family; of histograms their count and sum."""
    read = _Cached(metrics)
    for family in metrics.described():
        name = family.name.replace("_", ".")
        match family.kind:
            case "gauge":
                meter.create_observable_gauge(name, [_values(read, family.name, 0)], description=family.help)
            case "counter":
                meter.create_observable_counter(
                    name, [_values(read, family.name, 0)], description=family.help
                )
            case _:
                for part, which in (("sum", -1), ("count", None)):
                    meter.create_observable_counter(
                        f"{name}.{part}", [_values(read, family.name, which)], description=family.help
                    )


class _Cached:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._at = float("-inf")
        self._families: dict[str, Family] = {}

    def family(self, name: str) -> Family | None:
        if time.monotonic() - self._at > FRESH_S:
            self._families = {family.name: family for family in self._metrics.own_families()}
            self._at = time.monotonic()
        return self._families.get(name)


def _values(
    read: _Cached, name: str, which: int | None
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """What an instrument is to observe; `which` None is the sum of a histogram's buckets."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        family = read.family(name)
        for labels, numbers in (family.values if family else {}).items():
            value = sum(numbers[:-1]) if which is None else numbers[which]
            yield Observation(value, {label: text for label, text in labels if label != "worker"})

    return observe
