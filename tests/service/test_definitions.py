"""Definitions that only a running service can show: caps set once, shares that move no more than they may."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from service.context import Service
from service.jobs import allocator
from service.ledger.verify import verify
from tests.service.conftest import Shop

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = {
    "kind": "thompson",
    "objective": "margin_per_unit",
    "control_share": 0.2,
    "floor": 0.02,
    "burn_in": 50,
    "cadence": "60s",
}


def clock(shop: Shop, at: timedelta) -> None:
    answer = shop.post("/v1/clock", {"now": (START + at).isoformat()})
    assert answer.status_code == 200, answer.text


def enrol(shop: Shop, units: list[str]) -> dict[str, str]:
    """Ask for every unit; its variant."""
    found: dict[str, str] = {}
    for part in parts(units):
        requests = [{"touchpoint": "checkout", "unit_id": unit} for unit in part]
        answer = shop.post("/v1/assign/batch", {"requests": requests}).json()
        found |= {unit: made["variant"] for unit, made in zip(part, answer["decisions"], strict=True)}
    return found


def send(shop: Shop, events: list[dict[str, Any]]) -> None:
    for part in parts(events):
        answer = shop.post("/v1/events", {"events": part}).json()
        assert answer["rejected"] == [], answer["rejected"][:1]


def parts(things: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(things), 1000):
        yield things[start : start + 1000]


def bought(unit: str, amount: int, **more: Any) -> dict[str, Any]:
    order = {"type": "order", "unit_id": unit, "order_id": unit, "amount": amount, "currency": "EUR"}
    return {"event_id": f"o-{unit}", **order, **more}


def policy(shop: Shop, *, everything: bool = False) -> dict[str, Any]:
    suffix = "?all=true" if everything else ""
    return shop.get(f"/v1/experiments/checkout-addon/policy{suffix}").json()


def test_caps_come_with_2000_matured_totals_are_never_reset_and_leave_value_alone(
    simulated_shop: Shop,
) -> None:
    """Heavy tails (log-normal, sigma 1.6): the capped mean is that of numpy's clipped totals."""
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy=POLICY, attribution_window="1h", winsorise={"lower": 0.01, "upper": 0.98})
    rng = np.random.default_rng(11)
    totals = np.exp(rng.normal(8, 1.6, 2300)).astype(int) + 1
    units = [f"u{i}" for i in range(2300)]
    arms = enrol(shop, units)
    early, late = units[:1900], units[1900:]
    amounts = dict(zip(units, totals.tolist(), strict=True))
    send(shop, [bought(unit, amounts[unit], cost=0) for unit in early])
    clock(shop, timedelta(days=1, hours=2))
    assert not any("winsorised" in metric for metric in margins(shop).values()), "1,900 totals are not enough"
    send(shop, [bought(u, amounts[u], cost=0, occurred_at=START.isoformat()) for u in late])
    clock(shop, timedelta(days=1, hours=3))
    low, high = outer_edges(totals, 0.01, 0.98)
    assert low > totals.min()
    assert high < totals.max()
    for key, metric in margins(shop).items():
        own = np.array([amounts[unit] for unit in units if arms[unit] == key])
        assert math.isclose(metric["value"], own.mean(), rel_tol=1e-12)
        assert (metric["numerator"], metric["denominator"]) == (own.sum(), len(own))
        assert math.isclose(metric["winsorised"]["value"], np.clip(own, low, high).mean(), rel_tol=1e-12)
    assert verify(shop.database).is_exact
    clock(shop, timedelta(days=2, hours=4))
    posterior = policy(shop)["sets"][0]["posteriors"]["socks"]["mean"]
    clipped = np.clip([amounts[u] for u in units if arms[u] == "socks"], low, high).mean()
    assert math.isclose(posterior, clipped, rel_tol=0.01), "the allocator uses the caps"
    # A whale that comes later is cut by the same caps.
    whale = next(unit for unit in units if arms[unit] == "socks")
    grown = {"event_id": "grown", "type": "order_adjusted", "order_id": whale, "amount_delta": 10**8}
    send(shop, [grown])
    after = margins(shop)["socks"]["winsorised"]["value"]
    own = [amounts[u] + (10**8 if u == whale else 0) for u in units if arms[u] == "socks"]
    assert math.isclose(after, np.clip(own, low, high).mean(), rel_tol=1e-12)
    assert verify(shop.database).is_exact


