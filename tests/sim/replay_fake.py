"""A service in memory for replay tests: enough of the wire to be driven, and able to fail on purpose."""

import json
from datetime import datetime
from hashlib import blake2b
from typing import Any

import httpx

from experiments.times import parse_instant

Json = dict[str, Any]


class FakeService:
    """Records what arrives, as the wire promises: sticky assignments, idempotent events, a clock."""

    def __init__(self, *, is_simulated: bool = True) -> None:
        self.is_simulated = is_simulated
        self.now: datetime | None = None
        self.experiments: dict[str, Json] = {}
        self.assignments: dict[str, Json] = {}
        self.events: dict[str, Json] = {}
        self.arrivals: list[str] = []
        self.requests = 0
        self.fail: dict[int, str] = {}  # request number -> "busy", "lost" (done, answer lost) or "killed"
        self.summary: Json = {}

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        failure = self.fail.get(self.requests)
        if failure == "busy":
            return httpx.Response(503, headers={"Retry-After": "1"}, json={"title": "busy"})
        if failure == "killed":
            raise KeyboardInterrupt
        body = json.loads(request.content) if request.content else {}
        answer = self._route(request.method, request.url.path, body)
        if failure == "lost":
            raise httpx.ReadError("connection reset", request=request)
        return answer

    def _route(self, method: str, path: str, body: Json) -> httpx.Response:
        if path == "/v1/clock":
            return self._clock(parse_instant(body["now"]))
        if path == "/v1/assign/batch":
            return _ok({"decisions": [self._assign(ask) for ask in body["requests"]]})
        if path == "/v1/events":
            return _ok(self._events(body["events"]))
        if path == "/v1/store/summary":
            return _ok(self.summary)
        if path == "/v1/experiments":
            return _ok(self.experiments.setdefault(body["key"], {"document": body, "state": "draft"}))
        key = path.split("/")[3]
        if path.endswith("/start"):
            self.experiments[key]["state"] = "running"
            return _ok(self.experiments[key])
        if path.endswith("/report"):
            return _ok(self.report(key))
        return _ok(self.experiments[key])

    def _clock(self, to: datetime) -> httpx.Response:
        if not self.is_simulated:
            return httpx.Response(409, json={"code": "clock_not_external", "detail": "no clock to set"})
        if self.now is not None and to < self.now:
            return httpx.Response(409, json={"code": "clock_backwards", "detail": "time never goes back"})
        self.now = to
        return _ok({"now": to.isoformat(), "steps": 1})

    def _assign(self, ask: Json) -> Json:
        key = f"{ask['experiment']}/{ask['unit_id']}"
        found = self.assignments.get(key)
        if found is not None:
            return {**found, "reason": "sticky"}
        if ask["mode"] == "preview":
            variants = [v["key"] for v in self.experiments[ask["experiment"]]["document"]["variants"]]
            # The choice moves with the clock, as a policy does: going on at another time would show.
            seed = f"{ask['unit_id']} {self.now}".encode()
            chosen = variants[blake2b(seed, digest_size=2).digest()[0] % len(variants)]
            return {"decision_id": None, "variant": chosen, "propensity": 0.25, "reason": "assigned"}
        self._not_ahead(ask["occurred_at"])
        self.arrivals.append(f"assign {ask['unit_id']}")
        decision = {"decision_id": f"d:{key}", "variant": ask["variant"], "propensity": ask["propensity"]}
        self.assignments[key] = {**decision, "at": ask["occurred_at"], "context": ask.get("context")}
        return {**decision, "reason": "forced"}

    def _events(self, events: list[Json]) -> Json:
        accepted = duplicates = 0
        for event in events:
            self._not_ahead(event["occurred_at"])
            self.arrivals.append(f"event {event['event_id']}")
            if event["event_id"] in self.events:
                assert self.events[event["event_id"]] == event
                duplicates += 1
            else:
                self.events[event["event_id"]] = event
                accepted += 1
        return {"accepted": accepted, "duplicates": duplicates, "rejected": []}

    def _not_ahead(self, occurred_at: str) -> None:
        assert self.now is None or parse_instant(occurred_at) <= self.now, "sent before its time"

    def report(self, key: str) -> Json:
        """Units and visits per variant, counted from what arrived."""
        document = self.experiments[key]["document"]
        visits = {e["unit_id"] for e in self.events.values() if e.get("name") == "visit"}
        orders = {e["unit_id"]: e["amount"] for e in self.events.values() if e["type"] == "order"}
        variants: list[Json] = []
        for variant in document["variants"]:
            units = [
                name.split("/", 1)[1]
                for name, found in self.assignments.items()
                if name.startswith(f"{key}/") and found["variant"] == variant["key"]
            ]
            visited = sum(unit in visits for unit in units)
            bought = [orders[unit] for unit in units if unit in orders]
            metrics = {
                "visit_rate": _metric(visited, len(units)),
                "conversion_rate": _metric(len(bought), len(units)),
                "revenue_per_unit": _metric(sum(bought), len(units)),
                "aov": _metric(sum(bought), len(bought)),
            }
            variants.append({"key": variant["key"], "assigned": len(units), "metrics": metrics})
        return {"experiment": key, "variants": variants}


def _metric(numerator: int, denominator: int) -> Json:
    value = numerator / denominator if denominator else None
    return {
        "value": value,
        "numerator": numerator,
        "denominator": denominator,
        "ci_low": None,
        "ci_high": None,
    }


def _ok(body: Json) -> httpx.Response:
    return httpx.Response(200, json=body)
