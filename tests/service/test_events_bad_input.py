"""Bad assigns and events: the right status, the field by name, and not a row written anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import inspect

from tests.service.conftest import Shop
from tests.service.hot_remedies import REMEDIES

ORDER = {
    "event_id": "new",
    "type": "order",
    "unit_id": "u",
    "order_id": "new",
    "amount": 1,
    "currency": "EUR",
}
REFUND = {"event_id": "new", "type": "refund", "order_id": "known"}
ASK = {"touchpoint": "checkout", "unit_id": "new"}


def order(**changes: Any) -> dict[str, Any]:
    return {**ORDER, **changes}


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"event_id": "new", "type": kind, "unit_id": "u", **more}


def hence(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def raw(value: dict[str, Any], old: str, new: str) -> bytes:
    return json.dumps(value).replace(old, new).encode()


FOREIGN = "the decision of another store"
MINE = "a decision of this store"
ITEM = {"sku": "A", "price": 1, "quantity": 1}

# name: (path, body, status, code, pointer); the key may do all but import
BAD: dict[str, tuple[str, Any, int, str, str | None]] = {
    "negative money": ("events", order(amount=-1), 400, "too_small", "/amount"),
    "money with a point": ("events", order(amount=12.9), 400, "wrong_type", "/amount"),
    "money as text": ("events", order(amount="12"), 400, "wrong_type", "/amount"),
    "money beyond all shops": ("events", order(amount=10**12 + 1), 400, "too_large", "/amount"),
    "money of 30 digits": ("events", order(amount=10**30), 400, "too_large", "/amount"),
    "money as NaN": ("events", raw(order(amount=7.5), "7.5", "NaN"), 400, "not_a_number", "/amount"),
    "negative cost": ("events", order(cost=-5), 400, "too_small", "/cost"),
    "a cost of null": ("events", order(cost=None), 400, "wrong_type", "/cost"),
    "negative refund": ("events", {**REFUND, "amount": -1}, 400, "too_small", "/amount"),
    "negative recovery": ("events", {**REFUND, "cost_recovered": -1}, 400, "too_small", "/cost_recovered"),
    "a refund in another currency": (
        "events",
        {**REFUND, "currency": "USD"},
        400,
        "currency_mismatch",
        "/currency",
    ),
    "a currency unknown": ("events", order(currency="EUX"), 400, "unknown_currency", "/currency"),
    "a currency in small letters": ("events", order(currency="eur"), 400, "unknown_currency", "/currency"),
    "no currency": (
        "events",
        {k: v for k, v in ORDER.items() if k != "currency"},
        400,
        "required",
        "/currency",
    ),
    "a rate of nothing": ("events", order(fx_rate=0), 400, "too_small", "/fx_rate"),
    "money no ledger can hold": (
        *("events", order(amount=10**12, currency="USD", fx_rate=1e9)),
        *(400, "out_of_range", "/fx_rate"),
    ),
    "300 items": ("events", order(items=[ITEM] * 300), 400, "too_long", "/items"),
    "a line's quantity": (
        "events",
        order(items=[{**ITEM, "quantity": 0}]),
        400,
        "too_small",
        "/items/0/quantity",
    ),
    "a line's field": (
        "events",
        order(items=[{**ITEM, "colour": 1}]),
        400,
        "unknown_field",
        "/items/0/colour",
    ),
    "a field unknown": ("events", order(total=1), 400, "unknown_field", "/total"),
    "a type unknown": ("events", event("purchase"), 400, "not_one_of", "/type"),
    "no type": ("events", {"event_id": "new"}, 400, "required", "/type"),
    "no event_id": (
        "events",
        {k: v for k, v in ORDER.items() if k != "event_id"},
        400,
        "required",
        "/event_id",
    ),
    "an event_id empty": ("events", order(event_id=""), 400, "too_short", "/event_id"),
    "an event_id of 129": ("events", order(event_id="x" * 129), 400, "too_long", "/event_id"),
    "an event_id of ours": ("events", order(event_id="rialto:1"), 400, "reserved_event_id", "/event_id"),
    "a line feed in an id": ("events", order(unit_id="a\nb"), 400, "bad_format", "/unit_id"),
    "a line feed after an id": ("events", order(unit_id="ab\n"), 400, "bad_format", "/unit_id"),
    "nobody": ("events", {k: v for k, v in ORDER.items() if k != "unit_id"}, 400, "unit_missing", "/unit_id"),
    "somebody twice": ("events", order(ids={"visitor": "v"}), 400, "unit_twice", "/ids"),
    "a kind unknown": (
        *("events", {**{k: v for k, v in ORDER.items() if k != "unit_id"}, "ids": {"cookie": "v"}}),
        *(400, "unknown_field", "/ids/cookie"),
    ),
    "a clock a day ahead": ("events", order(occurred_at=hence(days=1)), 400, "clock_ahead", "/occurred_at"),
    "100 days ago": (
        "events",
        order(occurred_at=hence(days=-100)),
        403,
        "import_scope_required",
        "/occurred_at",
    ),
    "a time without offset": (
        *("events", order(occurred_at="2026-01-01T00:00:00")),
        *(400, "bad_time", "/occurred_at"),
    ),
    "a slot without its decision": ("events", event("exposure"), 400, "required", "/decision_id"),
    "a decision made up": (
        "events",
        event("click", decision_id="d_x"),
        404,
        "decision_not_found",
        "/decision_id",
    ),
    "a decision of another store": (
        *("events", {"event_id": "new", "type": "click", "decision_id": FOREIGN}),
        *(404, "decision_not_found", "/decision_id"),
    ),
    "a decision of another unit": (
        *("events", order(unit_id="somebody else", decision_id=MINE)),
        *(400, "unit_mismatch", "/decision_id"),
    ),
    "a score above its scale": ("events", event("rating", score=6, scale=5), 400, "out_of_range", "/score"),
    "a scale of nothing": ("events", event("rating", score=0, scale=0), 400, "too_small", "/scale"),
    "a value of NaN": (
        *("events", raw(event("custom", name="n", value=7.5), "7.5", "NaN")),
        *(400, "not_a_number", "/value"),
    ),
    "properties within properties": (
        *("events", order(properties={"a": {"b": 1}})),
        *(400, "not_a_scalar", "/properties/a"),
    ),
    "65 properties": (
        *("events", order(properties={str(i): i for i in range(65)})),
        *(400, "too_long", "/properties"),
    ),
    "identify without a customer": (
        *("events", {"event_id": "new", "type": "identify", "ids": {"visitor": "v"}, "anonymous_id": "w"}),
        *(400, "unit_missing", "/ids/customer"),
    ),
    "a visitor of another customer": (
        *("events", event("identify", anonymous_id="linked")),
        *(409, "already_identified", "/anonymous_id"),
    ),
    "a customer as a visitor": (
        *("events", event("identify", anonymous_id="customer")),
        *(409, "identity_chain", "/anonymous_id"),
    ),
    "other content under a key": ("events", order(event_id="known"), 409, "conflict", "/event_id"),
    "another order of the id": ("events", order(order_id="known", amount=2), 409, "conflict", "/order_id"),
    "another refund of the id": (
        *("events", {**REFUND, "refund_id": "known", "amount": 2}),
        *(409, "conflict", "/refund_id"),
    ),
    "a list of 1,001": ("events", {"events": [ORDER] * 1001}, 400, "too_many", "/events"),
    "a list and more": ("events", {"events": [], "colour": 1}, 400, "unknown_field", "/colour"),
    "a list that is none": ("events", {"events": {}}, 400, "wrong_type", "/events"),
    "an experiment unknown": ("assign", {**ASK, "experiment": "ghost"}, 404, "experiment_not_found", None),
    "no touchpoint": ("assign", {"unit_id": "new"}, 400, "required", "/touchpoint"),
    "a touchpoint in capitals": (
        "assign",
        {**ASK, "touchpoint": "Checkout"},
        400,
        "bad_format",
        "/touchpoint",
    ),
    "an ask with a field unknown": ("assign", {**ASK, "user": "x"}, 400, "unknown_field", "/user"),
    "an ask of two": ("assign", {**ASK, "ids": {"visitor": "v"}}, 400, "unit_twice", "/ids"),
    "an id of 129": ("assign", {**ASK, "unit_id": "x" * 129}, 400, "too_long", "/unit_id"),
    "a context of lists": (
        "assign",
        {**ASK, "context": {"tags": ["a"]}},
        400,
        "not_a_scalar",
        "/context/tags",
    ),
    "a context of 65": (
        *("assign", {**ASK, "context": {str(i): i for i in range(65)}}),
        *(400, "too_many", "/context"),
    ),
    "a cart's price": (
        *("assign", {**ASK, "context": {"cart": [{"sku": "A", "price": -1}]}}),
        *(400, "too_small", "/context/cart/0/price"),
    ),
    "a cart of 201": (
        *("assign", {**ASK, "context": {"cart": [{"sku": "A"}] * 201}}),
        *(400, "too_many", "/context/cart"),
    ),
    "a cart that is none": (
        *("assign", {**ASK, "context": {"cart": ""}}),
        *(400, "wrong_type", "/context/cart"),
    ),
    "history without import": (
        *("assign", {**ASK, "occurred_at": hence(days=-1)}),
        *(403, "import_scope_required", "/occurred_at"),
    ),
    "a preview without import": ("assign", {**ASK, "mode": "preview"}, 403, "import_scope_required", "/mode"),
    "a mode unknown": ("assign", {**ASK, "mode": "dry"}, 400, "not_one_of", "/mode"),
    "a variant without force": ("assign", {**ASK, "variant": "socks"}, 400, "not_forced", "/variant"),
    "a propensity above one": (
        *("assign", {**ASK, "mode": "forced", "variant": "socks", "propensity": 1.5}),
        *(400, "too_large", "/propensity"),
    ),
    "a batch of 1,001": ("assign/batch", {"requests": [ASK] * 1001}, 400, "too_long", "/requests"),
}

# with a key that may import
BAD_IMPORT: dict[str, tuple[str, Any, int, str, str | None]] = {
    "forced without a variant": (
        "assign",
        {**ASK, "mode": "forced", "propensity": 0.5},
        400,
        "required",
        "/variant",
    ),
    "forced without propensity": (
        *("assign", {**ASK, "mode": "forced", "variant": "socks"}),
        *(400, "required", "/propensity"),
    ),
    "forced to a ghost": (
        *("assign", {**ASK, "mode": "forced", "variant": "ghost", "propensity": 0.5}),
        *(400, "unknown_variant", "/variant"),
    ),
    "an ask from tomorrow": (
        "assign",
        {**ASK, "occurred_at": hence(days=1)},
        400,
        "clock_ahead",
        "/occurred_at",
    ),
    "an ask before all calendars": (
        *("assign", {**ASK, "occurred_at": "0001-01-01T00:00:00+14:00"}),
        *(400, "out_of_range", "/occurred_at"),
    ),
    "an event before all calendars": (
        *("events", order(occurred_at="0001-01-01T00:00:00+14:00")),
        *(400, "out_of_range", "/occurred_at"),
    ),
}


@pytest.fixture(scope="module")
def module_shop(module_open_shop: Callable[..., Shop]) -> Shop:
    shop = module_open_shop()
    shop.running()
    foreign = Shop(shop.client, shop.database, shop.other, shop.keys)
    foreign.running()
    sent = [
        {**ORDER, "event_id": "known", "order_id": "known"},
        {**REFUND, "event_id": "known refund", "refund_id": "known", "amount": 1},
        {"event_id": "link", "type": "identify", "ids": {"customer": "customer"}, "anonymous_id": "linked"},
    ]
    assert shop.post("/v1/events", {"events": sent}).json()["accepted"] == 3
    return shop


@pytest.fixture(scope="module")
def decisions(module_shop: Shop) -> dict[str, str]:
    foreign = Shop(module_shop.client, module_shop.database, module_shop.other, module_shop.keys)
    ask = {"touchpoint": "checkout", "unit_id": "mine"}
    made = {
        MINE: module_shop.post("/v1/assign", ask).json()["decision_id"],
        FOREIGN: foreign.post("/v1/assign", ask).json()["decision_id"],
    }
    for one in (module_shop, foreign):
        assert one.get("/v1/store/summary").status_code == 200  # folded: nothing moves any more
    return made


@pytest.fixture(scope="module")
def plain_key(module_shop: Shop) -> str:
    return module_shop.key_with("assign", "events")


def rows(shop: Shop) -> dict[str, Any]:
    with shop.database.read() as connection:
        return {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in TABLES
        }


TABLES = (
    *("store", "api_key", "experiment", "variant", "policy_version", "candidate_set", "unit", "person"),
    *("assignment", "decision_context", "shown", "event", "event_unit", "unit_event", "mark", "unit_key"),
    *("event_by_key", "progress"),
    *("order_balance", "unit_total", "cell", "cart_timer"),
    *("archive", "archive_file", "archived_event", "archived_late", "archived_order"),
    *("enrolment_features", "guardrail_change", "operations_mark", "answer_count", "analysis"),
)


def filled(body: Any, decisions: dict[str, str]) -> Any:
    if isinstance(body, dict) and body.get("decision_id") in decisions:
        return {**body, "decision_id": decisions[body["decision_id"]]}
    return body


def refuse(shop: Shop, decisions: dict[str, str], name: str, key: str | None) -> None:
    path, body, status, code, pointer = {**BAD, **BAD_IMPORT}[name]
    before = rows(shop)
    answer = shop.post(f"/v1/{path}", filled(body, decisions), key=key)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "errors"}
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    if pointer is not None:
        assert [error["pointer"] for error in problem["errors"]] == [pointer], problem
        assert problem["errors"][0]["remedy"]
    assert problem["detail"].endswith(REMEDIES.get(name, ""))
    assert rows(shop) == before


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_writes_nothing(
    module_shop: Shop, plain_key: str, decisions: dict[str, str], name: str
) -> None:
    refuse(module_shop, decisions, name, plain_key)


@pytest.mark.parametrize("name", BAD_IMPORT)
def test_bad_history_is_named_and_writes_nothing(
    module_shop: Shop, decisions: dict[str, str], name: str
) -> None:
    refuse(module_shop, decisions, name, None)


@pytest.mark.parametrize("name", [name for name, case in BAD.items() if case[0] == "events"])
def test_in_a_list_it_stands_in_its_place_and_the_others_are_kept(
    module_shop: Shop, plain_key: str, decisions: dict[str, str], name: str
) -> None:
    _, body, status, code, _ = BAD[name]
    if isinstance(body, bytes) or "events" in body:
        return  # the list itself is at fault
    good = {"event_id": f"good {name}", "type": "custom", "unit_id": "u", "name": "n"}
    answer = module_shop.post("/v1/events", {"events": [filled(body, decisions), good]}, key=plain_key)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["accepted"], told["duplicates"]) == (1, 0)
    (refused,) = told["rejected"]
    assert (refused["index"], refused["problem"]["status"], refused["problem"]["code"]) == (0, status, code)


def test_every_table_is_watched(module_shop: Shop) -> None:
    with module_shop.database.read() as connection:
        names = inspect(connection).get_table_names()
    assert set(names) - {"alembic_version"} == set(TABLES)
