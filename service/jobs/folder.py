"""The folder: keeps totals, cells and balances up with the ledger, a slice at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, insert, select

from experiments.facts import CartFact
from experiments.fold import cart_deadlines
from experiments.model import UnitKind
from service.catalogue import LiveExperiment, StoreState, load_store
from service.context import Service
from service.event_content import RESERVED_EVENT_ID
from service.jobs.folding import read_slice
from service.ledger import marks, schema
from service.ledger.facts import cluster_facts, clusters_of, reaching, read_units
from service.ledger.fold_slices import FoldedElsewhere, write
from service.ledger.orders import Orders
from service.ledger.statements import found_by_key
from service.ledger.unit_rows import Reached, UnitRows


async def fold_pending(service: Service, store_no: int) -> None:
    """Fold everything recorded before this call. Callers may run at once."""
    async with service.folding.turn(store_no):
        while slices := await service.folding.prepare(service, store_no):
            part = None
            try:
                for raw in slices:
                    part = read_slice(raw)
                    await service.writer.derive(partial(write, part=part))
            except FoldedElsewhere:
                continue  # by another replica: look again
            if (
                part is not None and part.is_all
            ):  # under traffic some mark always waits: that one was made after the call
                return


@dataclass(frozen=True, slots=True)
class _Abandoned:
    """A cart given up, as the units of one kind see it."""

    event_id: str
    at_us: int
    cart: CartFact
    reached: Mapping[int, int]  # kinds by unit_no
    decision: tuple[int | None, int | None, int | None] | None  # of a request: experiment_no, unit_no, period


def abandon_due(connection: Connection, store: StoreState, now_us: int) -> int:
    """Append an abandonment for every cart whose time is up without an order; how many."""
    timer = schema.cart_timer.c
    due = connection.execute(
        select(timer.unit_no).where(timer.store_no == store.store_no, timer.due_at_us <= now_us).limit(1000)
    ).scalars()
    unit_nos = list(due)
    if not unit_nos:
        return 0
    with found_by_key(connection):
        rows = read_units(connection, unit_nos, Orders(connection, store.store_no))
    appended = 0
    for group in rows.groups:
        abandoned = {found.event_id: found for found in _abandoned(store, rows, group)}
        for found in abandoned.values():
            if found.at_us <= now_us:
                _append(connection, store, found, now_us)
                appended += 1
        marks.mark(connection, store.store_no, group, ())
    return appended


def _abandoned(store: StoreState, rows: UnitRows, group: Sequence[int]) -> Iterator[_Abandoned]:
    """Open carts, and when they are given up.

    A cart is one thing for a visitor, another for a session of the same id: each view has an abandonment
    of its own, which reaches what the view sees and nothing else.
    """
    entered = {row.experiment_no for unit_no in group for row in rows.assignments.get(unit_no, [])}
    for live in (live for live in store.experiments.values() if live.experiment_no in entered):
        mask, clusters = clusters_of(rows, live, group)
        for cluster in clusters:
            facts = cluster_facts(rows, live, cluster, mask)
            if facts.enrolments:
                for cart_id, due_us in cart_deadlines(facts.carts, facts.orders).items():
                    yield _view(rows, live, cluster, mask, cart_id, due_us)


def _view(
    rows: UnitRows, live: LiveExperiment, cluster: Sequence[int], mask: int, cart_id: str, due_us: int
) -> _Abandoned:
    kinds_of: dict[int, int] = {}
    seen: list[Reached] = []
    for unit_no in cluster:
        for reached in reaching(rows, live, (unit_no,), mask):
            if isinstance(reached.fact, CartFact) and reached.fact.cart_id == cart_id:
                kinds_of[unit_no] = kinds_of.get(unit_no, 0) | (reached.kinds & mask)
                seen.append(reached)
    is_request = live.experiment.unit is UnitKind.REQUEST
    view = f"{mask}.{live.experiment_no}" if is_request else str(mask)
    first = min(seen, key=lambda reached: reached.event_no)
    assert isinstance(first.fact, CartFact)
    return _Abandoned(
        event_id=f"{RESERVED_EVENT_ID}abandonment:{view}:{cluster[0]}:{cart_id}",
        at_us=due_us,
        cart=first.fact,
        reached=kinds_of,
        decision=(first.experiment_no, first.decision_unit_no, first.decision_period) if is_request else None,
    )


def _append(connection: Connection, store: StoreState, found: _Abandoned, now_us: int) -> None:
    experiment_no, unit_no, period = found.decision or (None, None, None)
    values: dict[str, Any] = {
        "store_no": store.store_no,
        "event_id": found.event_id,
        "type": "abandonment",
        "occurred_at_us": found.at_us,
        "received_at_us": now_us,
        "is_clamped": False,
        "digest": bytes(16),
        "experiment_no": experiment_no,
        "decision_unit_no": unit_no,
        "decision_period": period,
        "body": {"cart_id": found.cart.cart_id, "abandon_after_us": found.cart.abandon_after_us},
    }
    table = schema.event
    event_no = connection.execute(insert(table).values(values).returning(table.c.event_no)).scalar_one()
    links = [{"unit_no": u, "event_no": event_no, "kinds": kinds} for u, kinds in found.reached.items()]
    connection.execute(insert(schema.event_unit), links)


async def abandon_pending(service: Service, store_no: int) -> int:
    """Append the abandonments due now; how many."""
    due = 0
    while found := await service.writer.submit(
        lambda c: _abandon_some(c, service, store_no), background=True
    ):
        due += found
        await fold_pending(service, store_no)
    return due


def _abandon_some(connection: Connection, service: Service, store_no: int) -> int:
    timer = schema.cart_timer.c
    first = connection.execute(
        select(timer.due_at_us).where(timer.store_no == store_no).order_by(timer.due_at_us).limit(1)
    ).scalar()
    if first is None:
        return 0
    store = load_store(connection, store_no)
    now_us = service.now_us(store)
    return 0 if first > now_us else abandon_due(connection, store, now_us)
