"""`rialto verify`: exact after a life of every kind of event, and not one planted corruption escapes it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from service.ledger.database import Database
from service.ledger.verify import verify
from tests.service.chance import Chance
from tests.service.conftest import rialto
from tests.service.histories import RULES, START, new_history
from tests.service.oracle import DAY


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory, empty_ledger: bytes) -> Path:
    """A closed, folded ledger with something in every table that `verify` reads."""
    folder = tmp_path_factory.mktemp("verify")
    history = new_history(folder / "life.db", empty_ledger)
    chance = Chance(2, history)
    for _ in range(60):
        chance.step()
    history.assign(RULES["by-visitor"], {"unit_id": "known"}, [])
    history.send(
        [
            {
                **{"event_id": "known", "type": "order", "unit_id": "known", "order_id": "known"},
                **{"amount": 5000, "currency": "EUR", "cost": 2000},
            },
            {"event_id": "link", "type": "identify", "ids": {"customer": "one"}, "anonymous_id": "known"},
            {"event_id": "page", "type": "custom", "ids": {"customer": "one"}, "name": "page"},
            {"event_id": "seen", "type": "product_view", "unit_id": "known", "sku": "X"},
            {"event_id": "back", "type": "refund", "order_id": "known", "amount": 1200},
        ]
    )
    history.clock(max(history.now, START + DAY))
    history.check()
    history.close()
    return history.path


@pytest.fixture
def copied(ledger: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy.db"
    with sqlite3.connect(ledger) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def differences(path: Path) -> list[str]:
    database = Database(f"sqlite:///{path}")
    report = verify(database)
    database.close()
    assert report.is_exact == (not report.examples)
    assert (report.pending_units, report.pending_orders) == (0, 0)
    return report.examples


KNOWN_UNIT = "(SELECT unit_no FROM unit WHERE raw_id = 'known')"
CELL = f"(SELECT cell_no FROM unit_total WHERE unit_no = {KNOWN_UNIT})"
CORRUPTIONS: dict[str, tuple[str, str]] = {
    "an order's amount": (
        "UPDATE event SET body = json_set(body, '$.amount', 5001) WHERE event_id = 'known'",
        "total of unit",
    ),
    "an order's amount, in the balances": (
        "UPDATE event SET body = json_set(body, '$.amount', 5001) WHERE event_id = 'known'",
        "balance of order 'known'",
    ),
    "an order's time": ("UPDATE event SET occurred_at_us = 1 WHERE event_id = 'known'", "total of unit"),
    "a refund's amount": (
        "UPDATE event SET body = json_set(body, '$.amount', 1201) WHERE event_id = 'back'",
        "balance of order 'known'",
    ),
    "a cell's sum": (
        f"UPDATE cell SET sums = json_set(sums, '$.revenue', 7) WHERE cell_no = {CELL}",
        "is not the sum of its units",
    ),
    "a cell's product": (
        f"UPDATE cell SET products = json_set(products, '$.\"margin*margin\"', 7) WHERE cell_no = {CELL}",
        "is not the sum of its units",
    ),
    "a cell's histogram": (
        f"UPDATE cell SET histograms = json_remove(histograms, '$.revenue') WHERE cell_no = {CELL}",
        "is not the sum of its units",
    ),
    "a cell deleted": (f"DELETE FROM cell WHERE cell_no = {CELL}", "total of unit"),
    "a unit's total": (
        f"UPDATE unit_total SET vector = json_set(vector, '$.revenue', 7) WHERE unit_no = {KNOWN_UNIT}",
        "is not what its rows fold to",
    ),
    "a unit's bin": (
        f"UPDATE unit_total SET bins = json_set(bins, '$.revenue', 1) WHERE unit_no = {KNOWN_UNIT}",
        "is not what its rows fold to",
    ),
    "a total deleted": (f"DELETE FROM unit_total WHERE unit_no = {KNOWN_UNIT}", "is missing"),
    "a total invented": (
        "INSERT INTO unit_total SELECT experiment_no, 999999, period, cell_no, caps_version, vector, bins"
        f" FROM unit_total WHERE unit_no = {KNOWN_UNIT}",
        "never assigned",
    ),
    "an assignment's variant": (
        f"UPDATE assignment SET variant_no = (variant_no + 1) % 3 WHERE unit_no = {KNOWN_UNIT}",
        "is not what its rows fold to",
    ),
    "an assignment deleted": (f"DELETE FROM assignment WHERE unit_no = {KNOWN_UNIT}", "never assigned"),
    "an order's balance": (
        "UPDATE order_balance SET refunded_minor = 0 WHERE order_id = 'known'",
        "balance of order 'known'",
    ),
    "a balance deleted": (
        "DELETE FROM order_balance WHERE order_id = 'known'",
        "balance of order 'known'",
    ),
    "a balance invented": (
        "INSERT INTO order_balance SELECT store_no, 'ghost', at_us, is_order, is_converted, amount_minor,"
        " refunded_minor, over_refunded_minor, is_refunded, is_cancelled, orphan_refunds,"
        " orphan_refunded_minor FROM order_balance WHERE order_id = 'known'",
        "'ghost', which has no rows",
    ),
    "an order deleted": ("DELETE FROM event WHERE event_id = 'known'", "is gone"),
    "an event that no sum shows": ("DELETE FROM event WHERE event_id = 'seen'", "is gone"),
    "a refund deleted": ("DELETE FROM event WHERE event_id = 'back'", "balance of order 'known'"),
    "a link deleted": (f"DELETE FROM event_unit WHERE unit_no = {KNOWN_UNIT}", "total of unit"),
    "a candidate set deleted": ("DELETE FROM candidate_set", "has no candidate set"),
    "a person parted": ("DELETE FROM person", "total of unit"),
}


def test_it_is_exact_after_a_life_of_everything(copied: Path) -> None:
    assert differences(copied) == []


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_finds_a_planted_corruption(copied: Path, name: str) -> None:
    statement, told = CORRUPTIONS[name]
    connection = sqlite3.connect(copied)
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    assert any(told in line for line in differences(copied)), differences(copied)


def test_the_command_says_so_and_fails(copied: Path) -> None:
    url = f"sqlite:///{copied}"
    good = rialto("verify", "--database", url)
    assert (good.returncode, good.stdout[:6]) == (0, "exact:")
    connection = sqlite3.connect(copied)
    with connection:
        connection.execute(CORRUPTIONS["a unit's total"][0])
    connection.close()
    bad = rialto("verify", "--database", url)
    assert bad.returncode == 1
    assert "is not what its rows fold to" in bad.stdout
    assert bad.stderr.strip().startswith("error: ")
    assert "Traceback" not in bad.stderr


def test_what_waits_to_be_folded_is_counted_and_not_a_difference(
    empty_ledger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = new_history(tmp_path / "a.db", empty_ledger)
    monkeypatch.setattr("service.jobs.loop.fold_pending", _nothing)
    history.assign(RULES["by-visitor"], {"unit_id": "u"}, [])
    history.send(
        [
            {
                **{"event_id": "1", "type": "order", "unit_id": "u", "order_id": "o"},
                **{"amount": 1, "currency": "EUR"},
            }
        ]
    )
    report = verify(history.shop.database)
    history.close()
    assert report.is_exact
    assert (report.pending_units, report.pending_orders) == (1, 1)


async def _nothing(*_: Any) -> int:
    return 0
