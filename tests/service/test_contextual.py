"""Policies by context and by segment through the service: learnt, logged, explained, restated and erased."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from scipy import stats
from sqlalchemy import select, update

from experiments.allocation.winners import Compiled, compile_winners
from service import compiling
from service.compiling import compile_beside
from service.ledger import schema
from service.ledger.verify import verify
from tests.service.conftest import Shop
from tests.service.test_definitions import POLICY, bought, clock, parts, policy, send

FEATURES = [
    {"name": "device", "kind": "category", "values": ["mobile", "desktop"]},
    {"name": "visits", "kind": "number", "scale": 10},
]
FLIP = {
    ("none", "mobile"): 0.1,
    ("socks", "mobile"): 0.5,
    ("none", "desktop"): 0.5,
    ("socks", "desktop"): 0.1,
}


def ask(shop: Shop, units: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each unit's decision in its context."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts(list(units)):
        requests = [{"touchpoint": "checkout", "unit_id": unit, "context": units[unit]} for unit in part]
        answer = shop.post("/v1/assign/batch", {"requests": requests}).json()
        found |= dict(zip(part, answer["decisions"], strict=True))
    return found


def learn(shop: Shop, by: str, settings: dict[str, Any], days: int = 2, daily: int = 400) -> None:
    """Shoppers on mobile buy with socks, on desktop without."""
    rng = np.random.default_rng(7)
    clock(shop, timedelta(0))
    shop.running(policy={**POLICY, "objective": "conversion_rate", **settings}, attribution_window="1h")
    for day in range(days):
        clock(shop, timedelta(days=day, hours=9))
        kinds = {f"d{day}-{n}": ("mobile", "desktop")[n % 2] for n in range(daily)}
        made = ask(shop, {unit: {by: kind, "visits": n % 7} for n, (unit, kind) in enumerate(kinds.items())})
        bought_by = [u for u, kind in kinds.items() if rng.random() < FLIP[made[u]["variant"], kind]]
        send(shop, [bought(unit, 5000, cost=2000) for unit in bought_by])
        clock(shop, timedelta(days=day, hours=12))
    clock(shop, timedelta(days=days, hours=12))


def test_a_contextual_policy_learns_by_context_and_says_so(simulated_shop: Shop) -> None:
    shop = simulated_shop
    learn(shop, "device", {"kind": "contextual", "features": FEATURES[:1], "draws": 500})
    told = policy(shop)
    assert told["contextual"]["draws"] == 500
    assert told["contextual"]["model"] == "logistic"
    assert told["contextual"]["coefficients"]["socks"].keys() == {"1", "device=mobile", "device=desktop"}
    mobile, desktop = told["contextual"]["where"]
    assert [(one["feature"], one["value"], one["units_share"]) for one in (mobile, desktop)] == [
        ("device", "mobile", 0.5),
        ("device", "desktop", 0.5),
    ]
    assert mobile["variants"]["none"]["lift_abs"] is None
    assert 0.1 < mobile["variants"]["socks"]["lift_abs"]["ci_low"] < 0.5  # of a lift of 0.4
    assert desktop["variants"]["socks"]["lift_abs"]["ci_high"] < -0.1
    assert mobile["variants"]["socks"]["value"] == pytest.approx(0.5, abs=0.1)
    new = {f"n{n}": {"device": ("mobile", "desktop")[n % 2]} for n in range(2000)}
    made = ask(shop, new)
    for kind, best in (("mobile", "socks"), ("desktop", "none")):
        some = [made[unit] for unit, context in new.items() if context["device"] == kind]
        shares = {decision["variant"]: decision["propensity"] for decision in some}
        assert shares[best] > 0.75
        there = mobile if kind == "mobile" else desktop
        assert shares == {key: one["share"] for key, one in there["variants"].items()}, "what is served"
        assert sum(shares.values()) == 1.0
        counts = Counter(decision["variant"] for decision in some)
        expected = [shares[key] * len(some) for key in shares]
        assert stats.chisquare([counts[key] for key in shares], expected).pvalue > 1e-6
    why = shop.get(f"/v1/decisions/{made['n0']['decision_id']}/explain").json()
    assert why["features"] == {"device": "mobile"}
    assert (why["model"], why["draws"]) == ("logistic", 500)
    assert why["replayed_variant"] == made["n0"]["variant"]
    assert why["shares"][made["n0"]["variant"]] == made["n0"]["propensity"]
    assert why["prob_best"]["socks"] > 0.9
    assert verify(shop.database).is_exact


def test_draws_are_counted_by_a_compiled_loop_and_a_decision_from_before_is_explained_by_it(
    simulated_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = simulated_shop
    with monkeypatch.context() as before:
        before.setattr(Compiled, "count_wins", None)
        learn(shop, "device", {"kind": "contextual", "features": FEATURES}, daily=200)
        contexts = {f"n{n}": {"device": "mobile", "visits": n} for n in range(20)}
        made = ask(shop, contexts)
        assert compile_beside.cache_info().currsize == 1, "begun as the first draws were read"
        compile_beside().join()  # of this process, perhaps long ago
    if Compiled.count_wins is None:
        assert compile_winners()
    for unit in contexts:
        why = shop.get(f"/v1/decisions/{made[unit]['decision_id']}/explain").json()
        assert why["shares"][made[unit]["variant"]] == made[unit]["propensity"]
        assert why["replayed_variant"] == made[unit]["variant"]


def test_what_cannot_be_compiled_is_told_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> bool:
        raise SystemError("of another LLVM")

    monkeypatch.setattr(compiling, "compile_winners", broken)
    thread = compile_beside.__wrapped__()
    thread.join()
    assert "they go on as they are" in caplog.text


def test_numbers_refunds_and_erasure_leave_every_sum_exact(simulated_shop: Shop) -> None:
    """A refund restates sum x y to the unit; an erased person's features stay, without an id."""
    shop = simulated_shop
    learn(
        shop,
        "device",
        {"kind": "contextual", "features": FEATURES, "objective": "margin_per_unit"},
        daily=200,
    )
    assert policy(shop)["contextual"]["model"] == "linear"

    def sum_of_products(*names: str) -> int:
        with shop.database.read() as connection:
            products = connection.execute(select(schema.cell.c.products)).scalars()
            return sum(found.get("*".join(sorted(names)), 0) for found in products)

    before = sum_of_products("context[3]", "margin")
    with shop.database.read() as connection:
        orders = list(
            connection.execute(
                select(schema.event.c.order_id).where(schema.event.c.type == "order")
            ).scalars()
        )
    unit = next(order for order in orders if int(order.split("-")[1]) % 7 == 3)  # 3 visits of scale 10
    send(shop, [{"event_id": "r", "type": "refund", "order_id": unit, "amount": 1000}])
    clock(shop, timedelta(days=3))
    assert sum_of_products("context[3]", "margin") == before - 1000 * round(65536 * 0.3)
    assert verify(shop.database).is_exact
    ask(shop, {"late": {"device": "desktop", "visits": 4}})
    decision = ask(shop, {"late": {}})["late"]
    assert shop.call("DELETE", f"/v1/units/{unit}").status_code == 200
    assert shop.call("DELETE", "/v1/units/late").status_code == 200
    clock(shop, timedelta(days=3, hours=1))
    assert verify(shop.database).is_exact
    why = shop.get(f"/v1/decisions/{decision['decision_id']}/explain").json()
    assert why["context"] == {}
    assert why["features"] == {"device": "desktop", "visits": 4.0}
    assert why["replayed_variant"] is None
    with shop.database.read() as connection:
        kept = connection.execute(select(schema.enrolment_features.c.codes)).scalars().all()
    assert len(kept) == 401
    assert json.dumps([2, round(65536 * 0.4)]) in {json.dumps(list(codes)) for codes in kept}


