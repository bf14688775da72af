"""Guardrails inside the allocation, through the service: struck out, killed, resumed; ramps and breakers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from experiments.allocation.proposal import replayed
from service.ledger import schema
from service.ledger.verify import verify
from tests.service.conftest import Shop
from tests.service.test_definitions import START, bought, clock, enrol, policy, send

PATH = "/v1/experiments/checkout-addon"
HOUR = timedelta(hours=1)
POLICY = {
    "kind": "thompson",
    "objective": "margin_per_unit",
    "control_share": 0.2,
    "burn_in": 20,
    "cadence": "60s",
    "breakers": {"outcomes_below": None, "exposure_gap": None},
}
Rates = dict[str, tuple[float, int]]
RAILS = [{"metric": "conversion_rate", "warn": 0.01, "throttle": 0.02, "kill": 0.04}]
CAP = {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1", "price": 900, "cost": 300}}


def trade(shop: Shop, at: timedelta, count: int, rates: Rates, name: str) -> None:
    """`count` units at once; of each variant every so-manieth buys, for so much."""
    clock(shop, at)
    bought_by: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for unit, variant in enrol(shop, [f"{name}-{number}" for number in range(count)]).items():
        rate, amount = rates[variant]
        place = seen[variant] = seen.get(variant, 0) + 1
        if int(place * rate) > int((place - 1) * rate):
            bought_by.append(bought(unit, amount + place % 7, cost=0))
    send(shop, bought_by)


def changes(shop: Shop) -> list[tuple[Any, ...]]:
    items = shop.get(f"{PATH}/guardrail-changes").json()["items"]
    return [(c["subject"], c["variant"], c["before"], c["after"], c["cause"]) for c in items]


def states(shop: Shop) -> dict[str, str]:
    return {variant["key"]: variant["state"] for variant in shop.get(PATH).json()["variants"]}


def version_body(shop: Shop) -> dict[str, Any]:
    with shop.database.read() as connection:
        rows = connection.execute(schema.policy_version.select().order_by(schema.policy_version.c.number))
        return rows.all()[-1].body


TOXIC: Rates = {"none": (0.6, 2000), "socks": (0.3, 8000)}
"""Twice the margin per unit at half the orders."""


def test_the_best_seller_that_costs_orders_is_struck_out_then_killed_and_resumed_by_a_person(
    simulated_shop: Shop,
) -> None:
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy=POLICY, guardrails=RAILS, attribution_window="1h")
    trade(shop, timedelta(minutes=5), 600, TOXIC, "a")
    clock(shop, timedelta(days=1, hours=2))
    found = policy(shop)
    best = found["sets"][0]["prob_best"]
    assert best["socks"] < 0.01, "it would win every draw by margin, and is struck out of nearly all"
    (drawn,) = found["draws"]
    assert drawn["guardrails"] == ["conversion_rate"]
    assert drawn["prob_struck_out"]["socks"] > 0.99
    assert replayed(version_body(shop)["draws"][0]) == best, "drawn again from what the version keeps"
    assert changes(shop) == [("conversion_rate", "socks", "unknown", "throttle", "guardrail")]
    assert found["sets"][0]["shares"]["socks"] == pytest.approx(0.02)
    # Held at 0.02 it would take months to 1,000 units: forced ones are evidence too.
    clock(shop, timedelta(days=1, hours=3))
    units = [f"f-{number}" for number in range(2600)]
    for start in range(0, len(units), 1000):
        requests = [
            {"touchpoint": "checkout", "unit_id": unit, "mode": "forced", "variant": arm, "propensity": 0.5}
            for number, unit in enumerate(units[start : start + 1000])
            for arm in (("none", "socks")[number % 2],)
        ]
        assert shop.post("/v1/assign/batch", {"requests": requests}).status_code == 200
    orders = [
        bought(unit, 2000 if number % 2 == 0 else 8000, cost=0)
        for number, unit in enumerate(units)
        if (number // 2) % 10 < (6 if number % 2 == 0 else 3)
    ]
    send(shop, orders)
    clock(shop, timedelta(days=2, hours=6))
    assert states(shop)["socks"] == "killed"
    assert policy(shop)["sets"][0]["shares"] == {"none": 1.0}
    last = shop.get(f"{PATH}/guardrail-changes").json()["items"][-1]
    assert (last["before"], last["after"], last["kind"]) == ("throttle", "kill", "guardrail")
    assert last["numbers"]["prob_breach"]["kill"] > 0.99
    assert min(last["numbers"]["units"], last["numbers"]["units_control"]) >= 1000
    assert last["numbers"]["margins"] == {"warn": 0.01, "throttle": 0.02, "kill": 0.04}
    assert shop.post(f"{PATH}/variants/socks/resume").status_code == 200
    assert changes(shop)[-1] == ("conversion_rate", "socks", "kill", "throttle", "resumed")
    assert policy(shop)["sets"][0]["shares"]["socks"] == pytest.approx(0.02)
    paged = shop.get(f"{PATH}/guardrail-changes?limit=1").json()
    rest = shop.get(f"{PATH}/guardrail-changes?cursor={paged['next_cursor']}").json()
    assert len(paged["items"]) + len(rest["items"]) == len(changes(shop)) == 3
    assert shop.get("/v1/experiments/none-such/guardrail-changes").status_code == 404
    assert verify(shop.database).is_exact


def test_a_decision_explains_what_was_struck_out_and_capped(simulated_shop: Shop) -> None:
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy=POLICY, guardrails=RAILS, attribution_window="1h")
    trade(shop, timedelta(minutes=5), 600, TOXIC, "a")
    clock(shop, timedelta(days=1, hours=2))
    made = shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": "later"}).json()
    why = shop.get(f"/v1/decisions/{made['decision_id']}/explain").json()
    assert why["prob_struck_out"]["socks"] > 0.99
    assert why["capped"] == {"socks": 0.02}
    assert why["guardrails"] == {"socks": {"conversion_rate": "throttle"}}


def test_a_variant_added_later_takes_its_steps(simulated_shop: Shop) -> None:
    shop = simulated_shop
    clock(shop, timedelta(0))
    ramp = {"steps": [0.01, 0.2], "every": "1d", "units": 5}
    shop.running(policy={**POLICY, "ramp": ramp}, attribution_window="1h")
    same: Rates = dict.fromkeys(("none", "socks", "cap"), (0.5, 2000))
    trade(shop, timedelta(minutes=5), 300, same, "a")
    clock(shop, timedelta(days=1, hours=2))
    assert policy(shop)["ramps"] == []
    assert shop.post(f"{PATH}/variants", CAP).status_code == 201
    (ramping,) = policy(shop)["ramps"]
    assert (ramping["variant"], ramping["step"], ramping["cap"]) == ("cap", 1, 0.01)

    def share() -> float:
        wide = [s for s in policy(shop)["sets"] if "cap" in s["candidates"]]
        return wide[0]["shares"]["cap"]

    assert share() == pytest.approx(0.01)
    trade(shop, timedelta(days=1, hours=3), 900, same, "b")
    clock(shop, timedelta(days=2, hours=4))
    (ramping,) = policy(shop)["ramps"]
    assert (ramping["step"], ramping["cap"]) == (2, 0.2)
    assert 0.01 < share() <= 0.2
    trade(shop, timedelta(days=2, hours=5), 300, same, "c")
    clock(shop, timedelta(days=3, hours=6))
    assert policy(shop)["ramps"][0]["cap"] is None
    causes = [v["cause"] for v in policy(shop, everything=True)["versions"]]
    assert "ramp" in causes


@pytest.mark.parametrize("action", ["hold", "pause"])
def test_outcomes_that_stop_arriving_hold_the_shares_or_pause(simulated_shop: Shop, action: str) -> None:
    """60 orders an hour for a day, then none: within 4 hours the breaker trips."""
    shop = simulated_shop
    clock(shop, timedelta(0))
    breakers = {"action": action}
    shop.running(policy={**POLICY, "breakers": breakers}, attribution_window="1h", guardrails=RAILS)
    same: Rates = dict.fromkeys(("none", "socks"), (0.5, 2000))
    nothing: Rates = dict.fromkeys(("none", "socks"), (0.0, 0))
    for hour in range(24):
        trade(shop, hour * HOUR + timedelta(minutes=30), 30, same, f"h{hour}")
    clock(shop, 24 * HOUR)
    assert policy(shop)["alarms"] == []
    (before, *_) = policy(shop)["sets"]
    for hour in range(24, 28):
        clock(shop, hour * HOUR + timedelta(minutes=30))
        if shop.get(PATH).json()["state"] == "running":
            trade(shop, hour * HOUR + timedelta(minutes=30), 30, nothing, f"h{hour}")
    clock(shop, 28 * HOUR + timedelta(minutes=40))
    found = policy(shop)
    assert changes(shop)[-1][:4] == ("outcomes", None, "closed", "tripped")
    assert [alarm["name"] for alarm in found["alarms"]] == ["breaker_outcomes"]
    assert {b["breaker"]: b["state"] for b in found["breakers"]}["outcomes"] == "tripped"
    assert shop.get(PATH).json()["state"] == ("paused" if action == "pause" else "running")
    if action == "pause":
        assert shop.post(f"{PATH}/resume").status_code == 200
        clock(shop, 28 * HOUR + timedelta(minutes=45))
        assert shop.get(PATH).json()["state"] == "running", "who resumes it is not overruled"
        return
    assert found["held"]["reason"] == "breaker"
    assert found["sets"][0]["shares"] == before["shares"]
    for hour in range(29, 33):
        trade(shop, hour * HOUR, 30, same, f"h{hour}")
    clock(shop, 33 * HOUR)
    assert policy(shop)["alarms"] == []
    assert changes(shop)[-1][:4] == ("outcomes", None, "tripped", "closed")
    assert verify(shop.database).is_exact


def test_marks_are_one_an_hour_and_forgotten_after_eight_days(simulated_shop: Shop) -> None:
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy=POLICY)
    for hours in (1, 1.5, 2, 30, 240):
        clock(shop, timedelta(hours=hours))
    with shop.database.read() as connection:
        rows = connection.execute(schema.operations_mark.select()).all()
    assert len(rows) == 1
    assert rows[0].at_us == round((START.timestamp() + 240 * 3600) * 1e6)
    assert np.array(list(rows[0].totals.values())).tolist() == [[0, 0, 0], [0, 0, 0]]
