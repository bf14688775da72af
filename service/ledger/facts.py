"""Rows to facts: what the ledger holds of some units, in the shape `fold_unit` takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from experiments.facts import (
    Adjustment,
    CartFact,
    CustomFact,
    Enrolment,
    OrderFact,
    RatingFact,
    Refund,
    Slot,
    SlotFact,
    UnitFacts,
)
from experiments.model import UnitKind
from service.archive.index import archived_of_orders
from service.archive.reading import read_archived
from service.catalogue import LiveExperiment, StoreState
from service.ledger import schema
from service.ledger.statements import chunks
from service.ledger.units import KIND_BITS, PERSON_KINDS, groups_of, persons_of

ORDER_CHANGES = ("refund", "cancel", "order_adjusted")
CARTS = ("cart", "checkout_started", "abandonment")
SLOTS = {slot.value: slot for slot in Slot}


@dataclass(slots=True)
class UnitRows:
    """Rows of a slice of units, read in bulk."""

    groups: list[tuple[int, ...]]  # units that are one, each once
    linked: set[int] = field(default_factory=set)  # units that are a person's, by `identify`
    assignments: dict[int, list[Any]] = field(default_factory=dict)  # by unit_no
    links: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # unit_no -> (event_no, kinds)
    events: dict[int, Any] = field(default_factory=dict)  # by event_no
    orders: dict[str, OrderFact] = field(default_factory=dict)


def read_units(
    connection: Connection, store: StoreState, unit_nos: Iterable[int], archive: Path | None = None
) -> UnitRows:
    """Everything recorded of these units and of those that are one with them.

    What is archived is read back, from the ledger's archive or from a copy of it at `archive`.
    """
    groups = {tuple(sorted(group)) for group in groups_of(connection, unit_nos).values()}
    members = {member for group in groups for member in group}
    rows = UnitRows(groups=sorted(groups), linked=set(persons_of(connection, members)))
    for part in chunks(members):
        found = connection.execute(select(schema.assignment).where(schema.assignment.c.unit_no.in_(part)))
        for row in found:
            rows.assignments.setdefault(row.unit_no, []).append(row)
    # Events matter once a unit of the group is enrolled; before that they wait.
    enrolled = {m for group in groups if any(u in rows.assignments for u in group) for m in group}
    for part in chunks(enrolled):
        found = connection.execute(select(schema.event_unit).where(schema.event_unit.c.unit_no.in_(part)))
        for row in found:
            rows.links.setdefault(row.unit_no, []).append((row.event_no, row.kinds))
    event_nos = {event_no for links in rows.links.values() for event_no, _ in links}
    for part in chunks(event_nos):
        found = connection.execute(select(schema.event).where(schema.event.c.event_no.in_(part)))
        rows.events.update({row.event_no: row for row in found})
    rows.events.update(read_archived(connection, event_nos - rows.events.keys(), archive))
    for unit_no, links in rows.links.items():  # `verify` names a link whose event is gone
        rows.links[unit_no] = [link for link in links if link[0] in rows.events]
    orders = {row.order_id: row for row in rows.events.values() if row.type == "order"}
    changes = _changes_of(connection, store.store_no, orders, archive)
    rows.orders = {order_id: order_fact(row, changes.get(order_id, ())) for order_id, row in orders.items()}
    return rows


def read_order_rows(
    connection: Connection, store_no: int, order_ids: Iterable[str], archive: Path | None = None
) -> dict[str, tuple[Any | None, list[Any]]]:
    """By order id: the order's row if it has come, and the rows of its changes."""
    wanted = set(order_ids)
    changes = _changes_of(connection, store_no, wanted, archive)
    orders: dict[str, Any] = {}
    for row in _rows_of(connection, store_no, wanted, archive, schema.event.c.type == "order"):
        if row.type == "order":
            orders[row.order_id] = row
    return {
        order_id: (orders.get(order_id), changes.get(order_id, []))
        for order_id in sorted(orders.keys() | changes.keys())
    }


def _changes_of(
    connection: Connection, store_no: int, order_ids: Collection[str], archive: Path | None
) -> dict[str, list[Any]]:
    """What came later to these orders, by order id, in the order it was recorded."""
    changes: dict[str, list[Any]] = {}
    for row in _rows_of(connection, store_no, order_ids, archive, schema.event.c.type != "order"):
        if row.type != "order":
            changes.setdefault(row.order_id, []).append(row)
    return changes


def _rows_of(
    connection: Connection,
    store_no: int,
    order_ids: Collection[str],
    archive: Path | None,
    kind: ColumnElement[bool],
) -> list[Any]:
    """Rows of a kind that name these orders; of those archived, all that do."""
    table = schema.event
    rows: list[Any] = []
    for part in chunks(order_ids):
        named = (table.c.store_no == store_no) & table.c.order_id.in_(part)
        rows += connection.execute(select(table).where(named, kind)).all()
        archived = archived_of_orders(connection, store_no, part)
        rows += read_archived(connection, archived, archive).values()
    return sorted(rows, key=lambda row: row.event_no)


