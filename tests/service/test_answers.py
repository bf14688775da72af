"""Which answers the breaker of the fall-back rate sees: those of its store, whoever gave them."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select

from experiments.allocation.breakers import HOUR_US, Mark, Totals
from service.answers import Answers
from service.api.assign import fall_back
from service.context import Service
from service.hot.ledger import LedgerUnavailable
from service.hot.waiting import Waiting
from service.jobs import loop
from service.jobs.operations import note
from service.ledger import schema
from service.metrics import Metrics
from tests.processes import eventually
from tests.service.asking import ask
from tests.service.conftest import Shop
from tests.service.test_definitions import clock
from tests.service.test_guardrails import PATH, POLICY
from tests.service.test_metrics import one, samples_of
from tests.service.test_postgres_replicas import Replicas, is_leader, replicas, service_of, stores

__all__ = ["replicas", "stores"]  # fixtures
HOUR = timedelta(hours=1)


def fail(monkeypatch: pytest.MonkeyPatch, service: Service, store_no: int) -> None:
    """Let nothing of a store be written by this service any more."""
    write = service.writer.assign

    def assign(store: Any, *others: Any) -> Any:
        if store.store_no == store_no:
            failed = Waiting(store, *others[:1])
            failed.end(LedgerUnavailable("not now"))
            return failed
        return write(store, *others)

    monkeypatch.setattr(service.writer, "assign", assign)


def counted(shop: Shop) -> dict[int, tuple[int, int]]:
    table = schema.answer_count.c
    with shop.database.read() as connection:
        rows = connection.execute(select(table.store_no, table.answers, table.fallbacks)).all()
    return {store_no: (answers, fallbacks) for store_no, answers, fallbacks in rows}


def tripped(shop: Shop) -> list[str]:
    """What the tripped breakers say."""
    found = shop.get(f"{PATH}/policy").json()["breakers"]
    return [each["detail"] for each in found if each["state"] == "tripped"]


def test_what_is_counted_while_the_ledger_is_told_is_told_the_next_time() -> None:
    answers = Answers()
    answers.count(1, 5, 2)
    answers.count(2)
    pending = answers.pending()
    answers.count(1, 3, 1)
    answers.told(pending)
    assert answers.pending() == {1: (3, 1)}
    assert (answers.untold(1), answers.untold(2)) == ((3, 1), (0, 0))


def test_one_stores_answers_without_the_ledger_are_not_held_against_another(
    simulated_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 requests of two batches and 40 alone: 100 answers, whatever they came in."""
    shops = simulated_shop, replace(simulated_shop, keys=simulated_shop.other)
    for shop in shops:
        clock(shop, timedelta(0))
        shop.running(policy=POLICY)
        clock(shop, HOUR / 2)
    fail(monkeypatch, service_of(shops[0]), min(service_of(shops[0]).catalogue.all_store_nos()))
    for shop, reason in zip(shops, ("fallback", "assigned"), strict=True):
        requests = [{"touchpoint": "checkout", "unit_id": f"u{number}"} for number in range(60)]
        for part in (requests[:59], requests[59:]):
            answer = shop.post("/v1/assign/batch", {"requests": part}).json()
            assert {decision["reason"] for decision in answer["decisions"]} == {reason}
        for number in range(40):
            ask(shop, f"u{number}")
        clock(shop, 1.6 * HOUR)
    assert tripped(shops[0]) == ["100 of 100 answers were given without the ledger"]
    assert tripped(shops[1]) == []


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the services begin."""
    monkeypatch.setattr(loop, "TELL_S", 0.1)


@pytest.mark.usefixtures("soon")
def test_the_leader_sees_what_another_service_answered(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower has lost the ledger for one of two stores; who allocates has answered well."""
    leader, follower = sorted(replicas, key=is_leader, reverse=True)
    both = leader, replace(leader, keys=leader.other)
    for shop in both:
        shop.running(policy={**POLICY, "cadence": "1s"})
    began_an_hour_ago(leader)
    fail(monkeypatch, service_of(follower), 1)
    others = follower, replace(follower, keys=follower.other)
    for number in range(60):
        for shop in (*both, *others):
            ask(shop, f"u{number}")
    eventually(lambda: counted(leader) == {1: (120, 60), 2: (120, 0)})
    eventually(lambda: bool(tripped(both[0])))
    (detail,) = tripped(both[0])  # by a look that may have come before the last of them
    fallbacks, answers = (int(number) for number in re.findall(r"\d+", detail))
    assert 100 <= answers <= 120, "more than the leader itself gave"
    assert 0 < fallbacks <= 60
    assert tripped(both[1]) == []


def began_an_hour_ago(shop: Shop) -> None:
    """Note of every experiment what it had come to then: nothing."""
    at_us = time.time_ns() // 1000 - 2 * HOUR_US
    nothing = Mark(at_us, {"none": Totals(0, 0, 0), "socks": Totals(0, 0, 0)})
    with shop.database.write() as connection:
        for experiment_no in connection.execute(select(schema.experiment.c.experiment_no)).scalars().all():
            note(connection, experiment_no, nothing)


def test_a_service_that_waits_for_its_ledger_counts_what_it_answers() -> None:
    """Answers before the ledger was found are told with the first ones after."""
    service, store = SimpleNamespace(metrics=Metrics()), SimpleNamespace(store_no=1)
    asks = [SimpleNamespace(experiments=()), SimpleNamespace(experiments=())]
    made = asyncio.run(fall_back(cast(Any, service), cast(Any, store), cast(Any, asks)))
    assert [decision.reason for decision in made] == ["fallback"] * 2
    assert service.metrics.answers.pending() == {1: (2, 2)}
    assert one(samples_of(service.metrics.exposition()), "rialto_fallbacks_total", reason="fallback") == 2
