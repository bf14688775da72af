"""What `wire.md` says of assign, rule by rule, over the running service."""

from __future__ import annotations

from typing import Any

import pytest

from service.ledger.verify import verify
from tests.service.asking import CART, EMPTY, NOTHING, ask, assigned, counts, edit, settings, unit_in
from tests.service.conftest import Shop, document


def test_a_repeated_call_answers_the_first_decision_whatever_the_shares_are_now(shop: Shop) -> None:
    shop.running(policy={"kind": "fixed", "shares": {"none": 0.25, "socks": 0.75}})
    first = [ask(shop, f"u{i}") for i in range(12)]
    assert {one["reason"] for one in first} == {"assigned"}
    assert {(one["variant"], one["propensity"]) for one in first} <= {("none", 0.25), ("socks", 0.75)}
    edit(shop, policy={"kind": "fixed", "shares": {"none": 0.9, "socks": 0.1}})
    again = [ask(shop, f"u{i}") for i in range(12)]
    assert again == [{**one, "reason": "sticky"} for one in first]
    assert ask(shop, "somebody new")["policy_version"] > first[0]["policy_version"]


@pytest.mark.parametrize("why", ["retired", "not_eligible_now", "in the cart", "paused"])
def test_an_assignment_stands_where_nothing_may_be_shown(shop: Shop, why: str) -> None:
    shop.running()
    unit = unit_in(shop, "socks")
    first, before = ask(shop, unit), assigned(shop)
    if why == "retired":
        shop.post("/v1/experiments/checkout-addon/variants/socks/retire")
    elif why == "not_eligible_now":
        settings(shop, out_of_stock=["SOCK-3"])
    elif why == "paused":
        shop.post("/v1/experiments/checkout-addon/pause")
    now = ask(shop, unit, context=CART if why == "in the cart" else {})
    reason = "not_eligible_now" if why == "in the cart" else why
    assert now == {**first, "offer": EMPTY, "reason": reason}
    assert assigned(shop) == before
    shown = shop.get(f"/v1/decisions/{first['decision_id']}").json()
    assert reason in str(shown)
    if why == "retired":
        shop.post("/v1/experiments/checkout-addon/variants/socks/resume")
    elif why == "not_eligible_now":
        settings(shop, out_of_stock=[])
    elif why == "paused":
        shop.post("/v1/experiments/checkout-addon/resume")
    assert ask(shop, unit) == first
    assert verify(shop.database).is_exact


def test_a_killed_variants_units_see_nothing_and_keep_their_variant(shop: Shop) -> None:
    shop.running()
    unit = unit_in(shop, "socks")
    before = assigned(shop)
    with shop.database.write() as connection:  # what a guardrail does
        connection.exec_driver_sql("UPDATE variant SET state = 'killed' WHERE key = 'socks'")
    shop.client.app.state.service.catalogue.drop(1)
    now = ask(shop, unit)
    assert (now["reason"], now["variant"], now["offer"]) == ("killed", "socks", EMPTY)
    assert assigned(shop) == before
    assert ask(shop, "newcomer")["reason"] == "no_eligible_variant"


@pytest.mark.parametrize(
    "case", ["in the cart", "the item itself", "out of stock", "audience", "paused", "holdout"]
)
def test_who_is_not_enrolled_leaves_no_trace(shop: Shop, case: str) -> None:
    shop.running(audience={"country": "IT"} if case == "audience" else {})
    context: dict[str, Any] = {"country": "RO"}
    if case == "in the cart":
        context |= CART
    elif case == "the item itself":
        context["item"] = {"sku": "SOCK-3"}
    elif case == "out of stock":
        settings(shop, out_of_stock=["SOCK-3"])
    elif case == "paused":
        shop.post("/v1/experiments/checkout-addon/pause")
    elif case == "holdout":
        settings(shop, holdout=0.999999)  # of 5 units one escapes in one run of 200,000
    reason = {"audience": "not_in_audience", "paused": "paused", "holdout": "holdout"}
    before = counts(shop)
    for i in range(5):
        made = ask(shop, f"u{i}", context=context)
        assert {name: made[name] for name in NOTHING} == NOTHING
        assert (made["reason"], made["variant"]) == (reason.get(case, "no_eligible_variant"), "none")
    assert counts(shop) == before
    assert sum(assigned(shop).values()) == 0


def test_no_experiment_and_no_id(shop: Shop) -> None:
    assert ask(shop) == {**NOTHING, "experiment": None, "variant": None, "reason": "no_experiment"}
    shop.running(unit="customer")
    made = ask(shop, ids={"visitor": "v"})
    assert (made["reason"], made["decision_id"]) == ("unit_id_missing", None)


