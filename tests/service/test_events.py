"""What `wire.md` says of events, rule by rule, over the running service."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from service.ledger import schema
from service.ledger.verify import verify
from tests.service.conftest import Shop

START = "2026-03-01T12:00:00Z"


def ask(shop: Shop, **who: Any) -> dict[str, Any]:
    return shop.post("/v1/assign", {"touchpoint": "checkout", **who}).json()


def send(shop: Shop, *events: dict[str, Any], key: str | None = None) -> tuple[int, int, list[str]]:
    """Accepted, duplicates, and the codes of the rejected."""
    numbered = [{"event_id": f"e{next(NUMBERS)}", **event} for event in events]
    told = shop.post("/v1/events", {"events": numbered}, key=key).json()
    return told["accepted"], told["duplicates"], [one["problem"]["code"] for one in told["rejected"]]


NUMBERS = itertools.count()


def order(order_id: str = "o", amount: int = 1000, **more: Any) -> dict[str, Any]:
    who = {} if {"ids", "decision_id"} & set(more) else {"unit_id": "u"}
    return {
        "type": "order",
        "order_id": order_id,
        "amount": amount,
        "currency": "EUR",
        "cost": 400,
        **who,
        **more,
    }


def total(shop: Shop, metric: str, part: str = "numerator") -> int:
    """Of a metric over all variants."""
    report = shop.get("/v1/experiments/checkout-addon/report?matured=false").json()
    return sum(variant["metrics"][metric][part] or 0 for variant in report["variants"])


def summary(shop: Shop) -> dict[str, Any]:
    return shop.get("/v1/store/summary").json()


@pytest.fixture
def clocked(simulated_shop: Shop) -> Shop:
    simulated_shop.post("/v1/clock", {"now": START})
    simulated_shop.running()
    return simulated_shop


def test_the_same_event_twice_counts_once_alone_and_in_a_list(shop: Shop) -> None:
    one = {"event_id": "1", **order()}
    assert shop.post("/v1/events", one).json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert shop.post("/v1/events", one).json() == {"accepted": 0, "duplicates": 1, "rejected": []}
    assert shop.post("/v1/events", {"events": [one, one]}).json()["duplicates"] == 2
    assert summary(shop)["revenue"] == 1000


def test_an_order_and_a_refund_are_known_by_their_own_ids_too(shop: Shop) -> None:
    refund = {"type": "refund", "order_id": "o", "refund_id": "r", "amount": 100}
    assert send(shop, order(), refund) == (2, 0, [])
    assert send(shop, order(), refund) == (0, 2, [])  # new event_ids
    assert send(shop, order(amount=999), {**refund, "amount": 99}) == (0, 0, ["conflict", "conflict"])
    assert send(shop, {**refund, "refund_id": "s"}) == (1, 0, [])
    assert (summary(shop)["refunded"], summary(shop)["refunded_orders"]) == (200, 1)


def test_a_conflict_alone_is_409_and_the_first_stands(shop: Shop) -> None:
    shop.post("/v1/events", {"event_id": "1", **order()})
    answer = shop.post("/v1/events", {"event_id": "1", **order(amount=5)})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["errors"][0]["pointer"] == "/event_id"
    assert summary(shop)["revenue"] == 1000


def test_of_two_in_one_list_the_first_stands(shop: Shop) -> None:
    assert send(shop, order(amount=5), order(amount=6), order(amount=5)) == (1, 1, ["conflict"])
    assert summary(shop)["revenue"] == 5


def test_ahead_by_five_minutes_is_clamped_and_flagged(clocked: Shop) -> None:
    ask(clocked, unit_id="u")
    assert send(clocked, order("a", occurred_at="2026-03-01T12:05:00Z")) == (1, 0, [])
    assert send(clocked, order("b", occurred_at="2026-03-01T12:05:01Z")) == (0, 0, ["clock_ahead"])
    with clocked.database.read() as connection:
        row = connection.exec_driver_sql("SELECT occurred_at_us, received_at_us, is_clamped FROM event").one()
    assert row[0] == row[1] == int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
    assert row[2] == 1
    assert total(clocked, "aov") == 1000


def test_older_than_ninety_days_needs_the_scope_import(clocked: Shop) -> None:
    plain = clocked.key_with("events")
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    edge, beyond = (now - timedelta(days=90)).isoformat(), (now - timedelta(days=90, seconds=1)).isoformat()
    assert send(clocked, order("a", occurred_at=edge), key=plain) == (1, 0, [])
    assert send(clocked, order("b", occurred_at=beyond), key=plain) == (0, 0, ["import_scope_required"])
    assert send(clocked, order("b", occurred_at=beyond)) == (1, 0, [])


BROWSER = {
    "product_view": {"sku": "A"},
    "cart": {"cart_id": "c"},
    "checkout_started": {"cart_id": "c"},
}
SERVER = {
    "message_opened": {},
    "abandonment": {"cart_id": "c"},
    "order": {"order_id": "o", "amount": 1, "currency": "EUR"},
    "refund": {"order_id": "o"},
    "cancel": {"order_id": "o"},
    "order_adjusted": {"order_id": "o"},
    "rating": {"score": 1, "scale": 5},
    "identify": {"anonymous_id": "v"},
    "custom": {"name": "n"},
}


def test_a_browser_may_send_what_a_browser_sees_and_nothing_else(shop: Shop) -> None:
    shop.running()
    decision = {"decision_id": ask(shop, unit_id="u")["decision_id"]}
    key = shop.keys.publishable_key
    for kind in ("exposure", "click", "accept", "decline"):
        assert send(shop, {"type": kind, **decision}, key=key) == (1, 0, [])
        assert send(shop, {"type": kind, "unit_id": "u"}, key=key) == (0, 0, ["required"])
    for kind, more in BROWSER.items():
        assert send(shop, {"type": kind, "unit_id": "u", **more}, key=key) == (1, 0, [])
    for kind, more in SERVER.items():
        told = send(shop, {"type": kind, "unit_id": "u", **decision, **more}, key=key)
        assert told == (0, 0, ["secret_key_required"]), kind
    assert (total(shop, "conversion_rate"), summary(shop)["orders"]) == (0, 0)


def test_a_beacon_is_plain_text_with_its_key_in_the_address(shop: Shop) -> None:
    shop.running()
    decision_id = ask(shop, unit_id="u")["decision_id"]
    body = json.dumps({"event_id": "1", "type": "exposure", "decision_id": decision_id})
    plain = {"Content-Type": "text/plain;charset=UTF-8"}
    path = f"/v1/events?key={shop.keys.publishable_key}"
    assert shop.client.post(path, content=body, headers=plain).json()["accepted"] == 1
    secret = shop.client.post(f"/v1/events?key={shop.keys.secret_key}", content=body, headers=plain)
    assert secret.status_code == 401
    report = shop.get("/v1/experiments/checkout-addon/report").json()
    assert report["units_exposed"] == 1


def test_a_take_waits_for_its_exposure(shop: Shop) -> None:
    shop.running()
    made = [ask(shop, unit_id=f"u{i}") for i in range(30)]
    treated = [one["decision_id"] for one in made if one["variant"] == "socks"]
    send(shop, *({"type": "accept", "decision_id": decision_id} for decision_id in treated))
    assert (total(shop, "take_rate"), total(shop, "take_rate", "denominator")) == (0, 0)
    send(shop, *({"type": "exposure", "decision_id": one["decision_id"]} for one in made))
    assert total(shop, "take_rate") == len(treated)
    report = shop.get("/v1/experiments/checkout-addon/report").json()
    control, socks = (variant["metrics"]["take_rate"] for variant in report["variants"])
    assert (control["value"], control["reason"], socks["value"]) == (None, "no_offer", 1)


@pytest.mark.parametrize("arrival", list(itertools.permutations(range(4)))[::3])
def test_refunds_and_orders_commute(shop: Shop, arrival: tuple[int, ...]) -> None:
    """1,000 less min(700 + 600, 1,000) leaves nothing; 300 too much; a cancel finds nothing left."""
    shop.running()
    ask(shop, unit_id="u")
    facts = [
        order(),
        {"type": "refund", "order_id": "o", "amount": 700, "cost_recovered": 100},
        {"type": "refund", "order_id": "o", "amount": 600},
        {"type": "cancel", "order_id": "o"},
    ]
    for place in arrival:
        assert send(shop, facts[place]) == (1, 0, [])
        assert summary(shop)["orders"] in (0, 1)  # folded in between
    told = summary(shop)
    wanted = {"orders": 1, "revenue": 1000, "refunded": 1000, "over_refunded": 300, "refunded_orders": 1}
    assert {name: told[name] for name in wanted} == wanted
    assert (told["orphan_refunds"], told["orphan_refunded"]) == (0, 0)
    assert total(shop, "margin_per_unit") == 1000 - 400 - 1000 + 100
    assert total(shop, "cancel_rate") == total(shop, "conversion_rate") == 1
    assert verify(shop.database).is_exact


def test_an_orphan_refund_is_kept_counted_and_taken_up_when_its_order_comes(shop: Shop) -> None:
    send(shop, {"type": "refund", "order_id": "o", "amount": 300})
    told = summary(shop)
    assert (told["orphan_refunds"], told["orphan_refunded"], told["refunded"]) == (1, 300, 0)
    send(shop, order())
    told = summary(shop)
    assert (told["orphan_refunds"], told["orphan_refunded"], told["refunded"]) == (0, 0, 300)


def test_the_orders_unit_wins_over_the_refunds(shop: Shop) -> None:
    shop.running()
    ask(shop, unit_id="u")
    ask(shop, unit_id="other")
    send(shop, order(), {"type": "refund", "order_id": "o", "amount": 400, "unit_id": "other"})
    assert (total(shop, "refund_rate"), total(shop, "refund_rate", "denominator")) == (1, 1)
    assert total(shop, "revenue_per_unit") == 600


def test_ids_name_kinds_exactly_and_unit_id_all_of_them(shop: Shop) -> None:
    shop.running(unit="session")
    ask(shop, ids={"session": "a"})
    send(shop, order("1", ids={"visitor": "a"}), order("2", ids={"customer": "a"}))
    assert total(shop, "conversion_rate") == 0
    send(shop, order("3", ids={"session": "a"}), order("4", unit_id="a"))
    assert total(shop, "aov", "denominator") == 2


def test_an_event_reaches_what_its_decision_belongs_to(shop: Shop) -> None:
    shop.running()
    decision_id = ask(shop, unit_id="u")["decision_id"]
    assert send(shop, order("1", ids={"customer": "c"}, decision_id=decision_id)) == (1, 0, [])
    assert send(shop, order("2", decision_id=decision_id)) == (1, 0, [])
    assert total(shop, "aov", "denominator") == 2
    assert send(shop, order("3", unit_id="w", decision_id=decision_id)) == (0, 0, ["unit_mismatch"])


def link(customer: str, visitor: str) -> dict[str, Any]:
    return {"type": "identify", "ids": {"customer": customer}, "anonymous_id": visitor}


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_the_arrival_of_a_link_does_not_matter(clocked: Shop, when: str) -> None:
    """v1 and v2 are customer c: the earliest stands, the outcomes of the later are its own."""
    variants = unlike(clocked)
    first, second = variants
    if when == "before":
        send(clocked, link("c", first), link("c", second))
    clocked.post("/v1/clock", {"now": "2026-03-01T13:00:00Z"})
    early = ask(clocked, unit_id=first)
    clocked.post("/v1/clock", {"now": "2026-03-01T14:00:00Z"})
    late = ask(clocked, unit_id=second)
    if when == "between":
        send(clocked, link("c", first), link("c", second))
    send(clocked, order("1", ids={"visitor": second}), order("2", ids={"customer": "c"}))
    send(clocked, {"type": "exposure", "decision_id": late["decision_id"]})
    if when == "after":
        send(clocked, link("c", first), link("c", second))
    report = clocked.get("/v1/experiments/checkout-addon/report").json()
    told = {variant["key"]: variant for variant in report["variants"]}
    assert report["units_assigned"] == 1
    mine = told[early["variant"]]
    assert (mine["assigned"], mine["exposed"], mine["metrics"]["aov"]["denominator"]) == (1, 1, 2)
    for unit in variants:  # the earliest serves
        again = ask(clocked, unit_id=unit)
        assert (again["decision_id"], again["variant"]) == (early["decision_id"], early["variant"])
    with clocked.database.read() as connection:
        cells = connection.execute(select(schema.cell.c.sums)).scalars()
        [sums] = [sums for sums in cells if sums]
    assert sums.get("crossover", 0) == (0 if when == "before" else 1)
    assert verify(clocked.database).is_exact


def unlike(shop: Shop) -> tuple[str, str]:
    """Two visitors who get different variants."""
    seen: dict[str, str] = {}
    for i in range(100):
        body = {"touchpoint": "checkout", "unit_id": f"v{i}", "mode": "preview"}
        seen.setdefault(shop.post("/v1/assign", body).json()["variant"], f"v{i}")
        if len(seen) == 2:
            return seen["none"], seen["socks"]
    raise AssertionError("one variant for all")


def test_links_do_not_chain_and_the_first_stands(shop: Shop) -> None:
    assert send(shop, link("c1", "v1"), link("c1", "v2")) == (2, 0, [])
    assert send(shop, link("c1", "v1")) == (1, 0, [])  # said again, by another event
    assert send(shop, link("c2", "v1")) == (0, 0, ["already_identified"])
    assert send(shop, link("c3", "c1")) == (0, 0, ["identity_chain"])
    assert send(shop, link("v1", "v9")) == (0, 0, ["identity_chain"])
    assert send(shop, link("v1", "v1")) == (0, 0, ["identity_chain"])  # a visitor of c1's already
    assert send(shop, link("x", "x"), link("x", "x"), link("c7", "x")) == (2, 0, ["identity_chain"])
    assert send(shop, link("c5", "v5"), link("c6", "v5")) == (1, 0, ["already_identified"])


def test_an_id_linked_to_itself_is_visitor_and_customer_at_once(shop: Shop) -> None:
    shop.running()
    ask(shop, ids={"visitor": "x"})
    send(shop, order(ids={"customer": "x"}))
    assert total(shop, "conversion_rate") == 0
    send(shop, link("x", "x"))
    assert total(shop, "conversion_rate") == 1


def test_a_session_is_nobodys_but_its_own(shop: Shop) -> None:
    shop.running(unit="session")
    ask(shop, unit_id="s1")
    ask(shop, unit_id="s2")
    send(shop, link("s1", "s2"), order(ids={"session": "s2"}))
    assert total(shop, "conversion_rate", "denominator") == 2
    assert total(shop, "conversion_rate") == 1


def test_carts_are_given_up_in_their_time_and_closed_by_orders(clocked: Shop) -> None:
    """k1 closed by its order, k2 by an order without cart, k3 given up, k4 still open, k3 restated late."""
    ask(clocked, unit_id="u")
    carts = [{"type": "cart", "unit_id": "u", "cart_id": f"k{i}"} for i in (1, 2)]
    send(clocked, *carts, order("1", cart_id="k1"), order("2"))
    clocked.post("/v1/clock", {"now": "2026-03-01T13:00:00Z"})
    send(clocked, {"type": "checkout_started", "unit_id": "u", "cart_id": "k3"})
    clocked.post("/v1/clock", {"now": "2026-03-02T12:59:59Z"})
    assert (
        total(clocked, "cart_abandonment_rate"),
        total(clocked, "cart_abandonment_rate", "denominator"),
    ) == (0, 3)
    send(clocked, {"type": "cart", "unit_id": "u", "cart_id": "k4"})
    clocked.post("/v1/clock", {"now": "2026-03-02T13:00:00Z"})
    assert (
        total(clocked, "cart_abandonment_rate"),
        total(clocked, "cart_abandonment_rate", "denominator"),
    ) == (1, 4)
    send(clocked, order("3", occurred_at="2026-03-01T20:00:00Z"))
    assert total(clocked, "cart_abandonment_rate") == 0
    assert verify(clocked.database).is_exact


def test_without_a_cost_the_margin_is_null_with_the_reason(shop: Shop) -> None:
    shop.running()
    ask(shop, unit_id="u")
    bare = {name: value for name, value in order("1").items() if name != "cost"}
    items = [{"sku": "A", "price": 500, "quantity": 2, "cost": 150}]
    send(shop, {**bare, "items": items})
    assert total(shop, "margin_per_unit") == 700
    send(shop, {**bare, "order_id": "2", "items": [*items, {"sku": "B", "price": 1, "quantity": 1}]})
    report = shop.get("/v1/experiments/checkout-addon/report").json()
    metrics = [variant["metrics"]["margin_per_unit"] for variant in report["variants"]]
    assert "cost_unknown" in {metric.get("reason") for metric in metrics}
    etag = shop.get("/v1/store").headers["etag"]
    assert shop.patch("/v1/store", {"default_cost_rate": 0.3}, etag).status_code == 200
    send(shop, {**bare, "order_id": "3"}, {"type": "order_adjusted", "order_id": "2", "cost_delta": 100})
    assert total(shop, "margin_per_unit") == 700 + 700 + 900


def test_an_order_without_a_rate_is_kept_and_reported_as_unconverted(shop: Shop) -> None:
    shop.running()
    ask(shop, unit_id="u")
    send(shop, order("1", currency="SEK"), order("2", currency="JPY", amount=161, fx_rate=0.00625))
    told = summary(shop)
    assert (told["orders"], told["unconverted_orders"], told["revenue"]) == (1, 1, 101)
    assert total(shop, "conversion_rate") == 1
    report = shop.get("/v1/experiments/checkout-addon/report").json()
    reasons = {variant["metrics"]["aov"].get("reason") for variant in report["variants"]}
    assert "unconverted" in reasons


def test_what_was_converted_is_never_converted_again(shop: Shop) -> None:
    def rate(value: str) -> None:
        etag = shop.get("/v1/store").headers["etag"]
        assert shop.patch("/v1/store", {"fx_rates": {"USD": value}}, etag).status_code == 200

    rate("0.9")
    send(shop, order("1", currency="USD"))
    assert summary(shop)["revenue"] == 900
    rate("0.5")
    send(shop, {"type": "refund", "order_id": "1", "amount": 100}, order("2", currency="USD"))
    assert (summary(shop)["revenue"], summary(shop)["refunded"]) == (900 + 500, 90)


def test_events_of_nobody_in_an_experiment_are_counted_as_unattributed(shop: Shop) -> None:
    shop.running()
    send(shop, order("1", unit_id="stranger"), {"type": "custom", "unit_id": "stranger", "name": "n"})
    assert (summary(shop)["unattributed_events"], summary(shop)["orders"]) == (2, 1)
    ask(shop, unit_id="stranger")
    assert summary(shop)["unattributed_events"] == 0


def test_a_custom_metric_added_later_is_read_from_the_first_day(shop: Shop) -> None:
    shop.running()
    for unit in ("u1", "u2", "u3"):
        assert shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": unit}).status_code == 200
    visit = {"event_id": "v", "type": "custom", "name": "visit", "unit_id": "u1"}
    assert shop.post("/v1/events", visit).json()["accepted"] == 1
    assert shop.get("/v1/experiments/checkout-addon/report").status_code == 200
    etag = shop.get("/v1/experiments/checkout-addon").headers["ETag"]
    metrics = [{"key": "visit_rate", "kind": "proportion", "event": "visit"}]
    assert shop.patch("/v1/experiments/checkout-addon", {"metrics": metrics}, etag).status_code == 200
    report = shop.get("/v1/experiments/checkout-addon/report?metric=visit_rate").json()
    assert sum(variant["metrics"]["visit_rate"]["numerator"] for variant in report["variants"]) == 1
    assert verify(shop.database).is_exact
