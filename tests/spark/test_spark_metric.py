"""One metric, three times: by the service, by DuckDB and by Spark over the same Parquet, equal to the cent.

Views and metric are those of docs/archive.md, taken from there.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from service.app import create_app
from service.archive.export import Wanted, export
from service.archive.retention import retain
from service.ledger.database import Database
from service.settings import ClockKind, Settings
from tests.markdown import blocks
from tests.service.archives import DAYS_90
from tests.service.conftest import ROOT, Shop, new_stores

duckdb = pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")

DAY = timedelta(days=1)
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
SHOWN = blocks(ROOT / "docs" / "archive.md")
DUCKDB_VIEWS, METRIC = (block.text for block in SHOWN if block.language == "sql")
(SPARK_VIEWS,) = (block.text for block in SHOWN if block.language == "python")
FIGURES = ("units", "orders", "refunded_orders", "net_revenue_minor", "margin_minor")


def send(shop: Shop, events: list[dict[str, Any]]) -> None:
    for start in range(0, len(events), 500):
        answer = shop.post("/v1/events", {"events": events[start : start + 500]}).json()
        assert answer["rejected"] == [], answer["rejected"][:3]


def clock(shop: Shop, at: datetime) -> None:
    assert shop.post("/v1/clock", {"now": at.isoformat()}).status_code == 200


def bought(chance: random.Random, number: int, who: dict[str, str], at: datetime) -> dict[str, Any]:
    order = {"event_id": f"o{number}", "type": "order", "order_id": f"O{number}", "currency": "EUR"} | {
        "ids": who,
        "amount": chance.choice([0, 999, chance.randint(1, 20_000)]),
        "occurred_at": at.isoformat(),
    }
    return order | ({"cost": chance.randint(0, 9_000)} if chance.random() < 0.5 else {})


def changed(chance: random.Random, number: int, order: int, at: datetime) -> dict[str, Any]:
    change: dict[str, Any] = {
        "event_id": f"c{number}",
        "order_id": f"O{order}",
        "occurred_at": at.isoformat(),
    }
    kind = chance.choice(["refund", "refund", "refund", "cancel", "order_adjusted"])
    if kind == "order_adjusted":
        change["amount_delta"] = chance.randint(-2_000, 2_000)
        change |= {"cost_delta": chance.randint(-300, 300)} if chance.random() < 0.5 else {}
    if kind == "refund":
        change |= {"amount": chance.randint(0, 9_000)} if chance.random() < 0.8 else {}
        change |= {"cost_recovered": chance.randint(0, 900)} if chance.random() < 0.3 else {}
    return {**change, "type": kind}


@pytest.fixture
def shop(tmp_path: Path, empty_ledger: bytes) -> Generator[Shop]:
    """A service over a store that is a day old."""
    (tmp_path / "shop.db").write_bytes(empty_ledger)
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    database = Database(url)
    first, second = new_stores(database, is_simulated=True)
    with TestClient(create_app(Settings(database_url=url, clock=ClockKind.EXTERNAL), database)) as client:
        yield Shop(client, database, first, second)


def live(shop: Shop, archive: Path) -> None:
    """A spring of customers with visitors of theirs, most of it archived; then changes of old orders."""
    chance = random.Random(7)
    settings = {"default_cost_rate": 0.6, "cost_recovered_rate": 0.35}
    assert shop.patch("/v1/store", settings, '"1"').status_code == 200
    clock(shop, START)
    shop.running(unit="customer", attribution_window="7d")
    for day in range(12):
        clock(shop, START + day * DAY)
        asks = [
            {"touchpoint": "checkout", "ids": {"customer": f"ann-{chance.randint(0, 119)}"}}
            for _ in range(20)
        ]
        assert shop.post("/v1/assign/batch", {"requests": asks}).status_code == 200
    links = [
        {"event_id": f"i{n}", "type": "identify", "ids": {"customer": f"ann-{n % 120}"}}
        | {"anonymous_id": f"tab-{n}"}
        for n in range(0, 160, 2)
    ]
    whos = [
        {"customer": f"ann-{chance.randint(0, 119)}"}
        if n % 2
        else {"visitor": f"tab-{chance.randint(0, 159)}"}
        for n in range(400)
    ]
    orders = [bought(chance, n, who, START + chance.random() * 10 * DAY) for n, who in enumerate(whos)]
    changes = [changed(chance, n, chance.randint(0, 399), START + 11 * DAY) for n in range(200)]
    mixed = [*links, *orders, *changes]
    clock(shop, START + 12 * DAY)
    chance.shuffle(mixed)
    send(shop, mixed)
    now = START + 120 * DAY
    clock(shop, now)
    assert retain(shop.database, archive, DAYS_90).events > 600
    send(shop, [changed(chance, n, chance.randint(0, 399), now) for n in range(200, 260)])
    clock(shop, now + 2 * DAY)


def of_report(shop: Shop) -> dict[str, dict[str, int]]:
    report = shop.get("/v1/experiments/checkout-addon/report?matured=false").json()
    told: dict[str, dict[str, int]] = {}
    for variant in report["variants"]:
        metrics = variant["metrics"]
        told[variant["key"]] = dict(
            zip(
                FIGURES,
                (
                    metrics["margin_per_unit"]["denominator"],
                    metrics["refund_rate"]["denominator"],
                    metrics["refund_rate"]["numerator"],
                    metrics["revenue_per_unit"]["numerator"],
                    metrics["margin_per_unit"]["numerator"],
                ),
                strict=True,
            )
        )
    return told


def by_variant(rows: list[tuple[Any, ...]]) -> dict[str, dict[str, int]]:
    return {variant: dict(zip(FIGURES, map(int, figures), strict=True)) for variant, *figures in rows}


@pytest.mark.slow
def test_service_duckdb_and_spark_agree(shop: Shop, spark: Any, tmp_path: Path) -> None:
    live(shop, tmp_path / "archive")
    export(shop.database, tmp_path / "export", Wanted())
    told = of_report(shop)
    assert sum(one["orders"] for one in told.values()) > 100
    assert all(one["refunded_orders"] and one["margin_minor"] for one in told.values())
    connection = duckdb.connect()
    connection.execute(DUCKDB_VIEWS.replace("'export/", f"'{tmp_path}/export/"))
    assert by_variant(connection.execute(METRIC).fetchall()) == told
    exec(SPARK_VIEWS.replace('f"export/', f'f"{tmp_path}/export/'), {"spark": spark})
    assert by_variant([tuple(row) for row in spark.sql(METRIC).collect()]) == told
