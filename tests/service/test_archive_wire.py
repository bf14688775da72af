"""What the API answers of archived events: the same as before they were archived, on either database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.archive import commands, retention
from service.archive.retention import retain
from service.ledger.verify import verify
from tests.service.archives import DAYS_90, asked, run
from tests.service.conftest import Shop

pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")

OLD, NOW = "2026-03-02T12:00:00Z", "2026-07-01T12:00:00Z"
ORDER = {"event_id": "o-1", "type": "order", "order_id": "O", "amount": 5000, "currency": "USD"} | {
    "ids": {"customer": "ann"},
    "cost": 2000,
    "fx_rate": 0.5,
}
REFUND = {"event_id": "r-1", "type": "refund", "order_id": "O", "refund_id": "R", "amount": 100}
EVENTS = [
    ORDER,
    REFUND,
    {"event_id": "i-1", "type": "identify", "ids": {"customer": "ann"}, "anonymous_id": "tab-7"},
    {
        "event_id": "q-1",
        "type": "rating",
        "unit_id": "ann",
        "score": 4,
        "scale": 5,
        "comment": "Ann liked it",
    },
    {"event_id": "v-1", "type": "product_view", "unit_id": "nobody", "sku": "X", "properties": {"word": "W"}},
    {"event_id": "w-1", "type": "refund", "order_id": "unborn", "amount": 300},
]


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    """A store in which a person was assigned and bought, four months ago."""
    shop = open_shop(is_simulated=True)
    shop.post("/v1/clock", {"now": OLD})
    shop.running(unit="customer", attribution_window="7d")
    asked = {"touchpoint": "checkout", "ids": {"customer": "ann"}}
    assert shop.post("/v1/assign", asked).json()["decision_id"]
    assert shop.post("/v1/events", {"events": EVENTS}).json()["accepted"] == len(EVENTS)
    shop.post("/v1/clock", {"now": NOW})
    newest = {"event_id": "newest", "type": "product_view", "unit_id": "nobody", "sku": "Y"}
    assert shop.post("/v1/events", newest).json()["accepted"] == 1
    return shop


def archived(shop: Shop, tmp_path: Path) -> int:
    return retain(shop.database, tmp_path / "archive", DAYS_90).events


def answers(shop: Shop) -> dict[str, Any]:
    """Everything that reads events, but for the instant it was answered at."""
    report = shop.get("/v1/experiments/checkout-addon/report").json()
    report.pop("generated_at", None)
    return {
        "report": report,
        "summary": shop.get("/v1/store/summary").json(),
        "spring": shop.get("/v1/store/summary?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z").json(),
        "events": shop.get("/v1/ledger/events").json()["items"],
        "first": shop.get("/v1/ledger/events?limit=2").json(),
        "ann": shop.get("/v1/ledger/events?unit=ann&to=2026-06-01T00:00:00Z").json()["items"],
        "journey": shop.get("/v1/units/tab-7").json(),
    }


def without_words(answer: Any) -> Any:
    """What people wrote does not leave the ledger with an event."""
    if isinstance(answer, dict):
        return {k: without_words(v) for k, v in answer.items() if k not in ("comment", "properties")}
    return [without_words(one) for one in answer] if isinstance(answer, list) else answer


def test_every_answer_is_the_one_from_before(shop: Shop, tmp_path: Path) -> None:
    before = answers(shop)
    assert before["summary"]["unattributed_events"] == 2
    assert archived(shop, tmp_path) == len(EVENTS)
    assert answers(shop) == without_words(before)
    page = shop.get("/v1/ledger/events?limit=2").json()
    seen = page["items"]
    while page["next_cursor"]:
        page = shop.get(f"/v1/ledger/events?limit=2&cursor={page['next_cursor']}").json()
        seen += page["items"]
    assert [one["event_id"] for one in seen] == [*(e["event_id"] for e in EVENTS), "newest"]
    currency = shop.patch("/v1/store", {"currency": "SEK"}, '"1"')
    assert (currency.status_code, currency.json()["code"]) == (409, "frozen_field")


def test_duplicates_conflicts_and_currencies_are_told_as_before(shop: Shop, tmp_path: Path) -> None:
    assert archived(shop, tmp_path) == len(EVENTS)
    again = shop.post("/v1/events", {"events": EVENTS}).json()
    assert (again["accepted"], again["duplicates"]) == (0, len(EVENTS))
    renamed = [{**ORDER, "event_id": "o-2"}, {**REFUND, "event_id": "r-2"}]
    assert shop.post("/v1/events", {"events": renamed}).json()["duplicates"] == 2
    refusals = {
        "conflict": [
            {**ORDER, "amount": 1},
            {**ORDER, "event_id": "o-3", "amount": 1},
            {**REFUND, "event_id": "r-3", "amount": 1},
        ],
        "currency_mismatch": [
            {"event_id": "r-4", "type": "refund", "order_id": "O", "amount": 1, "currency": "EUR"}
        ],
    }
    for code, bodies in refusals.items():
        for body in bodies:
            assert shop.post("/v1/events", body).json()["code"] == code, body
    before = shop.get("/v1/store/summary").json()
    born = {"event_id": "b", "type": "order", "unit_id": "tab-7", "order_id": "unborn"}
    late = [
        {**born, "amount": 1000, "currency": "EUR"},
        {"event_id": "r-5", "type": "refund", "order_id": "O", "amount": 400, "currency": "USD"},
        {"event_id": "a-1", "type": "order_adjusted", "order_id": "O", "amount_delta": -1000},
    ]
    assert shop.post("/v1/events", {"events": late}).json()["accepted"] == 3
    after = shop.get("/v1/store/summary").json()
    assert (before["revenue"], before["refunded"], before["orphan_refunds"]) == (2500, 50, 1)
    assert (after["revenue"], after["refunded"], after["orphan_refunds"]) == (3000, 550, 0)
    for full in (False, True):
        report = verify(shop.database, full=full)
        assert report.is_exact, report.examples


def test_a_person_is_erased_and_nothing_of_them_lies_in_the_files(shop: Shop, tmp_path: Path) -> None:
    assert archived(shop, tmp_path) == len(EVENTS)
    before = shop.get("/v1/store/summary").json()
    files = [path.read_bytes() for path in (tmp_path / "archive").rglob("*") if path.is_file()]
    assert len(files) > 2
    for word in (b"Ann liked", b"tab-7", b'"ann"', b"word"):
        assert not any(word in file for file in files)
    assert shop.call("DELETE", "/v1/units/ann").json() == {"erased_units": 2}
    assert shop.get("/v1/units/ann").status_code == 404
    assert shop.get("/v1/store/summary").json() == before
    assert verify(shop.database, full=True).is_exact


def test_export_and_query_run_beside_the_service(shop: Shop, tmp_path: Path) -> None:
    shop.post("/v1/clock", {"now": "2026-07-03T00:00:00Z"})
    sql = "SELECT event_id, experiment, unit_nos, amount_minor, day FROM events ORDER BY event_no"
    before = asked(shop.database.url, sql)
    told = "the same before and after, from the ledger or from the archive"
    files: list[dict[str, bytes]] = []
    for name in ("hot", "cold"):
        out = tmp_path / name
        done = run(commands.export, "--database", shop.database.url, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        assert asked(shop.database.url, sql) == before, told
        files.append({str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.parquet")})
        if name == "hot":
            assert archived(shop, tmp_path) == len(EVENTS)
    assert files[0] == files[1], told
    assert [row["event_id"] for row in before] == [*(e["event_id"] for e in EVENTS), "newest"]
    persons = "SELECT person_no, count(*) AS ids FROM units_hashed GROUP BY 1 HAVING count(*) > 1"
    (person,) = asked(shop.database.url, persons)
    assert person["ids"] == 2
    orders = asked(shop.database.url, "SELECT order_id, amount_minor, refunded_minor FROM orders ORDER BY 1")
    assert orders == [
        {"order_id": "O", "amount_minor": 2500, "refunded_minor": 50},
        {"order_id": "unborn", "amount_minor": 0, "refunded_minor": 0},
    ]
    assert len(asked(shop.database.url, "SELECT * FROM assignments WHERE is_control IS NOT NULL")) == 1


@pytest.mark.postgresql_only  # on SQLite no service runs while events are archived
def test_an_event_sent_while_it_is_being_archived_is_a_duplicate(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FILE_ROWS_MAX", 20)
    view = {"type": "product_view", "sku": "X", "occurred_at": OLD}
    events = [{"event_id": f"many-{n}", "unit_id": f"u{n % 7}", **view} for n in range(400)]
    assert shop.post("/v1/events", {"events": events}).json()["accepted"] == 400
    shop.post("/v1/events", {"event_id": "last", "type": "product_view", "unit_id": "u", "sku": "Z"})
    archiving = threading.Thread(target=archived, args=(shop, tmp_path))
    archiving.start()
    sent = 0
    while archiving.is_alive() or sent == 0:
        answer = shop.post("/v1/events", {"events": events}).json()
        assert (answer["accepted"], answer["duplicates"]) == (0, 400)
        sent += 1
    archiving.join()
    assert sent > 3
    report = verify(shop.database, full=True)
    assert (report.is_exact, report.archived_events) == (True, len(EVENTS) + 400), report.examples