def test_the_holdout_holds_its_share_of_units_for_good(shop: Shop) -> None:
    shop.running()
    settings(shop, holdout=0.3)
    requests = [{"touchpoint": "checkout", "unit_id": f"u{i}"} for i in range(1000)]
    first = shop.post("/v1/assign/batch", {"requests": requests}).json()["decisions"]
    held = [made["reason"] == "holdout" for made in first]
    assert 230 < sum(held) < 370  # 300 within 4.8 standard deviations
    again = shop.post("/v1/assign/batch", {"requests": requests}).json()["decisions"]
    assert [made["reason"] == "holdout" for made in again] == held
    assert {made["propensity"] for made in first} == {None, 0.5}
    settings(shop, holdout=0.9)
    sticky = shop.post("/v1/assign/batch", {"requests": requests}).json()["decisions"]
    assert [made["reason"] == "holdout" for made in sticky] == held  # the assigned stay assigned


@pytest.mark.parametrize("touchpoints", [("checkout", "checkout"), ("checkout", "cart")])
def test_experiments_of_one_layer_share_no_unit(shop: Shop, touchpoints: tuple[str, str]) -> None:
    here, there = touchpoints
    shop.running("first", layer="one", touchpoint=here)
    early = {ask(shop, f"early {i}")["experiment"] for i in range(20)}
    assert early == {"first"}
    shop.running("second", layer="one", touchpoint=there)
    places: dict[str, set[str]] = {}
    for i in range(20):
        for unit in (f"early {i}", f"late {i}"):
            for key in ("first", "second"):
                made = ask(shop, unit, experiment=key, touchpoint=here if key == "first" else there)
                if made["decision_id"]:
                    places.setdefault(unit, set()).add(key)
                else:
                    assert made["reason"] == "not_in_audience"
    assert all(places[f"early {i}"] == {"first"} for i in range(20))
    assert all(len(keys) == 1 for keys in places.values())
    assert {key for keys in places.values() for key in keys} == {"first", "second"}


def test_a_customers_visitors_keep_to_one_experiment_of_a_layer(shop: Shop) -> None:
    shop.running("first", layer="one")
    assert ask(shop, "v0")["experiment"] == "first"
    links = [
        {"event_id": f"l{i}", "type": "identify", "ids": {"customer": "c"}, "anonymous_id": f"v{i}"}
        for i in range(12)
    ]
    assert shop.post("/v1/events", {"events": links}).json()["accepted"] == 12
    shop.running("second", layer="one", touchpoint="cart")
    made = [ask(shop, f"v{i}", touchpoint="cart") for i in range(12)]
    assert {one["decision_id"] for one in made} == {None}


def test_the_first_experiment_by_priority_takes_the_unit(shop: Shop) -> None:
    shop.running("a-low")
    shop.running("b-high", priority=5, audience={"country": "IT"})
    assert ask(shop, "u1", context={"country": "IT"})["experiment"] == "b-high"
    assert ask(shop, "u2", context={"country": "RO"})["experiment"] == "a-low"
    assert ask(shop, "u3", context={"country": "IT"}, experiment="a-low")["experiment"] == "a-low"


@pytest.mark.parametrize("kind", ["visitor", "customer", "session"])
def test_the_unit_is_the_id_of_the_experiments_kind(shop: Shop, kind: str) -> None:
    shop.running(unit=kind)
    others = {k: "same" for k in ("visitor", "customer", "session") if k != kind}
    one = ask(shop, ids={kind: "a", **others})
    two = ask(shop, ids={kind: "b", **others})
    assert one["decision_id"] != two["decision_id"]
    assert ask(shop, "a")["decision_id"] == one["decision_id"]  # unit_id is the id in every kind


def test_every_request_is_a_unit_and_a_given_id_makes_a_retry_the_same(shop: Shop) -> None:
    shop.running(unit="request")
    made = [ask(shop, ids={"visitor": "v"})["decision_id"] for _ in range(3)]
    assert len(set(made)) == 3
    assert ask(shop, "retry")["decision_id"] == ask(shop, "retry")["decision_id"]
    order = {"type": "order", "amount": 500, "currency": "EUR", "cost": 1}
    events = [
        {**order, "event_id": "1", "order_id": "1", "ids": {"visitor": "v"}},
        {**order, "event_id": "2", "order_id": "2", "unit_id": "retry"},
        {**order, "event_id": "3", "order_id": "3", "ids": {"visitor": "v"}, "decision_id": made[1]},
    ]
    assert shop.post("/v1/events", {"events": events}).json()["accepted"] == 3
    report = shop.get("/v1/experiments/checkout-addon/report").json()
    orders = [variant["metrics"]["aov"]["denominator"] for variant in report["variants"]]
    assert sum(orders) == 1  # credited by the decision alone


def test_preview_writes_nothing_and_tells_what_would_be(shop: Shop) -> None:
    shop.running()
    before = counts(shop)
    seen = [ask(shop, f"u{i}", mode="preview") for i in range(6)]
    assert counts(shop) == before
    assert all(one["decision_id"] is None and one["propensity"] == 0.5 for one in seen)
    assert all(one["policy_version"] == 1 and one["reason"] == "assigned" for one in seen)
    made = [ask(shop, f"u{i}") for i in range(6)]
    assert [one["variant"] for one in made] == [one["variant"] for one in seen]
    before = counts(shop)
    assert ask(shop, "u0", mode="preview") == {**made[0], "reason": "sticky"}
    assert counts(shop) == before


