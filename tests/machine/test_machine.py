"""The service against a model written apart from it, through every kind of call, on both databases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from experiments.fold import serving_enrolments
from experiments.orders import fold_order
from service import recording
from tests.machine.live import Live
from tests.machine.machine import ShopMachine

NewLive = Callable[[], Live]
RUNS = settings(
    max_examples=15,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
UNTIL_FOUND = settings(RUNS, max_examples=30, phases=[Phase.generate])


def test_every_answer_and_every_number_is_foretold(new_live: NewLive) -> None:
    run_state_machine_as_test(lambda: ShopMachine(new_live), settings=RUNS)


def refunds_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold itself is wrong, so that `verify`, which folds again, finds everything exact."""

    def wrong(order: Any) -> Any:
        return fold_order(dataclasses.replace(order, refunds=order.refunds + order.refunds[-1:]))

    monkeypatch.setattr("experiments.fold.fold_order", wrong)
    monkeypatch.setattr("service.ledger.balances.fold_order", wrong)


def a_repeat_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that comes again under another event_id is recorded once more."""
    judge = recording._judge

    def wrong(store: Any, known: Any, event: Any) -> Any:
        if event.type == "order" and event.struct.event_id not in known.events:
            known.orders.pop(event.struct.order_id, None)
        return judge(store, known, event)

    monkeypatch.setattr(recording, "_judge", wrong)


def a_contradiction_is_a_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other content under a key that is known is told to be a duplicate."""
    monkeypatch.setattr("service.event_content._digest", lambda _store, _struct: b"\0" * 16)


def the_latest_serves_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `identify` a unit gets its person's latest assignment, not the earliest."""

    def wrong(enrolments: Any, reassign_after: Any) -> Any:
        return [list(reversed(group)) for group in serving_enrolments(enrolments, reassign_after)]

    monkeypatch.setattr("service.assigning.serving_enrolments", wrong)


def an_erased_unit_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known in memory of an erased unit stays there."""
    monkeypatch.setattr("service.hot.writer.Writer.forget_ids", lambda *_: None)


@pytest.mark.parametrize(
    "bug",
    [
        refunds_count_twice,
        a_repeat_is_accepted,
        a_contradiction_is_a_repeat,
        the_latest_serves_a_person,
        an_erased_unit_is_remembered,
    ],
)
def test_a_planted_bug_is_found(
    new_live: NewLive, monkeypatch: pytest.MonkeyPatch, bug: Callable[[pytest.MonkeyPatch], None]
) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(lambda: ShopMachine(new_live), settings=UNTIL_FOUND)
