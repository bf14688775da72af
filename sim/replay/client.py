"""The service over HTTP, for an import: batches, patience, and a clock that may or may not be ours.

Every call is idempotent (ids come from the file), so a call without an answer is simply made again.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from experiments.times import format_instant
from sim.replay.errors import Refused, ReplayError, Unreachable, describe_problem

BATCH = 1000
BODY_LIMIT = 900_000  # bytes: the wire's limit is 1 MiB, framing included
RETRIED = frozenset({429, 502, 503, 504})
KEPT_PROBLEMS = 5


@dataclass(slots=True)
class EventCounts:
    """What became of the events sent."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    problems: list[str] = field(default_factory=list)

    def note_problem(self, line: str) -> None:
        """Keep the first few."""
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(line)


class Service:
    """One store of a running service."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience_s = patience_s
        self._sleep = sleep
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=httpx.Timeout(120.0, connect=5.0),
            transport=transport,
        )

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """The JSON answer of a GET."""
        return self._call("GET", path, parameters=parameters)

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        """The JSON answer of a POST."""
        return self._call("POST", path, content=_encoded({} if body is None else body))

    def set_clock(self, now: datetime) -> dict[str, Any]:
        """Set the store's simulated time."""
        return self.post("/v1/clock", {"now": format_instant(now)})

    def assign(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Decisions in the order of the requests; one that could not be made holds a `problem`."""
        decisions: list[dict[str, Any]] = []
        for batch in batches(requests):
            answer = self.post("/v1/assign/batch", {"requests": batch})["decisions"]
            if len(answer) != len(batch):
                raise ReplayError(f"{len(batch)} assignments were asked for and {len(answer)} answered")
            decisions.extend(answer)
        return decisions

    def send(self, events: Sequence[Mapping[str, Any]], counts: EventCounts) -> None:
        """Send events and count what became of them."""
        for batch in batches(events):
            answer = self.post("/v1/events", {"events": batch})
            counts.accepted += int(answer["accepted"])
            counts.duplicates += int(answer["duplicates"])
            for rejected in answer["rejected"]:
                counts.rejected += 1
                event = batch[rejected["index"]]
                counts.note_problem(f"event {event['event_id']}: {describe_problem(rejected['problem'])}")

    def _call(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make the call, and again while the service is away or busy, until patience ends."""
        deadline = time.monotonic() + self._patience_s
        pause = 0.1
        while True:
            wait = pause * random.uniform(0.8, 1.2)
            try:
                response = self._client.request(method, path, content=content, params=parameters)
            except httpx.TransportError as error:
                said = f"{type(error).__name__}: {error}"
            except (httpx.InvalidURL, ValueError) as error:
                raise ReplayError(f"{self._client.base_url} is no address of a service: {error}") from error
            else:
                if response.status_code not in RETRIED:
                    return _answer(response, f"{method} {path}")
                said = f"status {response.status_code}"
                wait = max(wait, _retry_after(response))
            if time.monotonic() + wait > deadline:
                raise Unreachable(
                    f"{method} {path} got no answer from {self._client.base_url} within "
                    f"{self._patience_s:g} s ({said})"
                )
            self._sleep(wait)
            pause = min(2.0, pause * 2)


def batches(items: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Runs of at most 1,000 that fit one request."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for item in items:
        length = len(_encoded(item)) + 1
        if batch and (len(batch) == BATCH or size + length > BODY_LIMIT):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


def _encoded(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _answer(response: httpx.Response, call: str) -> dict[str, Any]:
    try:
        body = response.json() if response.content else {}
    except ValueError:
        body = {"detail": response.text[:200]}
    if not isinstance(body, dict):
        raise ReplayError(f"{call} answered something that is no object")
    if not response.is_success:
        raise Refused(response.status_code, call, body)
    return body


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
