"""What the report says of its own trust, through the service: refunds to come, late events, upgrades."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

import numpy as np
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text, update

from service.ledger import schema
from service.ledger.tables import LATE
from service.ledger.verify import verify
from tests.service.conftest import Shop
from tests.service.test_definitions import START, bought, clock, enrol, send

DAY = timedelta(days=1)


def moment(days: float) -> str:
    return (START + timedelta(days=days)).isoformat()


def trade(shop: Shop, days: int = 8, daily: int = 40) -> None:
    """Everybody orders within the hour; every third order comes back, half of these after six days."""
    rng = np.random.default_rng(3)
    due: list[tuple[float, str]] = []
    for day in range(days):
        clock(shop, timedelta(days=day, hours=9))
        units = [f"u{day}-{number}" for number in range(daily)]
        enrol(shop, units)
        clock(shop, timedelta(days=day, hours=10))
        send(shop, [bought(u, 5000, cost=2000, occurred_at=moment(day + 9.5 / 24)) for u in units])
        due += [(day + 0.5 + 6 * rng.integers(2), unit) for unit in units if rng.random() < 1 / 3]
        clock(shop, timedelta(days=day, hours=23))
        now = [pair for pair in due if pair[0] < day + 23 / 24]
        due = [pair for pair in due if pair not in now]
        refunds = [
            {"event_id": f"r-{u}", "type": "refund", "order_id": u, "occurred_at": moment(at)}
            for at, u in now
        ]
        if refunds:
            send(shop, refunds)


def cells(shop: Shop) -> list[tuple[Any, ...]]:
    with shop.database.read() as connection:
        rows = connection.execute(select(schema.cell).order_by(schema.cell.c.cell_no))
        return [(dict(row.sums), dict(row.products), dict(row.histograms)) for row in rows]


def report(shop: Shop) -> dict[str, Any]:
    return shop.get("/v1/experiments/checkout-addon/report").json()


def test_refunds_to_come_are_expected_from_those_that_came(simulated_shop: Shop) -> None:
    """A third comes back in the end, half of it only after six days."""
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy={"kind": "fixed"}, attribution_window="1d", refund_window="7d")
    trade(shop)
    for variant in report(shop)["variants"]:
        rate, revenue = variant["metrics"]["refund_rate"], variant["metrics"]["revenue_per_unit"]
        final = rate["expected_final"]
        assert rate["value"] < final["value"]
        assert final["ci_low"] < 1 / 3 < final["ci_high"]
        assert 0.5 < final["refunds_seen"] < 1.0
        assert revenue["expected_final"]["value"] < revenue["value"] < revenue["booked"]["value"] == 5000.0
        assert variant["metrics"]["margin_per_unit"]["booked"]["value"] == 3000.0
    assert verify(shop.database).is_exact


def test_a_ledger_from_before_is_folded_again_for_the_ages_of_its_refunds(simulated_shop: Shop) -> None:
    """Stripped of them, as an earlier version left it, and upgraded: the same cells again, exact."""
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy={"kind": "fixed"})
    trade(shop, days=2, daily=20)
    enrol(shop, ["nobody"])
    report(shop)
    before = cells(shop)
    assert any(name.startswith("orders@") for _, _, histograms in before for name in histograms)
    with shop.database.write() as connection:
        for table, key, names in (
            (schema.cell, schema.cell.c.cell_no, ("sums", "products", "histograms")),
            (schema.unit_total, schema.unit_total.c.unit_no, ("vector", "bins")),
        ):
            for row in connection.execute(select(table)).all():
                kept = {
                    name: {
                        k: v for k, v in getattr(row, name).items() if "@" not in k and "refund_loss" not in k
                    }
                    for name in names
                }
                connection.execute(update(table).where(key == getattr(row, key.name)).values(kept))
        connection.execute(text("DROP INDEX event_late"))
        migration = importlib.import_module(
            "service.ledger.migrations.versions.0010_refunds_by_age_and_late_events"
        )
        assert str(migration.LATE) == LATE
        with Operations.context(MigrationContext.configure(connection)):
            migration.upgrade()
    assert verify(shop.database).pending_units == 40
    shop.fold_anew()
    clock(shop, timedelta(days=3))
    assert cells(shop) == before
    assert verify(shop.database).is_exact


def test_late_events_are_told_by_how_late_they_came(simulated_shop: Shop) -> None:
    """Of six orders one is recorded at once, two a day and a half later, three after the two days' window."""
    shop = simulated_shop
    clock(shop, timedelta(hours=9))
    shop.running(policy={"kind": "fixed"}, attribution_window="2d")
    units = [f"u{n}" for n in range(6)]
    enrol(shop, units)
    for hours, some in ((10, units[:1]), (46, units[1:3]), (60, units[3:])):
        clock(shop, timedelta(hours=hours))
        send(shop, [bought(unit, 100, cost=40, occurred_at=moment(9.6 / 24)) for unit in some])
    send(shop, [{**bought("stranger", 100, occurred_at=moment(0.4))}])
    found = {check["name"]: check for check in report(shop)["checks"]}["late_events"]
    assert found["state"] == "warn"
    assert found["detail"].startswith("5 events (83.3% of outcomes) were recorded over a day after")
    assert "3 after the window of their unit had closed" in found["detail"]
    assert found["remedy"]
    part = shop.get("/v1/experiments/checkout-addon/report?segment=new").json()
    assert "late_events" not in {check["name"] for check in part["checks"]}
    with shop.database.read() as connection:
        if connection.dialect.name == "sqlite":  # PostgreSQL reads so few rows one by one
            late = f"SELECT event_no FROM event WHERE store_no = 1 AND {LATE} ORDER BY event_no DESC"
            assert "event_late" in str(connection.execute(text(f"EXPLAIN QUERY PLAN {late}")).all())