def facts_for(rows: UnitRows, live: LiveExperiment, group: Sequence[int]) -> list[UnitFacts]:
    """The facts of a group in one experiment: of the person as one, or of each unit by itself."""
    mask, clusters = clusters_of(rows, live, group)
    facts = [cluster_facts(rows, live, cluster, mask) for cluster in clusters]
    return [fact for fact in facts if fact.enrolments]


def clusters_of(
    rows: UnitRows, live: LiveExperiment, group: Sequence[int]
) -> tuple[int, list[Sequence[int]]]:
    """What counts as one unit in the experiment, and the kinds (bits) in which events reach it."""
    bit = KIND_BITS[live.experiment.unit]
    if bit & PERSON_KINDS:
        return PERSON_KINDS if group[0] in rows.linked else bit, [group]
    return bit, [(unit_no,) for unit_no in group]


def cluster_facts(rows: UnitRows, live: LiveExperiment, cluster: Sequence[int], mask: int) -> UnitFacts:
    """The facts of one unit of the experiment; none while it is not enrolled."""
    enrolments = [
        Enrolment(
            row.unit_no,
            row.period,
            row.at_us,
            live.variant_key(row.variant_no),
            row.segment,
            row.set_no,
            row.epoch,
        )
        for unit_no in cluster
        for row in rows.assignments.get(unit_no, [])
        if row.experiment_no == live.experiment_no
    ]
    if not enrolments:
        return UnitFacts(enrolments=())
    reached = {
        event_no for unit_no in cluster for event_no, kinds in rows.links.get(unit_no, []) if kinds & mask
    }
    found = [rows.events[event_no] for event_no in sorted(reached)]
    events = [row for row in found if belongs(row, live)]
    return UnitFacts(
        enrolments=tuple(enrolments),
        slots=tuple(_slot(row) for row in events if _is_slot_of(row, live)),
        orders=tuple(rows.orders[row.order_id] for row in events if row.type == "order"),
        carts=tuple(cart_fact(row) for row in events if row.type in CARTS),
        ratings=tuple(
            RatingFact(row.occurred_at_us, row.body["score_fixed"]) for row in events if row.type == "rating"
        ),
        customs=tuple(
            CustomFact(row.body["name"], row.occurred_at_us, row.body["value_fixed"])
            for row in events
            if row.type == "custom"
        ),
    )


def _is_slot_of(row: Any, live: LiveExperiment) -> bool:
    return row.type in SLOTS and row.experiment_no == live.experiment_no


def belongs(row: Any, live: LiveExperiment) -> bool:
    """A request is credited by its own decision alone; other kinds by whatever reaches them."""
    return live.experiment.unit is not UnitKind.REQUEST or row.experiment_no == live.experiment_no


def _slot(row: Any) -> SlotFact:
    return SlotFact(SLOTS[row.type], row.decision_unit_no, row.decision_period, row.occurred_at_us)


def cart_fact(row: Any) -> CartFact:
    """A cart, checkout or abandonment row as a fact."""
    return CartFact(
        cart_id=row.body["cart_id"],
        at_us=row.occurred_at_us,
        abandon_after_us=row.body["abandon_after_us"],
        is_abandonment=row.type == "abandonment",
    )


def order_fact(order: Any, changes: Sequence[Any]) -> OrderFact:
    """An order row and the rows of its changes as a fact."""
    body: Mapping[str, Any] = order.body
    return OrderFact(
        order_id=order.order_id,
        at_us=order.occurred_at_us,
        currency=body["currency"],
        amount_minor=body["amount"],
        cost_minor=body["cost"],
        cart_id=body.get("cart_id"),
        rates=body["rates"],
        refunds=tuple(refund_fact(row) for row in changes if row.type in ("refund", "cancel")),
        adjustments=tuple(
            Adjustment(row.body.get("amount_delta", 0), row.body.get("cost_delta"))
            for row in changes
            if row.type == "order_adjusted"
        ),
    )


def refund_fact(row: Any) -> Refund:
    """A refund or cancel row as a fact."""
    body: Mapping[str, Any] = row.body
    is_cancel = row.type == "cancel"
    return Refund(
        amount_minor=None if is_cancel else body.get("amount"),
        cost_recovered_minor=body.get("cost_recovered"),
        recovered_rate_ppm=1_000_000 if is_cancel else body["recovered_rate_ppm"],
        at_us=row.occurred_at_us,
        is_cancel=is_cancel,
        currency=body.get("currency"),
    )
