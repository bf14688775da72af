"""Archived events go on counting: any life after they have left equals the oracle, and `verify` is exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.ledger.database import Database
from service.ledger.verify import VerifyReport, verify
from tests.service.archives import aged_history, archive_events, rows, url_of
from tests.service.histories import RULES, History
from tests.service.oracle import DAY

pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")


def verified(history: History, *, full: bool = False) -> VerifyReport:
    database = Database(url_of(history))
    report = verify(database, full=full)
    database.close()
    assert report.is_exact, report.examples
    return report


@pytest.mark.parametrize("seed", range(3))
def test_life_goes_on_over_an_archived_past(seed: int, tmp_path: Path, empty_ledger: bytes) -> None:
    history, chance = aged_history(tmp_path, empty_ledger, seed)
    try:
        first = archive_events(url_of(history), tmp_path / "archive")
        assert first.events > 20
        assert rows(history.path, "SELECT count(*) FROM event") == [(1,)], "only the newest stays"
        history.open()
        history.check()
        before = len(history.events)
        for step in range(50):
            chance.step()
            if step % 10 == 9:
                history.check()
        assert len(history.events) - before > 15
        history.clock(history.now + 100 * DAY)
        history.check()
        history.close()
        second = archive_events(url_of(history), tmp_path / "archive")
        assert second.events > 15
        assert archive_events(url_of(history), tmp_path / "archive").events == 0
        assert verified(history, full=True).sealed_units == 0
        assert verified(history).sealed_units > 3
        history.open()
        history.check()
    finally:
        history.close()


def test_who_enrols_late_is_credited_with_what_was_archived(tmp_path: Path, empty_ledger: bytes) -> None:
    """Events of a unit nobody assigned wait; they are archived; a link then joins them to an enrolment."""
    history, _ = aged_history(tmp_path, empty_ledger, seed=3, steps=0)
    try:
        history.open()
        history.assign(RULES["by-visitor"], {"unit_id": "known"}, [])
        order = {"type": "order", "currency": "EUR", "cost": 2000}
        history.send(
            [
                {"event_id": "o", **order, "ids": {"customer": "one"}, "order_id": "O", "amount": 5000},
                {"event_id": "r", "type": "refund", "order_id": "later", "amount": 700},
            ]
        )
        history.clock(history.now + 100 * DAY)
        history.send([{"event_id": "n", "type": "product_view", "unit_id": "other", "sku": "X"}])
        history.close()
        assert archive_events(url_of(history), tmp_path / "archive").events == 2
        history.open()
        history.check()
        at = {"occurred_at": "2026-07-04T10:00:00Z"}
        history.send(
            [
                {"event_id": "l", "type": "identify", "ids": {"customer": "one"}, "anonymous_id": "known"},
                {"event_id": "p", **order, **at, "unit_id": "known", "order_id": "later", "amount": 900},
                {"event_id": "c", "type": "cancel", "order_id": "O"},
            ]
        )
        history.check()
        (margin,) = [c["margin"] for c in history.cells()["by-visitor"].values() if "margin" in c]
        recovered = round(2000 * 7 / 9 * 0.35)
        assert margin == 900 - 2000 - 700 + recovered, "of the order that was cancelled nothing is left"
        history.close()
        assert verified(history, full=True).archived_events == 2
        verified(history)
    finally:
        history.close()
