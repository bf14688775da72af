"""A delay model through the service: it learns before windows close, and corrections restate it exactly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from service.ledger.verify import verify
from tests.service.conftest import Shop
from tests.service.test_definitions import START, bought, clock, enrol, policy, send

POLICY = {
    "kind": "thompson",
    "objective": "margin_per_unit",
    "control_share": 0.3,
    "burn_in": 50,
    "cadence": "60s",
    "delay": "model",
}
DAY = timedelta(days=1)


def held(shop: Shop) -> list[tuple[str, ...]]:
    """All that the folder has made of the facts."""
    with shop.database.read() as connection:
        rows = connection.execute(text("select sums, products, histograms from cell order by cell_no"))
        return [tuple(map(str, row)) for row in rows]


def trade(shop: Shop, days: int, rng: np.random.Generator) -> list[str]:
    """120 units a day, a third of which buy within two days; the orders sent so far, by unit."""
    orders: list[tuple[float, str]] = []
    for day in range(days):
        clock(shop, timedelta(days=day, hours=9))
        units = [f"u{day}-{number}" for number in range(120)]
        enrol(shop, units)
        late = day + 9 / 24 + rng.exponential(0.7, len(units))
        orders += [(at, unit) for at, unit in zip(late, units, strict=True) if rng.random() < 1 / 3]
        end = day + 23 / 24
        due = sorted(order for order in orders if order[0] < end)
        orders = [order for order in orders if order[0] >= end]
        clock(shop, timedelta(days=day, hours=23))
        send(shop, [bought(u, 5000, cost=2000, occurred_at=moment(at)) for at, u in due])
    return [unit for _, unit in orders]


def moment(days: float) -> str:
    return (START + timedelta(days=days)).isoformat()


def posteriors(shop: Shop) -> dict[str, Any]:
    return policy(shop)["sets"][0]["posteriors"]


def test_open_windows_count_and_corrections_restate_what_was_learnt(simulated_shop: Shop) -> None:
    shop, rng = simulated_shop, np.random.default_rng(12)
    clock(shop, timedelta(0))
    shop.running(policy=POLICY, attribution_window="7d", refund_window="14d")
    trade(shop, 5, rng)
    clock(shop, 5 * DAY)
    learnt = posteriors(shop)
    assert learnt.keys() == {"none", "socks"}, "no window has closed, and there are posteriors"
    assert 300 < learnt["none"]["n"] + learnt["socks"]["n"] < 600
    assert learnt["socks"]["method"] == "student-t; all units by age"
    assert verify(shop.database).is_exact
    before = held(shop)
    assert any("orders@" in histograms for _, _, histograms in before)
    with shop.database.read() as connection:
        order_id = (
            connection.execute(text("select order_id from order_balance order by order_id")).scalars().first()
        )
    up = {"type": "order_adjusted", "order_id": order_id, "amount_delta": 900, "cost_delta": 100}
    send(shop, [{"event_id": "up", **up}])
    clock(shop, 5 * DAY + timedelta(minutes=2))
    assert held(shop) != before
    send(shop, [{"event_id": "down", **up, "amount_delta": -900, "cost_delta": -100}])
    clock(shop, 5 * DAY + timedelta(minutes=4))
    assert held(shop) == before, "what was taken back is as if it had never been"
    refund = {"type": "refund", "order_id": order_id, "amount": 5000, "occurred_at": moment(4.99)}
    send(shop, [{"event_id": "back", **refund}, {"event_id": "off", "type": "cancel", "order_id": order_id}])
    clock(shop, 5 * DAY + timedelta(minutes=6))
    (changed,) = [new for new, old in zip(held(shop), before, strict=True) if new != old]
    assert "refunded_orders@" in changed[2]
    assert "refund_loss" in changed[0]
    assert verify(shop.database).is_exact


@pytest.mark.parametrize("first", ["matured", "model"])
def test_a_change_of_mind_folds_everybody_again(simulated_shop: Shop, first: str) -> None:
    shop, rng = simulated_shop, np.random.default_rng(3)
    clock(shop, timedelta(0))
    made = shop.running(policy={**POLICY, "delay": first}, attribution_window="7d")
    trade(shop, 2, rng)
    clock(shop, 2 * DAY)
    assert any("hour" in histograms for *_, histograms in held(shop)) == (first == "model")
    second = {"matured": "model", "model": "matured"}[first]
    etag = shop.get(f"/v1/experiments/{made['key']}").headers["ETag"]
    patched = shop.patch(f"/v1/experiments/{made['key']}", {"policy": {"delay": second}}, etag)
    assert patched.status_code == 200, patched.text
    clock(shop, 2 * DAY + timedelta(minutes=5))
    assert any("hour" in histograms for *_, histograms in held(shop)) == (second == "model")
    assert verify(shop.database).is_exact
