"""The few calls a shop makes of Rialto over HTTP, with its secret key."""

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

BATCH_MAX = 1000

Json = dict[str, Any]


class ServiceRefused(Exception):
    """The service answered with a problem, or did not answer; the message is one readable line."""


class Api:
    """One connection to a running service; every method returns the decoded answer or raises."""

    def __init__(self, url: str, key: str, *, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout_s, trust_env=False
        )

    def __enter__(self) -> Self:
        """Use as a context manager: the connection closes at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._client.close()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request; anything but a 2xx raises `ServiceRefused` naming what was wrong."""
        try:
            answer = self._client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ServiceRefused(f"{method} {self.url}{path}: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise ServiceRefused(f"{method} {path}: {answer.status_code} {_problem(answer)}")
        return answer

    def get(self, path: str) -> Json:
        """GET a JSON object."""
        return self.send("GET", path).json()

    def post(self, path: str, body: Any = None) -> Json:
        """POST a JSON object."""
        return self.send("POST", path, body).json()

    def set_clock(self, now: datetime) -> Json:
        """Move simulated time on; answers when folder and allocator have taken the steps due."""
        return self.post("/v1/clock", {"now": now.isoformat()})

    def change_store(self, settings: Json) -> None:
        """Merge settings into the store's."""
        tag = self.send("GET", "/v1/store").headers["ETag"]
        self.send("PATCH", "/v1/store", settings, **{"If-Match": tag})

    def begin(self, document: Json) -> None:
        """Create an experiment and start it."""
        self.post("/v1/experiments", document)
        self.post(f"/v1/experiments/{document['key']}/start")

    def assign(self, requests: Sequence[Json]) -> list[Json]:
        """Decisions in the order of the requests."""
        decisions: list[Json] = []
        for start in range(0, len(requests), BATCH_MAX):
            answer = self.post("/v1/assign/batch", {"requests": list(requests[start : start + BATCH_MAX])})
            decisions += answer["decisions"]
        return decisions

    def record(self, events: Sequence[Json]) -> int:
        """Send events; returns how many were new, raises if one was rejected."""
        accepted = 0
        for start in range(0, len(events), BATCH_MAX):
            batch = list(events[start : start + BATCH_MAX])
            answer = self.post("/v1/events", {"events": batch})
            for rejected in answer["rejected"]:
                event = batch[rejected["index"]]
                raise ServiceRefused(f"event {event['event_id']} was rejected: {rejected['problem']}")
            accepted += answer["accepted"]
        return accepted


def _problem(answer: httpx.Response) -> str:
    """The gist of a problem document, on one line."""
    try:
        problem = answer.json()
        faults = [f"{fault['pointer']}: {fault['remedy']}" for fault in problem.get("errors") or []]
        return "; ".join(faults) or str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.text[:200].replace("\n", " ")
