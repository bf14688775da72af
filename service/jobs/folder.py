"""The folder: keeps totals, cells and balances up with the ledger, a slice at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from experiments.fold import cart_deadlines
from service.catalogue import StoreState, load_store
from service.context import Service
from service.event_content import RESERVED_EVENT_ID
from service.ledger import balances, folds, schema
from service.ledger.balances import fold_orders
from service.ledger.facts import CARTS, UnitRows, facts_for, read_units
from service.ledger.folds import fold_slice
from service.ledger.statements import upsert
from service.recording import mark_dirty


async def fold_pending(service: Service, store_no: int) -> None:
    """Fold everything recorded before this call. Callers may run at once."""
    while await service.writer.submit(lambda c: _fold_some(c, service, store_no)):
        pass


def _fold_some(connection: Connection, service: Service, store_no: int) -> bool:
    """Fold a slice; whether another may be waiting (under traffic some unit always is: that one is not)."""
    if not _has_work(connection, store_no):
        return False
    # Loaded here, not from the catalogue: the rules must be those committed before this slice.
    store = load_store(connection, store_no)
    units, orders = fold_slice(connection, store), fold_orders(connection, store)
    row = {"store_no": store_no, "folded_through_us": service.now_us(store)}
    upsert(connection, schema.fold_state, [row])
    return units == folds.SLICE or orders == balances.SLICE


def _has_work(connection: Connection, store_no: int) -> bool:
    for table in (schema.dirty_unit, schema.dirty_order):
        if connection.execute(select(table.c.store_no).where(table.c.store_no == store_no).limit(1)).first():
            return True
    return False


def abandon_due(connection: Connection, store: StoreState, now_us: int) -> int:
    """Append an abandonment for every cart whose time is up without an order; how many."""
    timer = schema.cart_timer.c
    due = connection.execute(
        select(timer.unit_no).where(timer.store_no == store.store_no, timer.due_at_us <= now_us).limit(1000)
    ).scalars()
    unit_nos = list(due)
    if not unit_nos:
        return 0
    rows = read_units(connection, store, unit_nos)
    appended = 0
    for group in rows.groups:
        for cart_id, due_us in _deadlines(store, rows, group).items():
            if due_us <= now_us:
                _append_abandonment(connection, store, rows, group, cart_id, due_us, now_us)
                appended += 1
        mark_dirty(connection, store.store_no, group, ())
    return appended


def _deadlines(store: StoreState, rows: UnitRows, group: Sequence[int]) -> dict[str, int]:
    """Open carts and when they are given up, as the experiments the group is in see them."""
    entered = {row.experiment_no for unit_no in group for row in rows.assignments.get(unit_no, [])}
    deadlines: dict[str, int] = {}
    for live in (live for live in store.experiments.values() if live.experiment_no in entered):
        for facts in facts_for(rows, live, group):
            deadlines |= cart_deadlines(facts.carts, facts.orders)
    return deadlines


def _append_abandonment(
    connection: Connection,
    store: StoreState,
    rows: UnitRows,
    group: Sequence[int],
    cart_id: str,
    due_us: int,
    now_us: int,
) -> None:
    """The abandonment reaches whom the cart reached."""
    reached: dict[int, int] = {}
    window_us = 0
    for unit_no in group:
        for event_no, kinds in rows.links.get(unit_no, []):
            event = rows.events[event_no]
            if event.type in CARTS and event.body["cart_id"] == cart_id:
                reached[unit_no] = reached.get(unit_no, 0) | kinds
                window_us = event.body["abandon_after_us"]
    values: dict[str, Any] = {
        "store_no": store.store_no,
        "event_id": f"{RESERVED_EVENT_ID}abandonment:{group[0]}:{cart_id}",
        "type": "abandonment",
        "occurred_at_us": due_us,
        "received_at_us": now_us,
        "is_clamped": False,
        "digest": bytes(16),
        "body": {"cart_id": cart_id, "abandon_after_us": window_us},
    }
    table = schema.event
    event_no = connection.execute(insert(table).values(values).returning(table.c.event_no)).scalar_one()
    links = [{"unit_no": u, "event_no": event_no, "kinds": kinds} for u, kinds in reached.items()]
    connection.execute(insert(schema.event_unit), links)


async def abandon_pending(service: Service, store_no: int) -> int:
    """Append the abandonments due now; how many."""
    due = 0
    while found := await service.writer.submit(lambda c: _abandon_some(c, service, store_no)):
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
