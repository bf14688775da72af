"""The store's settings and clock, the ledger as lists, a person's journey, and being forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from service.ledger.verify import verify
from tests.service.conftest import Shop

NDJSON = {"Accept": "application/x-ndjson"}


def at(shop: Shop, now: str) -> Any:
    return shop.post("/v1/clock", {"now": now})


def traffic(shop: Shop, people: int = 5) -> list[str]:
    """Assignments, and for the first person a whole journey over two ids."""
    assert at(shop, "2026-01-01T00:00:00Z").status_code == 200
    shop.running()
    decisions: list[str] = []
    for number in range(people):
        body = {"touchpoint": "checkout", "unit_id": f"u/{number}", "context": {"device": "phone"}}
        decisions.append(shop.post("/v1/assign", body).json()["decision_id"])
    events = [
        {"event_id": "x1", "type": "exposure", "decision_id": decisions[0]},
        {"event_id": "i1", "type": "identify", "ids": {"customer": "anna"}, "anonymous_id": "u/0"},
        {
            **{"event_id": "o1", "type": "order", "unit_id": "anna", "order_id": "o-1"},
            **{"amount": 5000, "currency": "EUR", "cost": 2000},
        },
        {
            **{"event_id": "r1", "type": "rating", "unit_id": "anna", "score": 4, "scale": 5},
            "comment": "Anna says hello",
        },
        {
            "event_id": "o2",
            "type": "order",
            "unit_id": "u/1",
            "order_id": "o-2",
            "amount": 1,
            "currency": "EUR",
        },
    ]
    answer = shop.post("/v1/events", {"events": events})
    assert answer.json()["accepted"] == len(events), answer.text
    assert at(shop, "2026-01-02T00:00:00Z").status_code == 200
    return decisions


def test_decisions_are_paged_filtered_and_streamed(simulated_shop: Shop) -> None:
    decisions = traffic(simulated_shop)
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        query = f"limit=2{cursor and '&cursor=' + cursor}"
        page = simulated_shop.get(f"/v1/ledger/decisions?{query}").json()
        seen += [item["decision_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == decisions
    lines = simulated_shop.get("/v1/ledger/decisions", headers=NDJSON)
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in lines.text.splitlines()]
    assert [row["decision_id"] for row in rows] == decisions
    assert {row["propensity"] for row in rows} <= {0.5, 0.1, 0.9}
    one = simulated_shop.get("/v1/ledger/decisions?unit=u/3").json()["items"]
    assert [row["unit_id"] for row in one] == ["u/3"]
    late = simulated_shop.get("/v1/ledger/decisions?from=2026-01-01T00:00:00.000001Z").json()["items"]
    assert late == []
    assert len(simulated_shop.get("/v1/ledger/decisions?limit=3", headers=NDJSON).text.splitlines()) == 3


def test_events_are_listed_by_unit_and_experiment(simulated_shop: Shop) -> None:
    decisions = traffic(simulated_shop)
    every = simulated_shop.get("/v1/ledger/events").json()["items"]
    assert [event["event_id"] for event in every][:5] == ["x1", "i1", "o1", "r1", "o2"]
    named = simulated_shop.get("/v1/ledger/events?experiment=checkout-addon").json()["items"]
    assert [(e["type"], e["decision_id"]) for e in named] == [("exposure", decisions[0])]
    of_unit = simulated_shop.get("/v1/ledger/events?unit=u/1").json()["items"]
    assert [(e["order_id"], e["unit_ids"]) for e in of_unit] == [("o-2", ["u/1"])]
    assert simulated_shop.get("/v1/ledger/events?unit=nobody").json()["items"] == []


def test_a_refund_that_names_nobody_is_in_the_journey_of_its_order(simulated_shop: Shop) -> None:
    """As a payment provider sends it, before the order or after it; erased, its words go too."""
    traffic(simulated_shop)
    said = {"occurred_at": "2026-01-01T12:00:00Z", "properties": {"note": "too small"}}
    refunds = [
        {"event_id": f"r{i}", "type": "refund", "order_id": "o-9", "refund_id": f"{i}", "amount": i, **said}
        for i in (8, 9)
    ]
    order = {"event_id": "o9", "type": "order", "unit_id": "u/1", "order_id": "o-9", "amount": 900}
    simulated_shop.post("/v1/events", {"events": refunds[:1]})
    before = simulated_shop.get("/v1/ledger/events?unit=u/1").json()["items"]
    assert [event["order_id"] for event in before] == ["o-2"]  # nobody knows yet whose it is
    order |= {"currency": "EUR", "occurred_at": said["occurred_at"]}
    answer = simulated_shop.post("/v1/events", {"events": [order, refunds[1]]})
    assert answer.json()["accepted"] == 2, answer.text
    listed = simulated_shop.get("/v1/ledger/events?unit=u/1").json()["items"]
    assert [event["event_id"] for event in listed] == ["o2", "r8", "o9", "r9"]
    assert {tuple(event["unit_ids"]) for event in listed} == {("u/1",)}
    steps = simulated_shop.get("/v1/units/u%2F1").json()["journey"]
    told = [step["event"]["event_id"] for step in steps if step["kind"] == "event"]
    assert sorted(told) == ["o2", "o9", "r8", "r9"]
    simulated_shop.call("DELETE", "/v1/units/u%2F1")
    everything = simulated_shop.get("/v1/ledger/events", headers=NDJSON).text
    assert "r9" in everything
    assert "too small" not in everything
    assert "u/1" not in everything


def test_a_journey_goes_over_the_whole_person(simulated_shop: Shop) -> None:
    traffic(simulated_shop)
    by_visitor = simulated_shop.get("/v1/units/u%2F0").json()
    by_customer = simulated_shop.get("/v1/units/anna").json()
    assert by_visitor == by_customer
    assert (by_customer["unit_ids"], by_customer["links"]) == (["anna", "u/0"], ["u/0"])
    kinds = [step["kind"] for step in by_customer["journey"]]
    assert (kinds[0], kinds.count("event")) == ("assignment", 4)
    times = [step["at"] for step in by_customer["journey"]]
    assert times == sorted(times)
    assert simulated_shop.get("/v1/units/anna", key=simulated_shop.other.secret_key).status_code == 404


def folded(shop: Shop) -> list[Any]:
    tables = ("cell", "unit_total", "order_balance", "assignment", "event_unit", "person")
    with shop.database.read() as connection:
        return [connection.exec_driver_sql(f"SELECT * FROM {table}").all() for table in tables]


def test_erasing_a_person_forgets_the_person_and_changes_no_sum(simulated_shop: Shop) -> None:
    traffic(simulated_shop)
    before = folded(simulated_shop)
    assert len(before[0]) > 0
    foreign = simulated_shop.call("DELETE", "/v1/units/anna", key=simulated_shop.other.secret_key)
    assert foreign.status_code == 404
    erased = simulated_shop.call("DELETE", "/v1/units/u%2F0")
    assert (erased.status_code, erased.json()) == (200, {"erased_units": 2})
    for unit_id in ("anna", "u%2F0"):
        assert simulated_shop.get(f"/v1/units/{unit_id}").status_code == 404
    everything = simulated_shop.get("/v1/ledger/events", headers=NDJSON).text
    everything += simulated_shop.get("/v1/ledger/decisions", headers=NDJSON).text
    assert "nna" not in everything
    assert "u/0" not in everything
    assert folded(simulated_shop) == before
    with simulated_shop.database.read() as connection:
        columns = "SELECT context FROM decision_context"
        assert len(connection.exec_driver_sql(columns).all()) <= 4
    at(simulated_shop, "2026-01-03T00:00:00Z")
    report = verify(simulated_shop.database)
    assert report.is_exact, report.examples


def test_an_erased_id_comes_back_as_somebody_new(simulated_shop: Shop) -> None:
    """Also when the erased unit was the last one: its number must not be given to another."""
    decisions = traffic(simulated_shop, people=1)
    simulated_shop.call("DELETE", "/v1/units/u%2F1")
    simulated_shop.call("DELETE", "/v1/units/anna")
    body = {"touchpoint": "checkout", "unit_id": "somebody else"}
    fresh = simulated_shop.post("/v1/assign", body).json()
    assert (fresh["reason"], fresh["decision_id"] in decisions) == ("assigned", False)
    assert len(simulated_shop.get("/v1/units/somebody%20else").json()["journey"]) <= 2


def test_the_clock_is_set_forwards_only(simulated_shop: Shop) -> None:
    first = at(simulated_shop, "2026-03-01T12:00:00+01:00")
    assert first.json() == {"now": "2026-03-01T11:00:00Z", "steps": 0}
    assert at(simulated_shop, "2026-03-01T11:00:00Z").status_code == 200, "standing still is allowed"
    back = at(simulated_shop, "2026-03-01T10:59:59Z")
    assert (back.status_code, back.json()["code"]) == (409, "clock_backwards")
    created = simulated_shop.running()["created_at"]
    assert created == "2026-03-01T11:00:00Z"


def test_the_settings_as_the_contract_names_them(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(is_patient=False)
    answer = shop.get("/v1/store")
    assert answer.json() == {
        **{"time_zone": "Europe/Rome", "currency": "EUR", "holdout": 0, "default_cost_rate": None},
        **{"cost_recovered_rate": 0, "abandonment_window": "24h", "fx_rates": {}, "segments": []},
        **{"out_of_stock": [], "origins": [], "deadline_ms": 150},
    }
    patch = {
        "fx_rates": {"USD": 0.92, "JPY": "0.0061"},
        "segments": [{"key": "phones", "conditions": {"device": "phone"}}],
        "out_of_stock": ["B", "A", "A"],
        "default_cost_rate": 0.4,
    }
    changed = shop.patch("/v1/store", patch, answer.headers["etag"])
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert changed.json()["fx_rates"] == {"USD": "0.92", "JPY": "0.0061"}
    assert changed.json()["out_of_stock"] == ["A", "B"]
    assert changed.json()["segments"] == patch["segments"]
    removed = shop.patch("/v1/store", {"fx_rates": {"USD": None}, "default_cost_rate": None}, '"2"')
    assert (removed.json()["fx_rates"], removed.json()["default_cost_rate"]) == ({"JPY": "0.0061"}, None)
    assert shop.patch("/v1/store", removed.json(), '"3"').headers["etag"] == '"3"', "no change, no version"
    assert shop.patch("/v1/store", {"holdout": 0.1}, '"2"').status_code == 412


def test_the_currency_is_settled_with_the_first_event(simulated_shop: Shop) -> None:
    traffic(simulated_shop)
    etag = simulated_shop.get("/v1/store").headers["etag"]
    refused = simulated_shop.patch("/v1/store", {"currency": "USD"}, etag)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (409, "/currency")