def test_forced_records_what_history_chose(shop: Shop) -> None:
    shop.running()
    for i in range(8):
        variant = "socks" if i % 2 else "none"
        made = ask(
            shop,
            f"u{i}",
            mode="forced",
            variant=variant,
            propensity=0.125,
            occurred_at="2020-02-03T00:00:00+01:00",
        )
        assert (made["variant"], made["propensity"], made["reason"]) == (variant, 0.125, "forced")
    assert ask(shop, "u1", mode="forced", variant="none", propensity=0.5)["variant"] == "socks"
    report = shop.get("/v1/experiments/checkout-addon/report?from=2020-02-03&to=2020-02-04").json()
    assert [variant["assigned"] for variant in report["variants"]] == [4, 4]


def test_history_that_had_no_choice_enrols_nobody(shop: Shop) -> None:
    """Enrolling only the treatment of such units would compare them with nobody like them."""
    wide = [*document()["variants"], {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1"}}]
    shop.running(variants=wide)
    for unit, variant, reason in (
        ("a", "socks", "not_eligible_now"),
        ("b", "none", "forced"),
        ("c", "cap", "forced"),
    ):
        made = ask(shop, unit, mode="forced", variant=variant, propensity=0.5, context=CART)
        assert made["reason"] == reason
        assert (made["decision_id"] is None) == (variant == "socks")


def test_history_of_a_retired_variant_can_still_be_recorded(shop: Shop) -> None:
    wide = [*document()["variants"], {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1"}}]
    shop.running(variants=wide)
    assert shop.post("/v1/experiments/checkout-addon/variants/socks/retire").status_code == 200
    made = ask(shop, "a", mode="forced", variant="socks", propensity=0.5)
    assert made["variant"] == "socks"
    assert made["decision_id"] is not None


def test_a_batch_answers_in_order_with_problems_in_their_place(shop: Shop) -> None:
    shop.running()
    requests: list[Any] = [
        {"touchpoint": "checkout", "unit_id": "a"},
        {"touchpoint": "checkout", "unit_id": ""},
        {"touchpoint": "checkout", "unit_id": "a"},
        {"experiment": "ghost", "unit_id": "a"},
        {"touchpoint": "nowhere", "unit_id": "a"},
    ]
    first, empty, again, ghost, nowhere = shop.post("/v1/assign/batch", {"requests": requests}).json()[
        "decisions"
    ]
    assert (first["reason"], again["reason"]) == ("assigned", "sticky")
    assert first["decision_id"] == again["decision_id"]
    assert (empty["problem"]["status"], empty["problem"]["errors"][0]["pointer"]) == (400, "/unit_id")
    assert ghost["problem"]["status"] == 404
    assert nowhere["reason"] == "no_experiment"


def test_a_browser_sees_no_cost_no_propensity_and_no_share(shop: Shop) -> None:
    shop.running(policy={"kind": "fixed", "shares": {"none": 0.37, "socks": 0.63}})
    unit = unit_in(shop, "socks")
    assert ask(shop, unit)["offer"]["cost"] == 410
    for made in (ask(shop, unit, key=shop.keys.publishable_key), ask(shop, key=shop.keys.publishable_key)):
        assert made["propensity"] is None
        assert "cost" not in made["offer"]
        assert not {"410", "0.63", "0.37"} & {
            str(value) for value in [*made.values(), *made["offer"].values()]
        }
    batch = {"requests": [{"touchpoint": "checkout", "unit_id": "u"}]}
    assert shop.post("/v1/assign/batch", batch, key=shop.keys.publishable_key).status_code == 403


def test_a_browsers_segment_and_cost_are_ignored(shop: Shop) -> None:
    shop.running(audience={"segment": "vip"})
    context = {"segment": "vip", "cost": 1}
    assert ask(shop, context=context, key=shop.keys.publishable_key)["reason"] == "not_in_audience"
    assert ask(shop, context=context)["reason"] == "assigned"


def test_a_reassignment_is_a_new_enrolment(simulated_shop: Shop) -> None:
    shop = simulated_shop
    shop.post("/v1/clock", {"now": "2026-03-01T00:00:00Z"})
    assert (
        shop.post("/v1/experiments", document(attribution_window="1d", reassign_after="2d")).status_code
        == 201
    )
    shop.post("/v1/experiments/checkout-addon/start")
    first = ask(shop)
    shop.post("/v1/clock", {"now": "2026-03-02T23:59:59Z"})
    assert ask(shop) == {**first, "reason": "sticky"}
    shop.post("/v1/clock", {"now": "2026-03-03T00:00:00Z"})
    second = ask(shop)
    assert second["reason"] == "assigned"
    assert second["decision_id"] != first["decision_id"]
    assert ask(shop)["decision_id"] == second["decision_id"]
    assert sum(assigned(shop).values()) == 2
