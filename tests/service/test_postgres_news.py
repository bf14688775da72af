"""Long lists of events on PostgreSQL: taken to be new until written, and answered as if looked up."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import delete, insert, literal, select

from service.app import create_app
from service.hot import postgres
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.verify import verify
from service.settings import Settings
from tests.service.conftest import Shop, be_patient, new_stores

LISTS, LENGTH = 60, 6
WHEN = "2026-01-05T10:00:00Z"
NOWHERE = "d_AAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def shop(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Shop]:
    """A service to which a list of one event is long."""
    monkeypatch.setattr(postgres, "COPIED_FROM", 1)
    monkeypatch.setattr(postgres, "LOOKED_UP_AFTER", 2)
    database = Database(postgres_url)
    stores = new_stores(database, is_simulated=False)
    be_patient(database)
    app = create_app(Settings(database_url=postgres_url, state_dir=str(tmp_path / "state")), database)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Shop(client, database, *stores)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each list from now on, whether it was taken to be new."""
    seen: list[bool] = []
    asked = postgres.News.is_trusted

    def is_trusted(self: Any, store_no: int) -> bool:
        seen.append(asked(self, store_no))
        return seen[-1]

    monkeypatch.setattr(postgres.News, "is_trusted", is_trusted)
    return seen


def send(shop: Shop, bodies: list[dict[str, Any]]) -> Any:
    return shop.post("/v1/events", {"events": bodies}).json()


def rating(name: str) -> dict[str, Any]:
    return {"event_id": name, "type": "rating", "occurred_at": WHEN, "unit_id": "a", "score": 3, "scale": 5}


class Lists:
    """Lists of events of which some are on record, or contradict what is, or are refused."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._made: list[dict[str, Any]] = []

    def next(self) -> list[dict[str, Any]]:
        """Half of the lists hold nothing but what is new."""
        kinds = [self._new] if self._random.random() < 0.5 else [self._new, self._again, self._otherwise]
        return [self._random.choice(kinds)() for _ in range(LENGTH)]

    def _new(self) -> dict[str, Any]:
        r, number = self._random, len(self._made)
        order = {"type": "order", "order_id": f"o{number}", "amount": 1000, "currency": "EUR", "unit_id": "a"}
        refund = {"type": "refund", "order_id": f"o{r.randint(0, number + 9)}", "amount": 10}
        refund |= {"currency": r.choice(["EUR", "USD"]), "refund_id": f"r{r.randint(0, 9)}"}
        link = {"type": "identify", "unit_id": f"c{r.randint(0, 3)}", "anonymous_id": f"a{r.randint(0, 9)}"}
        lost = {"type": "click", "decision_id": NOWHERE}
        others = [rating(""), order, order, refund, refund, lost]
        what = link if r.random() < 0.03 else r.choice(others)  # a list with a link is looked up at once
        self._made.append({**what, "event_id": f"e{number}", "occurred_at": WHEN})
        return self._made[-1]

    def _again(self) -> dict[str, Any]:
        return self._random.choice(self._made) if self._made else self._new()

    def _otherwise(self) -> dict[str, Any]:
        return {**self._new(), "event_id": self._again()["event_id"]}


@pytest.mark.parametrize("seed", range(3))
def test_every_list_is_answered_as_on_sqlite(
    shop: Shop, open_shop: Callable[..., Shop], trusted: list[bool], seed: int
) -> None:
    other = open_shop()
    lists = Lists(seed)
    said: set[str] = set()
    for number in range(LISTS):
        bodies = lists.next()
        answer = send(shop, bodies)
        assert answer == send(other, bodies), (number, bodies)
        said.update(one["problem"]["code"] for one in answer["rejected"])
    assert {"conflict", "currency_mismatch", "decision_not_found"} <= said
    assert 5 < sum(trusted) < len(trusted)
    assert verify(shop.database).is_exact


def test_new_lists_are_not_looked_up_and_after_a_repeat_the_next_are(shop: Shop, trusted: list[bool]) -> None:
    assert send(shop, [rating("1"), rating("2")])["accepted"] == 2
    assert send(shop, [rating("3"), rating("2")]) == {"accepted": 1, "duplicates": 1, "rejected": []}
    assert trusted == [True, True, False], "it is decided anew"
    for number in range(4, 8):
        send(shop, [rating(str(number))])
    assert trusted[3:] == [False, False, True, True]


REFUND = {"event_id": "1", "type": "refund", "occurred_at": WHEN, "order_id": "o", "amount": 10}
ORDER = {"event_id": "2", "type": "order", "occurred_at": WHEN, "order_id": "o", "unit_id": "a"}
IN_DOLLARS = {**REFUND, "currency": "USD"}
IN_EUROS = {**ORDER, "amount": 1000, "currency": "EUR"}


def test_a_repeat_that_would_be_refused_by_now_is_a_repeat(shop: Shop, trusted: list[bool]) -> None:
    """The refund came before its order, which is in another currency."""
    assert [send(shop, [body])["accepted"] for body in (IN_DOLLARS, IN_EUROS)] == [1, 1]
    assert send(shop, [IN_DOLLARS]) == {"accepted": 0, "duplicates": 1, "rejected": []}
    assert trusted == [True, True, True]


def test_what_contradicts_an_event_and_its_order_is_told_of_the_event(
    shop: Shop, trusted: list[bool]
) -> None:
    assert send(shop, [IN_EUROS])["accepted"] == 1
    (refused,) = send(shop, [{**IN_EUROS, "amount": 2000}])["rejected"]
    assert refused["problem"]["errors"][0]["pointer"] == "/event_id"
    assert trusted == [True, True]


def test_ids_of_a_link_that_is_refused_are_not_kept(shop: Shop) -> None:
    assert send(shop, [rating("1"), IN_EUROS])["accepted"] == 2
    link = {"event_id": "1", "type": "identify", "occurred_at": WHEN, "unit_id": "c", "anonymous_id": "v"}
    other = {**IN_EUROS, "event_id": "3", "amount": 2000}
    assert len(send(shop, [link, other])["rejected"]) == 2
    with shop.database.read() as connection:
        assert connection.execute(select(schema.unit.c.raw_id)).scalars().all() == ["a"]


def test_what_has_been_archived_is_not_new(shop: Shop, trusted: list[bool]) -> None:
    assert send(shop, [rating("1"), rating("2")])["accepted"] == 2
    with shop.database.write() as connection:
        event = schema.event.c
        columns = event.event_no, event.store_no, event.event_id, event.digest, event.occurred_at_us
        archived = select(*columns, literal(1)).where(event.event_id == "1")
        names = [*(column.name for column in columns), "file_no"]
        connection.execute(insert(schema.archived_event).from_select(names, archived))
        connection.execute(delete(schema.event).where(event.event_id == "1"))
    assert send(shop, [rating("1"), rating("3")]) == {"accepted": 1, "duplicates": 1, "rejected": []}
    assert trusted == [True, True, False]
