"""Random histories over the real service: what it holds equals the oracle, in every order of arrival."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.service.chance import Chance
from tests.service.histories import History, new_history
from tests.service.oracle import wire_time

STEPS = 110


@pytest.mark.usefixtures("often_merged")
@pytest.mark.parametrize("seed", range(4))
def test_a_history_equals_the_oracle_and_so_does_it_in_any_order(
    seed: int, tmp_path: Path, empty_ledger: bytes
) -> None:
    first = new_history(tmp_path / "first.db", empty_ledger)
    first.close()
    shutil.copy(first.path, tmp_path / "second.db")
    second = History(tmp_path / "second.db", first.keys, first.other)
    first.open()
    second.open()
    try:
        chance = Chance(seed, first)
        for step in range(STEPS):
            chance.step()
            if step % 12 == 11:
                first.check()
        first.clock(first.now + 3 * 3600)
        first.check()
        assert len(first.made) >= 8
        assert len(first.events) > 50
        with first.shop.database.read() as connection:
            marks = dict(connection.execute(text("SELECT name, value FROM progress")).all())
        assert min(marks["links_settled"], marks["events_settled"]) > 12
        deliver_shuffled(first, second, random.Random(seed))
        assert second.cells() == first.cells()
        assert second.histograms() == first.histograms()
        summary = "/v1/store/summary"
        assert second.shop.get(summary).json() == first.shop.get(summary).json()
    finally:
        first.close()
        second.close()


def deliver_shuffled(first: History, second: History, chance: random.Random) -> None:
    """The same assignments and events once more: shuffled, in batches, with duplicates and folds between."""
    second.clock(first.now)
    asks = [(made, first.forced[made.decision_id]) for made in first.made]
    # An enrolment and a later one of the same unit are told apart by their order alone.
    chance.shuffle(asks)
    asks.sort(key=lambda ask: ask[0].at if ask[0].experiment == "by-session" else 0)
    answered = second.shop.post("/v1/assign/batch", {"requests": [body for _, body in asks]}).json()[
        "decisions"
    ]
    decision_of = {
        made.decision_id: one["decision_id"] for (made, _), one in zip(asks, answered, strict=True)
    }
    assert [one["variant"] for one in answered] == [made.variant for made, _ in asks]
    bodies = []
    for event in first.events:
        body = {**event.body, "occurred_at": wire_time(event.at)}
        if "decision_id" in body:
            body["decision_id"] = decision_of[body["decision_id"]]
        bodies.append(body)
    bodies += chance.sample(bodies, len(bodies) // 10)
    chance.shuffle(bodies)
    while bodies:
        taken = [bodies.pop() for _ in range(min(len(bodies), chance.choice([1, 7, 30])))]
        answer = second.shop.post("/v1/events", {"events": taken}).json()
        # In another currency than its order's a refund counts for nothing, or is refused once that is known.
        assert {one["problem"]["code"] for one in answer["rejected"]} <= {"currency_mismatch"}
        if chance.random() < 0.3:
            assert second.shop.get("/v1/store/summary").status_code == 200
    second.clock(first.now)
    assert second.shop.get("/v1/store/summary").status_code == 200