@pytest.mark.parametrize("kind", ["thompson", "contextual"])
def test_the_report_compares_by_the_propensities_on_record(simulated_shop: Shop, kind: str) -> None:
    """Half of the shoppers gain 0.4 by socks, half lose as much: of all of them the lift is 0.

    By context socks go to those who gain, and a plain lift is not shown.
    """
    shop = simulated_shop
    features = {"features": FEATURES[:1], "draws": 500} if kind == "contextual" else {}
    learn(shop, "device", {"kind": kind, "floor": 0.1, "control_share": 0.1, **features}, days=3)
    found = shop.get("/v1/experiments/checkout-addon/report").json()
    assert found["units_assigned"] == 1200
    socks = next(one for one in found["variants"] if one["key"] == "socks")["metrics"]["conversion_rate"]
    by_propensity = socks if kind == "contextual" else socks["aipw"]
    assert by_propensity["method"] == "aipw"
    lift = by_propensity["lift_abs"]
    assert abs(lift["value"]) < 6 * (lift["ci_high"] - lift["ci_low"]) / 3.92
    assert lift["ci_high"] - lift["ci_low"] < 0.3
    if kind == "contextual":
        assert socks["value"] - socks["ci_low"] < 0.15
        assert abs(socks["value"] - 0.3) < 6 * (socks["ci_high"] - socks["ci_low"]) / 3.92
        assert socks["naive"]["lift_abs"]["reason"] == "not_comparable"
        assert "aipw" not in socks
    else:
        (check,) = [check for check in found["checks"] if check["name"] == "methods"]
        assert check["state"] in ("ok", "warn")  # by chance, once in 370


