"""Bad input to every route of the API around the ledger: the right status, and the field by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.settings import BODY_BYTES_MAX
from tests.service.conftest import Shop, document

EXPERIMENTS = "/v1/experiments"
ONE = f"{EXPERIMENTS}/checkout-addon"


def offer(**changes: Any) -> dict[str, Any]:
    variants = document()["variants"]
    variants[1]["offer"] |= changes
    return document("other", variants=variants)


def raw(text: str) -> bytes:
    return text.encode()


# name: (method, path, body, status, code, pointer)
BAD: dict[str, tuple[str, str, Any, int, str, str]] = {
    "empty body": ("POST", EXPERIMENTS, b"", 400, "malformed_json", ""),
    "not JSON": ("POST", EXPERIMENTS, b"{key: 1}", 400, "malformed_json", ""),
    "two values": ("POST", EXPERIMENTS, b"{} {}", 400, "malformed_json", ""),
    "not UTF-8": ("POST", EXPERIMENTS, b'{"key": "\xff"}', 400, "malformed_json", ""),
    "half a surrogate": ("POST", EXPERIMENTS, b'{"key": "\\ud800"}', 400, "malformed_json", ""),
    "nested without end": ("POST", EXPERIMENTS, b'{"a":' * 100_000, 400, "malformed_json", ""),
    "a list": ("POST", EXPERIMENTS, [], 400, "wrong_type", ""),
    "null": ("POST", EXPERIMENTS, b"null", 400, "wrong_type", ""),
    "NaN": ("POST", EXPERIMENTS, raw('{"policy": {"floor": NaN}}'), 400, "not_a_number", "/policy/floor"),
    "infinity": ("POST", EXPERIMENTS, raw('{"a": [0, -Infinity]}'), 400, "not_a_number", "/a/1"),
    "too large a number": ("POST", "/v1/clock", raw('{"now": 1e999}'), 400, "not_a_number", "/now"),
    "a field unknown": ("POST", EXPERIMENTS, document(colour=1), 400, "unknown_field", "/colour"),
    "a field misspelt": ("POST", EXPERIMENTS, document(hypotesis=""), 400, "unknown_field", "/hypotesis"),
    "a field missing": ("POST", EXPERIMENTS, {"key": "a"}, 400, "required", "/touchpoint"),
    "negative money": ("POST", EXPERIMENTS, offer(price=-1), 400, "too_small", "/variants/1/offer/price"),
    "money with a point": (
        *("POST", EXPERIMENTS, offer(price=12.9)),
        *(400, "not_an_integer", "/variants/1/offer/price"),
    ),
    "true as money": ("POST", EXPERIMENTS, offer(cost=True), 400, "wrong_type", "/variants/1/offer/cost"),
    "unknown currency": (
        *("POST", EXPERIMENTS, document("other", currency="EURO")),
        *(400, "bad_format", "/currency"),
    ),
    "a key in capitals": ("POST", EXPERIMENTS, document("Checkout"), 400, "bad_format", "/key"),
    "a key ending in a line feed": ("POST", EXPERIMENTS, document("checkout\n"), 400, "bad_format", "/key"),
    "a contextual policy without features": (
        *("POST", EXPERIMENTS, document("other", policy={"kind": "contextual"})),
        *(400, "required", "/policy/features"),
    ),
    "a variant unknown": ("POST", f"{ONE}/variants/ghost/retire", None, 404, "variant_not_found", None),
    "an experiment unknown": ("POST", f"{EXPERIMENTS}/ghost/start", None, 404, "experiment_not_found", None),
    "a field for start": ("POST", f"{ONE}/start", {"now": 1}, 400, "unknown_field", "/now"),
    "a variant's fault, in the variant": (
        *("POST", f"{ONE}/variants", {"key": "cap", "offer": {"kind": "gift"}}),
        *(400, "not_one_of", "/offer/kind"),
    ),
    "promote nobody": ("POST", f"{ONE}/promote", {}, 400, "required", "/variant"),
    "promote a number": ("POST", f"{ONE}/promote", {"variant": 1}, 400, "wrong_type", "/variant"),
    "a limit too large": ("GET", f"{EXPERIMENTS}?limit=1001", None, 400, "too_large", "?limit"),
    "a limit of nothing": ("GET", f"{EXPERIMENTS}?limit=0", None, 400, "too_small", "?limit"),
    "a limit in words": ("GET", f"{EXPERIMENTS}?limit=ten", None, 400, "wrong_type", "?limit"),
    "a cursor not ours": ("GET", f"{EXPERIMENTS}?cursor=AAAA", None, 400, "bad_cursor", "?cursor"),
    "a cursor of another list": (
        *("GET", "/v1/ledger/decisions?cursor=WzFd", None),
        *(400, "bad_cursor", "?cursor"),
    ),
    "a parameter unknown": ("GET", "/v1/keys?offset=3", None, 400, "unknown_field", "?offset"),
    "a parameter twice": ("GET", "/v1/keys?limit=1&limit=2", None, 400, "given_twice", "?limit"),
    "a time without offset": (
        *("GET", "/v1/ledger/events?from=2026-01-01T00:00:00", None),
        *(400, "bad_time", "?from"),
    ),
    "a day that is none": (
        *("GET", "/v1/ledger/events?to=2026-02-30T00:00:00Z", None),
        *(400, "bad_time", "?to"),
    ),
    "events of a ghost": (
        "GET",
        "/v1/ledger/events?experiment=ghost",
        None,
        404,
        "experiment_not_found",
        None,
    ),
    "a key of a third kind": ("POST", "/v1/keys", {"kind": "rk"}, 400, "not_one_of", "/kind"),
    "a scope unknown": (
        *("POST", "/v1/keys", {"kind": "sk", "scopes": ["read", "root"]}),
        *(400, "not_one_of", "/scopes/1"),
    ),
    "no scope": ("POST", "/v1/keys", {"kind": "sk", "scopes": []}, 400, "too_short", "/scopes"),
    "a browser that may do all": (
        *("POST", "/v1/keys", {"kind": "pk", "scopes": ["admin"]}),
        *(400, "not_allowed", "/scopes"),
    ),
    "a key unknown": ("DELETE", "/v1/keys/key_0", None, 404, "key_not_found", None),
    "a unit unknown": ("GET", "/v1/units/nobody", None, 404, "unit_not_found", None),
    "a unit unknown, erased": ("DELETE", "/v1/units/nobody", None, 404, "unit_not_found", None),
    "a unit with a line feed": ("GET", "/v1/units/a%0Ab", None, 400, "bad_format", "/unit_id"),
    "a unit too long": ("GET", f"/v1/units/{'a' * 129}", None, 400, "too_long", "/unit_id"),
    "a unit not UTF-8": ("GET", "/v1/units/%FF", None, 400, "bad_format", "/unit_id"),
    "a clock that is no time": ("POST", "/v1/clock", {"now": "noon"}, 400, "bad_time", "/now"),
    "a clock of the machine": (
        *("POST", "/v1/clock", {"now": "2030-01-01T00:00:00Z"}),
        *(409, "clock_not_external", None),
    ),
    "a path of nothing": ("GET", "/v1/nothing", None, 404, "no_such_route", None),
    "a method of nothing": ("PUT", ONE, {}, 405, "method_not_allowed", None),
}

# patches of the store: (patch, code, pointer)
BAD_SETTINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "zone": ({"time_zone": "Mars/Olympus"}, "unknown_time_zone", "/time_zone"),
    "zone as a path": ({"time_zone": "../../etc/passwd"}, "unknown_time_zone", "/time_zone"),
    "zone as a folder": ({"time_zone": "Europe"}, "unknown_time_zone", "/time_zone"),
    "currency": ({"currency": "eur"}, "unknown_currency", "/currency"),
    "all held out": ({"holdout": 1}, "too_large", "/holdout"),
    "cost rate": ({"default_cost_rate": -0.1}, "too_small", "/default_cost_rate"),
    "window": ({"abandonment_window": "1 day"}, "bad_format", "/abandonment_window"),
    "no window": ({"abandonment_window": "0s"}, "out_of_range", "/abandonment_window"),
    "endless window": ({"abandonment_window": "999999999d"}, "out_of_range", "/abandonment_window"),
    "rate of zero": ({"fx_rates": {"USD": 0}}, "bad_rate", "/fx_rates/USD"),
    "rate below zero": ({"fx_rates": {"USD": "-1.1"}}, "bad_rate", "/fx_rates/USD"),
    "rate of NaN": ({"fx_rates": {"USD": "NaN"}}, "bad_rate", "/fx_rates/USD"),
    "rate without end": ({"fx_rates": {"USD": "0." + "3" * 40}}, "bad_rate", "/fx_rates/USD"),
    "rate true": ({"fx_rates": {"USD": True}}, "wrong_type", "/fx_rates/USD"),
    "rate of nothing": ({"fx_rates": {"XXX": 1}}, "unknown_currency", "/fx_rates/XXX"),
    "own rate": ({"fx_rates": {"EUR": 1}}, "own_currency", "/fx_rates/EUR"),
    "segment twice": (
        {"segments": [{"key": "vip", "conditions": {}}, {"key": "vip", "conditions": {}}]},
        *("given_twice", "/segments/1/key"),
    ),
    "segment of segments": (
        {"segments": [{"key": "vip", "conditions": {"segment": "new"}}]},
        *("circular", "/segments/0/conditions/segment"),
    ),
    "origin with a path": ({"origins": ["https://a.example/"]}, "bad_origin", "/origins/0"),
    "origin of a star": ({"origins": ["https://a.example", "*"]}, "bad_origin", "/origins/1"),
    "deadline": ({"deadline_ms": 5}, "too_small", "/deadline_ms"),
    "deadline with a point": ({"deadline_ms": 99.5}, "wrong_type", "/deadline_ms"),
    "stock": ({"out_of_stock": ["A", 7]}, "wrong_type", "/out_of_stock/1"),
    "unknown": ({"timezone": "UTC"}, "unknown_field", "/timezone"),
}


@pytest.fixture(scope="module")
def module_shop(module_open_shop: Callable[..., Shop]) -> Shop:
    shop = module_open_shop()
    assert shop.post(EXPERIMENTS, document()).status_code == 201
    return shop


def everything(shop: Shop) -> list[Any]:
    """Every row of the ledger that a request could have written."""
    with shop.database.read() as connection:
        tables = ("store", "api_key", "experiment", "variant", "policy_version", "event", "unit")
        return [connection.exec_driver_sql(f"SELECT * FROM {table}").all() for table in tables]


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_writes_nothing(module_shop: Shop, name: str) -> None:
    method, path, body, status, code, pointer = BAD[name]
    before = everything(module_shop)
    answer = module_shop.call(method, path, body)
    assert_problem(answer, status, code, pointer)
    assert everything(module_shop) == before


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_named_and_write_nothing(module_shop: Shop, name: str) -> None:
    patch, code, pointer = BAD_SETTINGS[name]
    before = everything(module_shop)
    assert_problem(module_shop.patch("/v1/store", patch, '"1"'), 400, code, pointer)
    assert everything(module_shop) == before


def assert_problem(answer: Any, status: int, code: str, pointer: str | None) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "errors"}
    assert (answer.status_code, problem["status"]) == (status, status), problem
    assert problem["detail"]
    if pointer is None:
        assert problem["code"] == code
    else:
        found = [error for error in problem["errors"] if error["pointer"] == pointer]
        assert [error["code"] for error in found] == [code], problem
        assert all(error["remedy"] for error in problem["errors"])


def test_a_body_of_two_megabytes_is_refused_before_it_is_read(shop: Shop) -> None:
    body = json.dumps(document(hypothesis="x" * 2_000_000)).encode()
    assert_problem(shop.post(EXPERIMENTS, body), 413, "body_too_large", None)


def test_a_stream_without_length_is_refused_at_the_limit(shop: Shop) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 64 * BODY_BYTES_MAX:
            sent += 65536
            yield b" " * 65536

    answer = shop.client.post(EXPERIMENTS, content=endless(), headers=shop.headers())
    assert_problem(answer, 413, "body_too_large", None)


def test_a_body_of_just_a_mebibyte_is_read(shop: Shop) -> None:
    body = json.dumps(document()).encode().ljust(BODY_BYTES_MAX)
    assert shop.post(EXPERIMENTS, body).status_code == 201
    assert shop.post(EXPERIMENTS, body + b" ").status_code == 413


def test_every_fault_of_a_document_is_named_at_once(shop: Shop) -> None:
    bad = document(colour=1, unit="crowd", attribution_window="a week")
    pointers = {error["pointer"] for error in shop.post(EXPERIMENTS, bad).json()["errors"]}
    assert pointers == {"/colour", "/unit", "/attribution_window"}


def test_a_hint_names_the_field_that_was_meant(shop: Shop) -> None:
    answer = shop.post("/v1/keys", {"kind": "sk", "scope": ["read"]})
    assert answer.json()["errors"][0]["remedy"].endswith("did you mean scopes?")
    answer = shop.post("/v1/keys", {"kind": "rk"})
    assert answer.json()["errors"][0]["remedy"] == "must be one of pk, sk"


def test_a_defect_is_a_problem_too_and_tells_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(shop.client.app.state.service.catalogue, "store", fails)
    answer = shop.client.get(EXPERIMENTS, headers=shop.headers(**{"X-Request-ID": "abc-1"}))
    assert_problem(answer, 500, "internal_error", None)
    assert "secret detail" not in answer.text
    assert answer.headers["x-request-id"] == "abc-1"
    assert any(getattr(r, "fields", {}).get("request_id") == "abc-1" for r in caplog.records)
