"""The two hot routes as bytes on a socket: the recorded answers, document by document."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from service.settings import BODY_BYTES_MAX
from tests.launched import new_store, serving
from tests.service.conftest import Shop, document
from tests.service.hot_cases import (
    BOTH,
    EVENT_KEYS,
    EVIL,
    GOOD,
    NO_KEY,
    NONE,
    OK,
    ORIGIN,
    VARY,
    Done,
    Refused,
    at,
    bearer,
    post,
)
from tests.service.raw_http import Sent, Told, send

PATHS = {"assign": "/v1/assign", "events": "/v1/events"}
BODIES = {
    "assign": b'{"touchpoint": "checkout", "unit_id": "u"}',
    "events": b'{"event_id": "1", "type": "product_view", "unit_id": "u", "sku": "A"}',
}
GIVEN = ("date", "server", "content-length", "connection", "x-request-id")
"""Headers that every answer has and that are looked at by themselves."""


@dataclass(frozen=True)
class Served:
    """A service on a port, and the keys of its store."""

    address: tuple[str, int]
    words: dict[str, str]

    def send(self, name: str, sent: Sent) -> Told:
        path = PATHS[name]
        words = {
            **self.words,
            **{"PATH": path, "UPPER": path.upper(), "ESCAPED": path.replace("s", "%73")},
        }

        def filled(text: str) -> str:
            return re.sub(r"\{([A-Z]+)\}", lambda found: words[found[1]], text)

        wanted = replace(
            sent,
            target=filled(sent.target),
            headers=tuple((key, filled(value)) for key, value in sent.headers),
            body=BODIES[name] if sent.body == GOOD else sent.body,
        )
        usual = (bearer(words["SK"]), ("Content-Type", "application/json"))
        return send(self.address, wanted, usual)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("hot")
    database_url = f"sqlite:///{folder / 'hot.db'}"
    keys = new_store(database_url)
    with serving(folder, database_url) as running:
        with running.client(keys["secret_key"]) as client:
            assert client.post("/v1/experiments", json=document()).status_code == 201
            assert client.post("/v1/experiments/checkout-addon/start").status_code == 200
            version = {"If-Match": client.get("/v1/store").headers["etag"]}
            patch = {"origins": ["https://shop.example"], "deadline_ms": 5000}
            assert client.patch("/v1/store", json=patch, headers=version).status_code == 200
            reader = client.post("/v1/keys", json={"kind": "sk", "scopes": ["read"]}).json()["key"]
        words = {"SK": keys["secret_key"], "PK": keys["publishable_key"], "READ": reader}
        yield Served(("127.0.0.1", running.port), words)


def check(told: Told, expected: Done | Refused, name: str) -> None:
    status = expected.status if isinstance(expected, Refused) else 200
    assert told.status == status, told.body
    media_type = "application/problem+json" if isinstance(expected, Refused) else "application/json"
    found = [pair for pair in told.headers if pair[0] not in GIVEN]
    assert sorted(found) == sorted([("content-type", media_type), *expected.headers])
    assert re.fullmatch("[0-9a-f]{16}", told.header("x-request-id") or "")
    if isinstance(expected, Refused):
        detail = expected.detail.replace("{name}", name)
        assert told.json() == replace(expected, detail=detail).document()
    elif name == "assign":
        assert told.json()["reason"] in ("assigned", "sticky")
        assert set(told.json()) == {
            *("decision_id", "experiment", "variant", "offer", "propensity", "policy_version", "reason")
        }
    else:
        answer = told.json()
        assert (answer["accepted"] + answer["duplicates"], answer["rejected"]) == (1, [])


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize("kept", [False, True], ids=["closed", "kept"])
def test_both_routes_answer_as_recorded(served: Served, name: str, case: str, kept: bool) -> None:
    """On a connection that is closed afterwards, and on one that is kept: two ways to the same function."""
    sent, expected = BOTH[case]
    if kept:
        sent = replace(sent, headers=(*sent.headers, ("Connection", "keep-alive")))
    told = served.send(name, sent)
    if sent.method == "HEAD":
        assert isinstance(expected, Refused)
        length = len(json.dumps(expected.document(), separators=(",", ":")))
        assert (told.status, told.body, told.header("content-length")) == (405, b"", str(length))
    else:
        check(told, expected, name)


@pytest.mark.parametrize("query", EVENT_KEYS)
def test_events_alone_take_a_publishable_key_in_the_address(served: Served, query: str) -> None:
    sent = Sent(target="{PATH}" + query, headers=(NONE,), body=GOOD)
    check(served.send("events", sent), EVENT_KEYS[query][1], "events")
    check(served.send("assign", sent), NO_KEY, "assign")
    escaped = replace(sent, target=sent.target.replace("{PK}", served.words["PK"].replace("_", "%5F")))
    check(served.send("events", escaped), EVENT_KEYS[query][1], "events")


def test_a_publishable_key_sends_no_event_of_a_server(served: Served) -> None:
    body = b'{"event_id": "2", "type": "custom", "unit_id": "u", "name": "n"}'
    remedy = "send this type from your server with an sk_ key"
    told = served.send("events", post(bearer("{PK}"), body=body))
    check(told, at("/type", "secret_key_required", remedy, 403), "events")


def test_a_field_twice_counts_as_it_is_read(served: Served) -> None:
    """Assign reads every value of a field and keeps the last; an event is the last values alone."""
    wrong = at("/unit_id", "wrong_type", "must be str, found int")
    first, last = (b'"unit_id": 1, "unit_id": "u"', b'"unit_id": "u", "unit_id": 1')
    for name in PATHS:
        bodies = [BODIES[name].replace(b'"unit_id": "u"', twice) for twice in (first, last)]
        check(served.send(name, post(body=bodies[0])), wrong if name == "assign" else OK, name)
        check(served.send(name, post(body=bodies[1])), wrong, name)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_of_just_a_mebibyte_is_read(served: Served, name: str, is_chunked: bool) -> None:
    body = BODIES[name].ljust(BODY_BYTES_MAX)
    check(served.send(name, post(body=body, is_chunked=is_chunked)), OK, name)


@pytest.mark.parametrize("name", PATHS)
def test_options_say_what_there_is_and_a_preflight_needs_no_key(served: Served, name: str) -> None:
    wanted = ("Access-Control-Request-Method", "POST")
    plain = served.send(name, Sent("OPTIONS", "{PATH}", (NONE,)))
    assert (plain.status, plain.body, plain.header("allow")) == (204, b"", "OPTIONS, POST")
    assert served.send(name, Sent("OPTIONS", "{PATH}", (NONE, ORIGIN))).header("allow") == "OPTIONS, POST"
    told = served.send(name, Sent("OPTIONS", "{PATH}", (NONE, EVIL, wanted)))
    assert (told.status, told.body) == (204, b"")
    assert sorted(pair for pair in told.headers if pair[0] not in GIVEN) == [
        ("access-control-allow-headers", "authorization, content-type, x-api-key"),
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-max-age", "600"),
        VARY,
    ]


@pytest.mark.parametrize("name", PATHS)
def test_a_request_id_is_kept_when_it_is_one(served: Served, name: str) -> None:
    for given, expected in {"abc-1": "abc-1", "a b": "[0-9a-f]{16}", "a" * 65: "[0-9a-f]{16}"}.items():
        told = served.send(name, post(("X-Request-ID", given)))
        assert re.fullmatch(expected, told.header("x-request-id") or "")


@pytest.mark.parametrize("name", PATHS)
def test_a_connection_serves_on_after_what_it_refused(served: Served, name: str) -> None:
    headers = dict([bearer(served.words["SK"])])
    connection = http.client.HTTPConnection(*served.address, timeout=20)
    sent = [BODIES[name], b"{", b" " * (BODY_BYTES_MAX - 1), BODIES[name]]
    found = []
    for body in sent:
        connection.request("POST", PATHS[name], body, headers)
        found.append(connection.getresponse())
        found[-1].read()
    connection.close()
    assert [answer.status for answer in found] == [200, 400, 400, 200]


@pytest.mark.parametrize("name", PATHS)
def test_too_many_requests_are_told_how_long_to_wait(open_shop: Callable[..., Shop], name: str) -> None:
    shop = open_shop(publishable_rate_per_s=0.01, publishable_burst=1)
    shop.running()
    key = shop.keys.publishable_key
    assert shop.post(PATHS[name], BODIES[name], key=key).status_code == 200
    told = shop.post(PATHS[name], BODIES[name], key=key)
    assert int(told.headers["retry-after"]) in range(95, 101)
    detail = f"too many requests with this key from this address; wait {told.headers['retry-after']} s"
    assert told.json() == Refused(429, "rate_limited", detail).document()
    assert shop.post(PATHS[name], BODIES[name]).status_code == 200, "a secret key has no such limit"