def test_a_ledger_from_before_is_folded_again_for_its_sums_over_the_propensity(simulated_shop: Shop) -> None:
    """Stripped of them, as an earlier version left it, and upgraded: the same cells again, exact."""
    shop = simulated_shop
    learn(shop, "device", {"kind": "contextual", "features": FEATURES[:1], "draws": 100}, days=1, daily=100)

    def cells() -> list[tuple[dict[str, int], dict[str, int]]]:
        with shop.database.read() as connection:
            rows = connection.execute(select(schema.cell).order_by(schema.cell.c.cell_no))
            return [(dict(row.sums), dict(row.products)) for row in rows]

    before = cells()
    assert any("units/p" in sums and "converted/p*units/p" in products for sums, products in before)
    with shop.database.write() as connection:
        for table, key, names in (
            (schema.cell, schema.cell.c.cell_no, ("sums", "products")),
            (schema.unit_total, schema.unit_total.c.unit_no, ("vector",)),
        ):
            for row in connection.execute(select(table)).all():
                kept = {
                    name: {k: v for k, v in getattr(row, name).items() if "/p" not in k} for name in names
                }
                connection.execute(update(table).where(key == getattr(row, key.name)).values(kept))
        migration = importlib.import_module(
            "service.ledger.migrations.versions.0009_units_over_their_propensity"
        )
        with Operations.context(MigrationContext.configure(connection)):
            migration.upgrade()
    assert verify(shop.database).pending_units == 100
    shop.fold_anew()
    clock(shop, timedelta(days=1, hours=13))
    assert cells() == before
    assert verify(shop.database).is_exact


def test_a_segment_policy_serves_each_segment_its_own(simulated_shop: Shop) -> None:
    shop = simulated_shop
    learn(shop, "segment", {"kind": "segment"})
    told = policy(shop)
    assert set(told["segments"]) == {"mobile", "desktop"}
    new = {f"n{n}": {"segment": ("mobile", "desktop", "watch")[n % 3]} for n in range(900)}
    made = ask(shop, new)
    for segment, shares in (
        ("mobile", told["segments"]["mobile"][0]["shares"]),
        ("desktop", told["segments"]["desktop"][0]["shares"]),
        ("watch", told["sets"][0]["shares"]),
    ):
        some = [made[unit] for unit, context in new.items() if context["segment"] == segment]
        assert {d["propensity"] for d in some} <= set(shares.values())
        counts = Counter(decision["variant"] for decision in some)
        expected = [shares[key] * len(some) for key in shares]
        assert stats.chisquare([counts[key] for key in shares], expected).pvalue > 1e-6
    assert told["segments"]["mobile"][0]["shares"]["socks"] > 0.75
    assert told["segments"]["desktop"][0]["shares"]["none"] > 0.75
    why = shop.get(f"/v1/decisions/{made['n0']['decision_id']}/explain").json()
    assert why["segment"] == "mobile"
    assert why["shares"] == told["segments"]["mobile"][0]["shares"]
    assert why["replayed_variant"] == made["n0"]["variant"]
    assert (why["features"], why["draws"]) == (None, None)
    assert verify(shop.database).is_exact


def test_new_draws_come_at_most_hourly(simulated_shop: Shop) -> None:
    shop = simulated_shop
    learn(shop, "device", {"kind": "contextual", "features": FEATURES[:1], "discount_half_life": "1d"})
    before = policy(shop)["policy_version"]
    for minutes in (10, 20, 30):
        clock(shop, timedelta(days=2, hours=12, minutes=minutes))
    assert policy(shop)["policy_version"] == before
    clock(shop, timedelta(days=2, hours=13, minutes=1))
    assert policy(shop)["policy_version"] == before + 1
