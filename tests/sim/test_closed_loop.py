"""The closed loop holds where the service is right, and finds what is planted in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import fold
from experiments.orders import fold_order
from service import assigning
from service.catalogue import LiveExperiment
from service.hot import writer
from service.recording import ACCEPTED
from sim.closed_loop.drive import drive
from tests.ledgers import Ledgers, SqliteLedgers
from tests.ledgers import empty_ledger as empty_ledger
from tests.sim.driven import SMALL, service_here


@pytest.fixture
def files(empty_ledger: bytes, monkeypatch: pytest.MonkeyPatch) -> Ledgers:
    monkeypatch.setattr("service.auth.LOOK_UP_S", 60.0)
    monkeypatch.setattr("service.context.FETCH_S", 60.0)
    return SqliteLedgers(empty_ledger)


def test_every_promise_holds(files: Ledgers, tmp_path: Path) -> None:
    with service_here(files, tmp_path, "right") as wire:
        outcome = drive(wire, SMALL)
    assert outcome.failure is None
    assert outcome.is_foretold
    assert outcome.restating > 0
    assert outcome.duplicates > 0


def a_refund_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order's last refund is forgotten by the fold, so that `verify`, which folds again, is content."""

    def wrong(order: Any) -> Any:
        return fold_order(dataclasses.replace(order, refunds=order.refunds[:-1]))

    monkeypatch.setattr("experiments.fold.fold_order", wrong)
    monkeypatch.setattr("service.ledger.balances.fold_order", wrong)


def an_order_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order of a little more than a hundred euro is added to its unit's sums twice."""
    once = fold._one_order

    def wrong(vector: Any, totals: Any, order: Any, balance: Any, *more: Any) -> None:
        once(vector, totals, order, balance, *more)
        if 10_000 < balance.amount_minor < 10_100:
            once(vector, totals, order, balance, *more)

    monkeypatch.setattr(fold, "_one_order", wrong)


def a_known_unit_gets_another_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of those who come back are answered the control."""
    right = assigning.again

    def wrong(store: Any, ask: Any, live: Any, row: Any) -> Any:
        decision = right(store, ask, live, row)
        return dataclasses.replace(decision, variant="none") if row.unit_no % 10 == 0 else decision

    monkeypatch.setattr(assigning, "again", wrong)


def a_propensity_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are made, and logged, with shares that are off by one of 2^32."""
    right = LiveExperiment.shares_for

    def wrong(live: LiveExperiment, *about: Any) -> Any:
        shares = right(live, *about)
        first, *_, last = sorted(shares)
        return shares | {first: shares[first] - 1, last: shares[last] + 1}

    monkeypatch.setattr(LiveExperiment, "shares_for", wrong)


def an_acknowledged_event_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """One decline in ten is acknowledged and not recorded; no sum counts declines."""
    right = writer.record_many

    def is_lost(arrived: Any) -> bool:
        return arrived.type == "decline" and arrived.struct.event_id.endswith("7-decline")

    async def wrong(ledger: Any, batch: Any, store: Any, events: Any, at_us: int) -> Any:
        kept = [event for event in events if not is_lost(event)]
        made = iter(await right(ledger, batch, store, kept, at_us) if kept else [])
        return [ACCEPTED if is_lost(event) else next(made) for event in events]

    monkeypatch.setattr(writer, "record_many", wrong)


def an_unseen_variant_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The race is run under another salt: shares are kept, and the sample ratio too."""
    right = assigning.race
    monkeypatch.setattr(assigning, "race", lambda salt, *more: right(salt + "!", *more))


@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (a_refund_is_dropped, "counters"),
        (an_order_counts_twice, "counters"),
        (a_known_unit_gets_another_variant, "one variant"),
        (a_propensity_is_wrong, "propensity"),
        (an_acknowledged_event_is_lost, "acknowledged events"),
        (an_unseen_variant_is_served, "explanation"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_defect_is_found(
    files: Ledgers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    invariant: str,
) -> None:
    plant(monkeypatch)
    with service_here(files, tmp_path, plant.__name__) as wire:
        outcome = drive(wire, dataclasses.replace(SMALL, duplicates=0.0))  # nothing is found by the way
    assert outcome.failure is not None
    assert outcome.failure.invariant == invariant
