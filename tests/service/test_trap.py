"""The trap: units that no offer could reach are not control units, however different they are."""

from __future__ import annotations

import math
from typing import Any

from service.ledger.verify import verify
from tests.service.conftest import Shop

UNITS = 1200
IN_CART = {"cart": [{"sku": "SOCK-3", "price": 1290, "quantity": 1}]}


def test_ineligible_units_appear_nowhere_and_no_effect_reads_as_none(shop: Shop) -> None:
    shop.running()
    arms, outside = enrol(shop)
    assert len(outside) == UNITS * 3 // 10
    sold = {unit: (9000 if unit in outside else 3000) for unit in bought(arms, outside)}
    events = [
        {
            **{"event_id": unit, "type": "order", "unit_id": unit, "order_id": unit},
            **{"amount": amount, "currency": "EUR", "cost": amount // 2},
        }
        for unit, amount in sold.items()
    ]
    for start in range(0, len(events), 1000):
        assert shop.post("/v1/events", {"events": events[start : start + 1000]}).json()["rejected"] == []
    report = shop.get("/v1/experiments/checkout-addon/report").json()
    assert report["units_assigned"] == UNITS - len(outside)
    told = {variant["key"]: variant for variant in report["variants"]}
    for key, units in arms.items():
        conversion = told[key]["metrics"]["conversion_rate"]
        assert (told[key]["assigned"], conversion["denominator"]) == (len(units), len(units))
        assert conversion["numerator"] == sum(unit in sold for unit in units)
        assert told[key]["metrics"]["aov"]["value"] == 3000
    for metric in ("conversion_rate", "revenue_per_unit", "margin_per_unit"):
        lift = told["socks"]["metrics"][metric]["lift_abs"]
        assert lift["ci_low"] < 0 < lift["ci_high"], metric
    assert shop.get("/v1/store/summary").json()["orders"] == len(sold)
    assert verify(shop.database).is_exact
    # The faulty reading that counts them as control: it must see an effect that is not there.
    as_control = {"none": arms["none"] + outside, "socks": arms["socks"]}
    low, high = lift_interval(as_control, sold)
    assert high < 0
    low, high = lift_interval(arms, sold)
    assert low < 0 < high


def enrol(shop: Shop) -> tuple[dict[str, list[str]], list[str]]:
    """Ask for everyone; units by variant, and those whose cart holds the offer already."""
    arms: dict[str, list[str]] = {"none": [], "socks": []}
    outside: list[str] = []
    for start in range(0, UNITS, 600):
        units = [f"u{i}" for i in range(start, start + 600)]
        requests = [
            {"touchpoint": "checkout", "unit_id": u, "context": IN_CART if i % 10 < 3 else {}}
            for i, u in enumerate(units)
        ]
        answer = shop.post("/v1/assign/batch", {"requests": requests}).json()
        for unit, made in zip(units, answer["decisions"], strict=True):
            if made["reason"] == "no_eligible_variant":
                assert made["decision_id"] is None
                assert made["offer"] == {"kind": "none"}
                outside.append(unit)
            else:
                arms[made["variant"]].append(unit)
    return arms, outside


def bought(arms: dict[str, list[str]], outside: list[str]) -> list[str]:
    """One in five of each arm, so that there is no effect at all; four in five of the others."""
    same = [unit for units in arms.values() for i, unit in enumerate(units) if i % 5 == 0]
    return same + [unit for i, unit in enumerate(outside) if i % 5]


def lift_interval(arms: dict[str, list[str]], sold: dict[str, Any]) -> tuple[float, float]:
    """95 % interval of the difference in conversion, by the normal approximation."""
    rates = {key: (sum(u in sold for u in units) / len(units), len(units)) for key, units in arms.items()}
    (control, n), (treated, m) = rates["none"], rates["socks"]
    half = 1.96 * math.sqrt(control * (1 - control) / n + treated * (1 - treated) / m)
    return treated - control - half, treated - control + half
