"""The drift alarm through the service: raised, published and shown, and cleared by nothing less."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from service.ledger.verify import verify
from tests.service.conftest import Shop
from tests.service.test_definitions import POLICY, bought, clock, enrol, policy, send

DAILY = 100
FADING = {"discount_half_life": "7d", "discount": "after_drift"}
EVEN = {"control_share": 0.45, "floor": 0.4}  # whoever is drawn, either has 200 units a week


def test_a_week_that_contradicts_the_weeks_before_raises_the_alarm(simulated_shop: Shop) -> None:
    """21 days at 20 %, then 60 %: the alarm is in the policy within the week, and old weeks begin to fade."""
    shop, rng = simulated_shop, np.random.default_rng(5)
    clock(shop, timedelta(0))
    shop.running(
        policy={**POLICY, **EVEN, **FADING, "objective": "conversion_rate", "cadence": "1h"},
        attribution_window="1h",
    )
    states: list[str] = []
    counted: list[float] = []
    for day in range(26):
        clock(shop, timedelta(days=day, hours=9))
        units = [f"u{day}-{number}" for number in range(DAILY)]
        enrol(shop, units)
        buyers = [unit for unit in units if rng.random() < (0.2 if day < 21 else 0.6)]
        send(shop, [bought(unit, 5000, cost=2000) for unit in buyers])
        clock(shop, timedelta(days=day, hours=23))
        found = policy(shop)["drift"] or {"state": "unknown"}  # the first version has looked at nothing
        states.append(found["state"])
        counted.append(sum(entry["n"] for entry in policy(shop)["sets"][0]["posteriors"].values()))
    assert states[:13] == ["unknown"] * 13
    assert set(states[16:21]) == {"steady"}, "14 closed days, and the version of the day after"
    assert states[-1] == "drifting"
    found = policy(shop)["drift"]
    assert found["discounting"]
    assert counted[20] >= 0.9 * 20 * DAILY, "until then all weeks count alike"
    assert counted[-1] < 0.6 * 25 * DAILY, "a week counts half as much as the next one"
    assert found["p_common"] < 0.0001 / 2
    assert found["recent"][1] > found["before"][1]
    assert found["changes"]["none"]["recent"] > found["changes"]["none"]["before"]
    assert verify(shop.database).is_exact


def test_fixed_shares_follow_no_results_and_have_no_alarm(simulated_shop: Shop) -> None:
    clock(simulated_shop, timedelta(0))
    simulated_shop.running(policy={"kind": "fixed"})
    clock(simulated_shop, timedelta(days=2))
    assert policy(simulated_shop)["drift"] is None
