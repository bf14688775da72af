"""The service over HTTP: a call without an answer is made again, and all that is asked goes into a digest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import httpx
import msgspec

from sim.closed_loop.errors import Refused, Unreachable

BATCH = 1000
BODY_LIMIT = 900_000  # bytes: the wire's limit is 1 MiB, framing included
AWAY = frozenset({429, 502, 503, 504})
_PAUSE_S = 0.1

Json = dict[str, Any]
encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Wire:
    """One store of a running service, over a client that carries its key.

    `was_repeated` says whether the last call had to be made again: the service may have done then what it
    was asked for without saying so.
    """

    def __init__(
        self, client: httpx.Client, *, patience_s: float = 30.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._patience_s = patience_s
        self._sleep = sleep
        self._digest = blake2b(digest_size=8)
        self.calls = 0
        self.was_repeated = False

    @property
    def digest(self) -> str:
        """What tells the requests so far from any others."""
        return self._digest.hexdigest()

    def get(self, path: str) -> Any:
        """The JSON answer of a GET."""
        return self._json("GET", path, b"")

    def post(self, path: str, body: object = None) -> Any:
        """The JSON answer of a POST."""
        return self._json("POST", path, b"{}" if body is None else encode(body))

    def post_many(self, path: str, name: str, items: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """Post encoded items as lists of that name; how many each body held, and its answer."""
        for batch in batches(items):
            body = b'{"%s":[%s]}' % (name.encode(), b",".join(batch))
            yield len(batch), self._json("POST", path, body)

    def text(self, path: str) -> str:
        """What a GET answers, as text."""
        return self._call("GET", path, b"").text

    def _json(self, method: str, path: str, body: bytes) -> Any:
        return _decode(self._call(method, path, body).content)

    def _call(self, method: str, path: str, body: bytes) -> httpx.Response:
        """Make the call, and again while the service is away or busy, until patience ends."""
        self._digest.update(b"%s %s %d\n%s" % (method.encode(), path.encode(), len(body), body))
        self.calls += 1
        self.was_repeated = False
        until = time.monotonic() + self._patience_s
        while True:
            try:
                headers = {"Content-Type": "application/json"} if body else None
                answer = self._client.request(method, path, content=body or None, headers=headers)
            except httpx.TransportError as error:
                said = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code not in AWAY:
                    return _checked(answer, f"{method} {path}")
                said = f"status {answer.status_code}"
            if time.monotonic() + _PAUSE_S > until:
                raise Unreachable(f"{method} {path} got no answer within {self._patience_s:g} s ({said})")
            self._sleep(_PAUSE_S)
            self.was_repeated = True


def batches(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Runs of at most 1,000 that fit one request."""
    start = size = 0
    for index, item in enumerate(items):
        if index - start == BATCH or (size and size + len(item) > BODY_LIMIT):
            yield items[start:index]
            start, size = index, 0
        size += len(item) + 1
    if start < len(items):
        yield items[start:]


def _checked(answer: httpx.Response, call: str) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        problem: Json = answer.json()
        faults = [f"{fault['pointer']}: {fault['remedy']}" for fault in problem.get("errors") or []]
        code, detail = str(problem["code"]), "; ".join(faults) or str(problem.get("detail"))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, detail = "no_problem_document", answer.text[:200]
    raise Refused(answer.status_code, call, code, detail)
