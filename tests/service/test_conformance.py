"""Sentences of the wire contract that a client would try to show false, over the running service."""

from __future__ import annotations

from typing import Any

import pytest

from service.settings import ClockKind
from tests.service.conftest import Shop, document

BEGINNING = "0001-01-01T00:00:00Z"
BEFORE_IT = "0001-01-01T00:00:00+23:59"
IDS = ("event_id", "unit_id", "sku", "ids/visitor")


def view(sku: str = "SHOE-1", **more: Any) -> dict[str, Any]:
    return {"event_id": "e", "type": "product_view", "unit_id": "u", "sku": sku, **more}


def fault(answer: Any) -> tuple[int, str, str]:
    found = answer.json()["errors"][0]
    return answer.status_code, found["code"], found["pointer"]


@pytest.mark.parametrize("character", ["\n", "\r", "\x00", "\x1f", "\x7f", "\x85", "\x9f"])
@pytest.mark.parametrize("place", IDS)
def test_no_id_holds_a_control_character_not_even_at_its_end(shop: Shop, place: str, character: str) -> None:
    """`$` also matches before a last line feed; such a unit could be assigned, but never read or erased."""
    text = "abc" + character
    event = view() if place != "ids/visitor" else {"event_id": "e", "type": "product_view", "sku": "a"}
    event |= {"ids": {"visitor": text}} if place == "ids/visitor" else {place: text}
    assert fault(shop.post("/v1/events", event)) == (400, "bad_format", f"/{place}")
    assert fault(shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": text}))[:2] == (
        400,
        "bad_format",
    )


@pytest.mark.parametrize("text", ["é", "e\u0301", " ", "a/b?c#d%", "😀" * 128, "a\u2028b", "."])
def test_any_other_id_can_be_assigned_read_and_erased(shop: Shop, text: str) -> None:
    shop.running()
    assert shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": text}).json()["decision_id"]
    path = "/v1/units/" + "".join(f"%{byte:02x}" for byte in text.encode())
    assert shop.get(path).json()["unit_ids"] == [text]
    assert shop.call("DELETE", path).json() == {"erased_units": 1}
    assert shop.get(path).status_code == 404


@pytest.mark.parametrize("at", [BEGINNING, BEFORE_IT, "1969-12-31T23:59:59Z"])
def test_a_time_that_cannot_be_reckoned_with_is_refused_and_harms_no_report(shop: Shop, at: str) -> None:
    """One event at the beginning of the calendar once stopped the folding of its store for good."""
    shop.running()
    ask = {"touchpoint": "checkout", "unit_id": "u", "occurred_at": at}
    assert fault(shop.post("/v1/assign", ask)) == (400, "out_of_range", "/occurred_at")
    assert fault(shop.post("/v1/events", view(occurred_at=at))) == (400, "out_of_range", "/occurred_at")
    assert shop.post("/v1/events", view(occurred_at="1970-01-01T00:00:00Z")).status_code == 200
    ask["occurred_at"] = "1970-01-01T01:00:00+01:00"
    assert shop.post("/v1/assign", ask).json()["reason"] == "assigned"
    for path in ("/v1/experiments/checkout-addon/report", "/v1/ledger/events", "/v1/store/summary"):
        assert shop.get(path).status_code == 200, path


def test_the_clock_stays_inside_the_calendar(simulated_shop: Shop) -> None:
    shop = simulated_shop
    for now in ("9000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", BEGINNING, "1969-12-31T23:59:59Z"):
        assert fault(shop.post("/v1/clock", {"now": now})) == (400, "out_of_range", "/now")
    shop.post("/v1/clock", {"now": "2030-01-01T00:00:00Z"})
    shop.running(policy={"kind": "thompson"})
    assert shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": "u"}).json()["decision_id"]
    last = shop.post("/v1/clock", {"now": "8999-12-31T23:59:59Z"})
    assert last.status_code == 200, last.text
    assert shop.get("/v1/experiments/checkout-addon/report").json()["units_assigned"] == 1


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        *(
            (f"from={text}", "?from")
            for text in ("20260101", "2026-W01-1", "2026-02-30", "2026-01-01T00:00:00")
        ),
        (f"to={BEGINNING}", "?to"),
        ("from=9999-12-31T23:59:59Z", "?from"),
        ("from=2026-01-01%0A", "?from"),
        ("matured=perhaps", "?matured"),
        ("metric=aov&metric=aov", "?metric"),
        ("metrics=aov", "?metrics"),
    ],
)
def test_a_reports_query_is_read_strictly(shop: Shop, query: str, pointer: str) -> None:
    shop.running()
    answer = shop.get(f"/v1/experiments/checkout-addon/report?{query}")
    assert (fault(answer)[0], fault(answer)[2]) == (400, pointer)


