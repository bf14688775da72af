"""The archive on real invoices, behind a real `rialto serve`: retained, refunded late, exact to the penny."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.archive import commands
from service.commands import verify
from sim.replay.client import Service
from sim.replay.run import Options, replay
from tests.service.archives import asked, rows, run
from tests.sim.replay_service import RealService

ROOT = Path(__file__).parents[2]
RETAIL = ROOT.parent / "shared" / "data" / "online_retail_2010-12_to_2011-05.csv.gz"
ROWS = 4000

pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RETAIL.exists(), reason="the real files are not beside this repository"),
]


@pytest.fixture
def pounds(tmp_path: Path) -> Generator[RealService]:
    service = RealService(tmp_path, currency="GBP")
    yield service
    service.stop()


def call(real: RealService, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {real.key}"}
    return httpx.request(method, f"{real.url}{path}", json=body, headers=headers, timeout=60)


def answers(real: RealService) -> tuple[dict[str, Any], dict[str, Any]]:
    report = real.get("/v1/experiments/retail-aa/report?matured=false")
    return real.get("/v1/store/summary"), {k: v for k, v in report.items() if k != "generated_at"}


def test_late_refunds_of_archived_invoices_are_exact(pounds: RealService, tmp_path: Path) -> None:
    with Service(pounds.url, pounds.key, patience_s=150.0) as service:
        mapping = ROOT / "sim" / "mappings" / "online_retail.yaml"
        outcome = replay(service, RETAIL, mapping, Options(limit=ROWS), lambda *_: lambda _: None)
    assert outcome.agrees, [c for c in outcome.comparisons if not c.agrees]
    file = Path(pounds.database.removeprefix("sqlite:///"))
    (last_us,) = rows(file, "SELECT max(occurred_at_us) FROM event")[0]
    now = datetime.fromtimestamp(last_us // 1_000_000).astimezone() + timedelta(days=100)
    assert call(pounds, "POST", "/v1/clock", {"now": now.isoformat()}).status_code == 200
    before = answers(pounds)
    pounds.stop()
    out = tmp_path / "archive"
    retained = run(
        commands.retain, "--database", pounds.database, "--out", out, "--older-than", "90d", "--json"
    )
    assert retained.returncode == 0, retained.stderr
    archived = json.loads(retained.stdout)["events"]
    assert archived > 150
    assert rows(file, "SELECT count(*) FROM event") == [(1,)]
    pounds.start()
    assert answers(pounds) == before

    orders = asked(
        pounds.database,
        "SELECT order_id, amount_minor - refunded_minor AS rest FROM orders"
        " WHERE is_order AND NOT is_refunded AND amount_minor > 100 ORDER BY order_id LIMIT 60",
    )
    refunds = [
        {"event_id": f"late {n}", "type": "refund", "order_id": order["order_id"]}
        | ({"amount": order["rest"] // 3} if n % 2 else {})
        for n, order in enumerate(orders)
    ]
    # One file is away: what needs it is not answered wrongly but not at all, until it is back.
    away = max(out.rglob("*.parquet"), key=lambda path: path.stat().st_size)
    away.rename(away.with_suffix(".away"))
    pounds.kill()
    pounds.start()
    assert call(pounds, "POST", "/v1/events", {"events": refunds}).json()["accepted"] == len(orders) == 60
    refused = call(pounds, "GET", "/v1/store/summary")
    assert (refused.status_code, refused.json()["code"]) == (503, "archive_unavailable")
    away.with_suffix(".away").rename(away)
    summary, report = answers(pounds)
    given_back = sum(order["rest"] // 3 if n % 2 else order["rest"] for n, order in enumerate(orders))
    assert summary["refunded"] == before[0]["refunded"] + given_back
    assert summary["refunded_orders"] == before[0]["refunded_orders"] + 60
    moved = {name for name, value in summary.items() if value != before[0][name]}
    assert moved == {"refunded", "refunded_orders", "refund_rate"}
    restated = sum(one["metrics"]["revenue_per_unit"]["numerator"] for one in report["variants"])
    booked = sum(one["metrics"]["revenue_per_unit"]["numerator"] for one in before[1]["variants"])
    assert booked - restated == given_back
    with Service(pounds.url, pounds.key, patience_s=150.0) as service:
        again = replay(service, RETAIL, mapping, Options(limit=ROWS), lambda *_: lambda _: None)
    assert again.progress.accepted == 0
    pounds.stop()
    for more in ([], ["--full"]):
        done = run(verify, "--database", pounds.database, "--json", *more)
        told = json.loads(done.stdout)
        assert (told["exact"], told["pending_units"], told["archived_events"]) == (True, 0, archived), told
    wrong = (
        "UPDATE order_balance SET refunded_minor = 1 WHERE order_id IN (SELECT order_id FROM archived_order)"
    )
    with sqlite3.connect(file) as connection:
        connection.execute(wrong)
    connection.close()
    assert run(verify, "--database", pounds.database, "--full").returncode == 1
    pounds.start()
