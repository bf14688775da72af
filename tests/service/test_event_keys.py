"""An event is on record once, wherever its key is: in memory, merged, archived, or just being merged."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from service.ledger.event_keys import event_key, events_settled, unequal_keys
from service.ledger.verify import verify
from tests.processes import eventually
from tests.service.histories import History, new_history

COUNT = 60


def product_view(number: int, sku: str = "s") -> dict[str, object]:
    """An event whose id is anything a caller may send; one looks nearly like ours."""
    name = "RIALTO:x" if number == 7 else f"é{number}"
    return {"event_id": name, "type": "product_view", "ids": {"visitor": f"v{number % 7}"}, "sku": sku}


def tell(history: History, sku: str = "s") -> dict[str, int]:
    """Send all of them, some by themselves; what becomes of them."""
    told = {"accepted": 0, "duplicates": 0, "rejected": 0}
    for start in range(0, COUNT, 5):
        bodies = [product_view(number, sku) for number in range(start, start + 5)]
        answer = history.shop.post("/v1/events", {"events": bodies}).json()
        told["accepted"] += answer["accepted"]
        told["duplicates"] += answer["duplicates"]
        told["rejected"] += len(answer["rejected"])
    return told


def settled(history: History) -> int:
    """Up to which event keys are merged."""
    with history.shop.database.read() as connection:
        return events_settled(connection)


@pytest.mark.usefixtures("often_merged")
def test_an_event_is_on_record_once(empty_ledger: bytes, tmp_path: Path) -> None:
    history = new_history(tmp_path / "a.db", empty_ledger)
    try:
        assert tell(history) == {"accepted": COUNT, "duplicates": 0, "rejected": 0}
        assert tell(history) == {"accepted": 0, "duplicates": COUNT, "rejected": 0}
        assert tell(history, "other") == {"accepted": 0, "duplicates": 0, "rejected": COUNT}
        eventually(lambda: settled(history) > 5)
        with history.shop.database.read() as connection:
            assert list(unequal_keys(connection)) == []
        history.close()
        history.open()  # what was in memory is read again
        assert tell(history) == {"accepted": 0, "duplicates": COUNT, "rejected": 0}
        assert verify(history.shop.database).is_exact
    finally:
        history.close()


@pytest.mark.usefixtures("often_merged")
@pytest.mark.parametrize("damage", ["DELETE FROM event_by_key", "UPDATE event_by_key SET event_no = 4"])
def test_a_key_that_leads_nowhere_or_elsewhere_is_told(
    empty_ledger: bytes, tmp_path: Path, damage: str
) -> None:
    history = new_history(tmp_path / "a.db", empty_ledger)
    try:
        tell(history)
        eventually(lambda: settled(history) > 5)
        with history.shop.database.write() as connection:
            assert connection.execute(text(f"{damage} WHERE event_no = 5")).rowcount == 1
        with history.shop.database.read() as connection:
            assert list(unequal_keys(connection)) == [5]
        assert not verify(history.shop.database).is_exact
    finally:
        history.close()


def test_keys_of_two_stores_differ() -> None:
    assert event_key(b"a" * 32, "e") != event_key(b"b" * 32, "e")
    assert len(event_key(b"a" * 32, "")) == 16