def test_a_batch_answers_each_request_in_its_place(shop: Shop) -> None:
    shop.running()
    good = {"touchpoint": "checkout", "unit_id": "u"}
    wrong = [1, None, "u", [], {**good, "colour": "red"}, {**good, "experiment": "ghost"}]
    answer = shop.post("/v1/assign/batch", {"requests": [good, *wrong, good]})
    first, *problems, last = answer.json()["decisions"]
    assert [p["problem"]["status"] for p in problems] == [400, 400, 400, 400, 400, 404]
    assert (first["reason"], last["reason"]) == ("assigned", "sticky")
    assert first["decision_id"] == last["decision_id"]


@pytest.mark.parametrize(
    "patch", [{"hypotesis": None}, {"policy": {"flor": None}}, {"stop_rule": {"on": None}}]
)
def test_a_null_of_an_unknown_field_is_refused_in_an_experiments_patch(shop: Shop, patch: Any) -> None:
    etag = f'"{shop.running()["version"]}"'
    answer = shop.patch("/v1/experiments/checkout-addon", patch, etag)
    assert fault(answer)[:2] == (400, "unknown_field")
    assert (
        shop.patch("/v1/experiments/checkout-addon", {"name": None, "policy": None}, etag).status_code == 200
    )


def test_a_null_of_an_unknown_setting_is_refused(shop: Shop) -> None:
    etag = shop.get("/v1/store").headers["etag"]
    assert fault(shop.patch("/v1/store", {"timezone": None}, etag)) == (400, "unknown_field", "/timezone")
    assert shop.patch("/v1/store", {"fx_rates": {"USD": None}}, etag).status_code == 200


@pytest.mark.parametrize("rate", ["1_0", " 1 ", "٣", "1e5", "+1", ".5", "Infinity", ""])
def test_a_rate_in_text_is_plain_decimal(shop: Shop, rate: str) -> None:
    etag = shop.get("/v1/store").headers["etag"]
    answer = shop.patch("/v1/store", {"fx_rates": {"USD": rate}}, etag)
    assert fault(answer) == (400, "bad_rate", "/fx_rates/USD")
    exact = shop.patch("/v1/store", {"fx_rates": {"USD": "0.8547"}}, etag).json()
    assert exact["fx_rates"] == {"USD": "0.8547"}


def test_options_and_405_name_every_method_of_a_path(shop: Shop) -> None:
    spec = shop.client.get("/schema/openapi.json").json()
    for path, methods in spec["paths"].items():
        url = path.replace("{", "").replace("}", "")
        documented = {method.upper() for method in methods} | {"OPTIONS"}
        for method in ("OPTIONS", "PUT"):
            answer = shop.call(method, url)
            assert set(answer.headers["allow"].split(", ")) == documented, (method, path)


def test_a_step_of_life_takes_no_body_null_or_an_empty_object(shop: Shop) -> None:
    shop.running()
    for step, body in (("pause", None), ("resume", b"null"), ("pause", {})):
        assert shop.post(f"/v1/experiments/checkout-addon/{step}", body).status_code == 200
    answer = shop.post("/v1/experiments/checkout-addon/resume", {"now": True})
    assert fault(answer) == (400, "unknown_field", "/now")


def test_a_media_type_names_its_charset_once(shop: Shop) -> None:
    for path in ("/schema", "/metrics", "/rialto.js"):
        assert shop.client.get(path).headers["content-type"].count("charset") == 1


@pytest.mark.parametrize("kind", ["exposure", "click", "accept", "decline", "message_opened"])
def test_what_happened_to_an_offer_names_its_decision(shop: Shop, kind: str) -> None:
    event = {"event_id": "e", "type": kind, "unit_id": "u"}
    assert fault(shop.post("/v1/events", event)) == (400, "required", "/decision_id")


def test_only_the_clock_of_a_simulated_store_is_set(shop: Shop) -> None:
    assert shop.client.app.state.service.settings.clock is ClockKind.SYSTEM
    assert shop.post("/v1/clock", {"now": "2030-01-01T00:00:00Z"}).status_code == 409


@pytest.mark.parametrize("value", [10**40, "x" * 4097, {}, [1]])
def test_an_events_properties_are_scalars_that_every_client_can_read(shop: Shop, value: Any) -> None:
    answer = shop.post("/v1/events", view(properties={"fine": 1, "a/b": value}))
    assert (answer.status_code, fault(answer)[2]) == (400, "/properties/a~1b")


@pytest.mark.parametrize("steps", [("start", "stop"), ("archive",)])
def test_a_patch_adds_no_variant_to_what_is_over(shop: Shop, steps: tuple[str, ...]) -> None:
    made = shop.post("/v1/experiments", document()).json()
    for step in steps:
        made = shop.post(f"/v1/experiments/checkout-addon/{step}").json()
    variants = [*made["document"]["variants"], {"key": "hat", "offer": {"kind": "upsell", "sku": "HAT"}}]
    path, etag = "/v1/experiments/checkout-addon", f'"{made["version"]}"'
    answer = shop.patch(path, {"variants": variants}, etag)
    assert (answer.status_code, answer.json()["code"]) == (409, "experiment_over")
    assert shop.patch(path, {"name": "Socks, in hindsight"}, etag).status_code == 200
