"""Assignments in memory: they answer what the ledger would, and are forgotten when that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.service.asking import ask, settings
from tests.service.conftest import Shop


def hits(shop: Shop) -> int:
    return shop.client.app.state.service.writer.sticky.hits


def writes(shop: Shop) -> int:
    with shop.database.read() as connection:
        return sum(
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("assignment", "shown", "mark", "unit")
        )


def test_a_unit_that_comes_back_is_answered_without_the_ledger(shop: Shop) -> None:
    shop.running()
    first = ask(shop, "u")
    before = writes(shop)
    assert ask(shop, "u") == {**first, "reason": "sticky"}
    assert (hits(shop), writes(shop)) == (1, before)


def test_after_a_restart_one_read_brings_it_back(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.running()
    first = ask(shop, "u")
    shop.client.app.state.service.writer.sticky.forget_numbers(None)
    assert [ask(shop, "u") for _ in range(2)] == [{**first, "reason": "sticky"}] * 2
    assert hits(shop) == 1


def test_what_is_shown_is_checked_at_each_call_and_put_on_record_once(shop: Shop) -> None:
    shop.running(policy={"kind": "fixed", "shares": {"none": 0.01, "socks": 0.99}})
    made = next(m for m in (ask(shop, f"u{i}") for i in range(20)) if m["variant"] == "socks")
    unit = next(f"u{i}" for i in range(20) if ask(shop, f"u{i}")["decision_id"] == made["decision_id"])
    settings(shop, out_of_stock=["SOCK-3"])
    hidden = [ask(shop, unit) for _ in range(3)]
    assert {one["reason"] for one in hidden} == {"not_eligible_now"}
    settings(shop, out_of_stock=[])
    assert ask(shop, unit)["reason"] == "sticky"
    shown = shop.get(f"/v1/decisions/{made['decision_id']}").json()["shown"]
    assert [step["what"] for step in shown] == ["offer", "not_eligible_now", "offer"]


def test_an_experiment_that_is_stopped_answers_nobody(shop: Shop) -> None:
    shop.running()
    ask(shop, "u")
    assert shop.post("/v1/experiments/checkout-addon/stop").status_code == 200
    body = {"experiment": "checkout-addon", "unit_id": "u"}
    made = shop.post("/v1/assign", body).json()
    assert (made["reason"], made["decision_id"]) == ("no_experiment", None)


def test_whoever_is_linked_is_served_by_the_persons_earliest_enrolment(shop: Shop) -> None:
    shop.running()
    first = ask(shop, "early")
    later = next(
        (unit, made)
        for unit, made in ((f"later{i}", ask(shop, f"later{i}")) for i in range(50))
        if made["variant"] != first["variant"]
    )
    for unit in ("early", later[0]):
        link: dict[str, Any] = {"event_id": unit, "type": "identify", "unit_id": "c", "anonymous_id": unit}
        assert shop.post("/v1/events", link).json()["accepted"] == 1
    assert ask(shop, later[0])["decision_id"] == first["decision_id"]
    assert ask(shop, later[0])["variant"] == first["variant"]


def test_who_is_erased_comes_back_as_somebody_else(shop: Shop) -> None:
    shop.running()
    first = ask(shop, "u")
    assert shop.call("DELETE", "/v1/units/u").json() == {"erased_units": 1}
    again = ask(shop, "u")
    assert again["reason"] == "assigned"
    assert again["decision_id"] != first["decision_id"]


def test_the_map_is_bounded_and_keeps_who_came_last(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(sticky_max=10)
    shop.running()
    for number in range(30):
        ask(shop, f"u{number}")
    ask(shop, "u25")
    sticky = shop.client.app.state.service.writer.sticky
    assert len(sticky) == 10
    assert [raw_id for _, raw_id in sticky._known] == [f"u{n}" for n in (*range(20, 25), *range(26, 30), 25)]


def test_when_the_map_is_full_a_sixteenth_goes_at_once(open_shop: Callable[..., Shop]) -> None:
    """One by one, each would cost as much as all that had gone before it."""
    shop = open_shop(sticky_max=64)
    shop.running()
    sticky = shop.client.app.state.service.writer.sticky
    sizes: list[int] = []
    for number in range(72):
        ask(shop, f"u{number}")
        sizes.append(len(sticky))
    assert sizes == [*range(1, 65), *range(60, 65), *range(60, 63)]
    assert [raw_id for _, raw_id in sticky._known] == [f"u{n}" for n in range(10, 72)]