def margins(shop: Shop) -> dict[str, dict[str, Any]]:
    report = shop.get("/v1/experiments/checkout-addon/report?metric=margin_per_unit&matured=true").json()
    return {variant["key"]: variant["metrics"]["margin_per_unit"] for variant in report["variants"]}


def outer_edges(totals: np.ndarray, lower: float, upper: float) -> tuple[int, int]:
    """Edges of the bins (32 to a doubling, closed above) that hold the two order statistics."""
    ordered = np.sort(totals)
    first, last = (int(ordered[math.ceil(q * len(ordered)) - 1]) for q in (lower, upper))
    below, _ = bin_edges(first)
    return below + 1, bin_edges(last)[1]


def bin_edges(total: int) -> tuple[int, int]:
    if total <= 64:
        return total - 1, total
    doubling = 2 ** math.floor(math.log2(total - 1))
    width = doubling // 32
    below = doubling + (total - 1 - doubling) // width * width
    return below, below + width


def test_shares_move_once_an_hour_after_the_first_day_whatever_else_is_published(
    simulated_shop: Shop,
) -> None:
    """A hold that comes and goes within the hour is told each time, and moves nothing before its end.

    The control does better at first, so that the end of the burn-in is itself a move: with two variants
    a treatment that is surely best gets exactly its burn-in share.
    """
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy=POLICY, attribution_window="1h", winsorise=None)
    clock(shop, timedelta(minutes=1))
    arms = enrol(shop, [f"u{i}" for i in range(600)])
    send(shop, [bought(u, 3000 + i, cost=1000) for i, u in enumerate(arms) if i % 3 or arms[u] == "none"])
    day = timedelta(days=1)
    clock(shop, day + timedelta(hours=1, minutes=1))
    first = policy(shop)
    assert (first["burn_in"], first["held"], first["epoch"]) == (False, None, 2)
    controls = [unit for unit in arms if arms[unit] == "none"]
    refunds = [
        {"event_id": f"r-{u}", "type": "refund", "order_id": u} for u in controls[: len(controls) * 9 // 10]
    ]
    unknown = bought(
        "extra", 500, unit_id=controls[0], occurred_at=(START + timedelta(minutes=2)).isoformat()
    )
    send(shop, [*refunds, unknown])
    clock(shop, day + timedelta(hours=1, minutes=3))
    held = policy(shop)
    assert held["held"]["reason"] == "cost_unknown"
    cost = {"event_id": "cost", "type": "order_adjusted", "order_id": "extra", "cost_delta": 100}
    send(shop, [cost])
    clock(shop, day + timedelta(hours=1, minutes=5))
    free = policy(shop)
    assert free["held"] is None
    assert free["policy_version"] > held["policy_version"] > first["policy_version"]
    assert free["sets"][0]["shares"] == held["sets"][0]["shares"] == first["sets"][0]["shares"]
    assert free["epoch"] == first["epoch"]
    clock(shop, day + timedelta(hours=2, minutes=30))
    moved = policy(shop)
    assert moved["epoch"] == first["epoch"] + 1
    assert moved["sets"][0]["shares"]["none"] < first["sets"][0]["shares"]["none"] - 0.3
    assert verify(shop.database).is_exact


def test_a_step_under_way_as_the_clock_is_set_knows_what_came_before(
    simulated_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The background's own step comes between the new time and the fold of the call that set it."""
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy=POLICY, attribution_window="1h", winsorise=None)
    clock(shop, timedelta(minutes=1))
    change = Service.change

    async def overtaken(self: Service, store_no: int, run: Any, **more: Any) -> Any:
        result = await change(self, store_no, run, **more)
        if not more:  # the clock is set: a step begun before, with its folding behind it, comes first
            steps = await self.read(lambda c: allocator.steps_due(c, self, store_no))
            await change(self, store_no, lambda c: allocator.take(c, self, store_no, steps), background=True)
        return result

    arms = enrol(shop, [f"u{i}" for i in range(600)])
    send(shop, [bought(u, 3000 + i, cost=1000) for i, u in enumerate(arms) if i % 3 or arms[u] == "none"])
    with monkeypatch.context() as patched:
        patched.setattr(Service, "change", overtaken)
        clock(shop, timedelta(days=1, hours=1, minutes=1))
    assert (policy(shop)["burn_in"], policy(shop)["held"]) == (False, None)
