"""Events into the ledger: idempotent, in any order, each whole or not at all.

`record_many` runs inside the writer. It decides for each event: accepted, duplicate (same key and
content) or refused with the reason, and appends the accepted ones with the units they reach. Nothing is
folded here: an event only marks its units and orders dirty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select

from experiments.allocation.hashing import unit_hash
from experiments.model import UnitKind
from service import event_types as wire
from service.catalogue import StoreState
from service.decision_ids import DecisionRef
from service.event_content import Arrived, body_of
from service.ledger import schema
from service.ledger.marks import mark
from service.ledger.statements import chunks
from service.ledger.units import (
    ANY_KIND,
    KIND_BITS,
    find_units,
    get_or_create_units,
    hashes_of,
    persons_of,
)
from service.problems import Problem, field_problem

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
Outcome = str | Problem


@dataclass(slots=True)
class _Known:
    """What the ledger holds of the keys in this batch, kept current while it is recorded."""

    events: dict[str, bytes] = field(default_factory=dict)  # event_id -> digest
    orders: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # order_id -> digest, currency
    refunds: dict[tuple[str, str], bytes] = field(default_factory=dict)
    decisions: set[DecisionRef] = field(default_factory=set)
    decision_hashes: dict[int, bytes] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    persons: dict[int, int] = field(default_factory=dict)
    new_persons: dict[int, int] = field(default_factory=dict)


def record_many(connection: Connection, store: StoreState, events: Sequence[Arrived]) -> list[Outcome]:
    """Record events in order; one outcome each."""
    known = _read(connection, store, events)
    outcomes: list[Outcome] = []
    accepted: list[Arrived] = []
    for event in events:
        outcome = _judge(store, known, event)
        outcomes.append(outcome)
        if outcome == ACCEPTED:
            accepted.append(event)
            _remember(connection, store, known, event)
    if accepted:
        _append(connection, store, known, accepted)
    return outcomes


def _read(connection: Connection, store: StoreState, events: Sequence[Arrived]) -> _Known:
    known = _Known()
    table = schema.event.c
    for part in chunks({event.struct.event_id for event in events}):
        rows = connection.execute(
            select(table.event_id, table.digest).where(
                table.store_no == store.store_no, table.event_id.in_(part)
            )
        )
        known.events.update({row.event_id: row.digest for row in rows})
    for part in chunks({event.order_id for event in events if event.order_id is not None}):
        rows = connection.execute(
            select(table.type, table.order_id, table.refund_id, table.digest, table.body).where(
                table.store_no == store.store_no, table.order_id.in_(part)
            )
        )
        for row in rows:
            if row.type == "order":
                known.orders[row.order_id] = (row.digest, row.body["currency"])
            elif row.refund_id is not None:
                known.refunds[row.order_id, row.refund_id] = row.digest
    refs = {event.decision for event in events if event.decision is not None}
    known.decisions = _existing(connection, refs)
    known.decision_hashes = dict(hashes_of(connection, store, {ref.unit_no for ref in refs}))
    known.units = find_units(connection, store, _raw_ids(events))
    touched = {*known.units.values(), *(ref.unit_no for ref in refs)}
    known.persons = persons_of(connection, touched)
    return known


def _existing(connection: Connection, refs: set[DecisionRef]) -> set[DecisionRef]:
    table = schema.assignment.c
    found: set[DecisionRef] = set()
    for part in chunks({ref.unit_no for ref in refs}):
        rows = connection.execute(
            select(table.experiment_no, table.unit_no, table.period).where(table.unit_no.in_(part))
        )
        found.update(DecisionRef(row.experiment_no, row.unit_no, row.period) for row in rows)
    return found


def _raw_ids(events: Iterable[Arrived]) -> list[str]:
    ids = [raw_id for event in events for raw_id in event.reach]
    linked = [e.struct.anonymous_id for e in events if isinstance(e.struct, wire.Identify)]
    return [*ids, *linked]


def _judge(store: StoreState, known: _Known, event: Arrived) -> Outcome:
    before = known.events.get(event.struct.event_id)
    if before is not None:
        return DUPLICATE if before == event.digest else _conflict("/event_id", "event_id")
    struct = event.struct
    if isinstance(struct, wire.Order) and struct.order_id in known.orders:
        same = known.orders[struct.order_id][0] == event.digest
        return DUPLICATE if same else _conflict("/order_id", "order_id")
    if event.refund_id is not None and event.order_id is not None:
        refund = known.refunds.get((event.order_id, event.refund_id))
        if refund is not None:
            return DUPLICATE if refund == event.digest else _conflict("/refund_id", "refund_id")
    if event.decision is not None and event.decision not in known.decisions:
        return decision_not_found()
    if event.decision is not None and _disagrees(store, known, event, event.decision):
        return field_problem(
            400, "unit_mismatch", "/decision_id", "name the unit the decision was made for, or leave it out"
        )
    if isinstance(struct, wire.Refund) and struct.currency is not wire.UNSET:
        order = known.orders.get(struct.order_id)
        if order is not None and order[1] != struct.currency:
            remedy = f"refund in the order's currency, {order[1]}, or leave currency out"
            return field_problem(400, "currency_mismatch", "/currency", remedy)
    if isinstance(struct, wire.Identify):
        return _judge_link(known, event, struct)
    return ACCEPTED


def decision_not_found() -> Problem:
    """The problem of a decision id this store never issued."""
    return field_problem(404, "decision_not_found", "/decision_id", "send a decision_id this store issued")


def _conflict(pointer: str, name: str) -> Problem:
    remedy = f"this {name} was recorded with other content, which stands; send corrections as new events"
    return field_problem(409, "conflict", pointer, remedy)


def _disagrees(store: StoreState, known: _Known, event: Arrived, ref: DecisionRef) -> bool:
    """Whether the event names another unit, of the decision's kind, than the decision's."""
    live = store.by_no(ref.experiment_no)
    if live is None or live.experiment.unit is UnitKind.REQUEST:
        return False
    bit = KIND_BITS[live.experiment.unit]
    named = [raw_id for raw_id, kinds in event.reach.items() if kinds & bit]
    own_hash = known.decision_hashes.get(ref.unit_no)  # none once the person is erased
    if not named or own_hash is None or any(unit_hash(store.secret, n) == own_hash for n in named):
        return False
    person = known.persons.get(ref.unit_no)
    return person is None or all(_person(known, raw_id) != person for raw_id in named)


def _judge_link(known: _Known, event: Arrived, struct: wire.Identify) -> Outcome:
    """No chains, and the first accepted link stands."""
    name = _customer(event)
    customer, anonymous = known.units.get(name), known.units.get(struct.anonymous_id)
    customer_person, anonymous_person = _person(known, name), _person(known, struct.anonymous_id)
    if anonymous_person is not None and anonymous_person == customer:
        return ACCEPTED
    if customer_person not in (None, customer):
        remedy = "this customer is itself an anonymous id of another customer: identify that one"
        return field_problem(409, "identity_chain", "/unit_id", remedy)
    if anonymous_person is None:
        return ACCEPTED
    if anonymous_person == anonymous:
        remedy = "this id is a customer with visitors of its own and cannot become another's"
        return field_problem(409, "identity_chain", "/anonymous_id", remedy)
    remedy = "this visitor is linked to another customer already; the first link stands"
    return field_problem(409, "already_identified", "/anonymous_id", remedy)


def _customer(event: Arrived) -> str:
    return next(raw_id for raw_id, kinds in event.reach.items() if kinds & KIND_BITS[UnitKind.CUSTOMER])


def _person(known: _Known, raw_id: str) -> int | None:
    unit_no = known.units.get(raw_id)
    return None if unit_no is None else known.persons.get(unit_no)


def _remember(connection: Connection, store: StoreState, known: _Known, event: Arrived) -> None:
    struct = event.struct
    known.events[struct.event_id] = event.digest
    if isinstance(struct, wire.Order):
        known.orders[struct.order_id] = (event.digest, struct.currency)
    if event.refund_id is not None and event.order_id is not None:
        known.refunds[event.order_id, event.refund_id] = event.digest
    if isinstance(struct, wire.Identify):
        name = _customer(event)
        known.units |= get_or_create_units(connection, store, [name, struct.anonymous_id])
        customer, anonymous = known.units[name], known.units[struct.anonymous_id]
        for unit_no in (customer, anonymous):
            if unit_no not in known.persons:
                known.persons[unit_no] = known.new_persons[unit_no] = customer


def _append(connection: Connection, store: StoreState, known: _Known, events: Sequence[Arrived]) -> None:
    known.units |= get_or_create_units(connection, store, _raw_ids(events))
    rows = [_row(store, event) for event in events]
    numbers = connection.execute(
        insert(schema.event).returning(schema.event.c.event_no, sort_by_parameter_order=True), rows
    ).scalars()
    links: list[dict[str, int]] = []
    for event, event_no in zip(events, numbers, strict=True):
        for unit_no, kinds in _reached(store, known, event).items():
            links.append({"unit_no": unit_no, "event_no": event_no, "kinds": kinds})
    if links:
        connection.execute(insert(schema.event_unit), links)
    if known.new_persons:
        persons = [{"unit_no": u, "person_no": p} for u, p in known.new_persons.items()]
        connection.execute(insert(schema.person), persons)
    order_ids = {event.order_id for event in events if event.order_id is not None}
    dirty = {link["unit_no"] for link in links} | _units_of_orders(connection, store, order_ids)
    mark(connection, store.store_no, dirty, order_ids)


def _row(store: StoreState, event: Arrived) -> dict[str, Any]:
    ref = event.decision
    return {
        "store_no": store.store_no,
        "event_id": event.struct.event_id,
        "type": event.type,
        "occurred_at_us": event.occurred_at_us,
        "received_at_us": event.received_at_us,
        "is_clamped": event.is_clamped,
        "digest": event.digest,
        "order_id": event.order_id,
        "refund_id": event.refund_id,
        "experiment_no": None if ref is None else ref.experiment_no,
        "decision_unit_no": None if ref is None else ref.unit_no,
        "decision_period": None if ref is None else ref.period,
        "body": body_of(store, event),
    }


def _reached(store: StoreState, known: _Known, event: Arrived) -> dict[int, int]:
    """Kinds by unit_no: the ids it names, the decision's unit, and the id an `identify` links."""
    reached: dict[int, int] = {}
    for raw_id, kinds in event.reach.items():
        unit_no = known.units[raw_id]
        reached[unit_no] = reached.get(unit_no, 0) | kinds
    if event.decision is not None and (live := store.by_no(event.decision.experiment_no)) is not None:
        unit_no = event.decision.unit_no
        reached[unit_no] = reached.get(unit_no, 0) | KIND_BITS[live.experiment.unit]
    if isinstance(event.struct, wire.Identify):
        reached.setdefault(known.units[event.struct.anonymous_id], ANY_KIND)
    return reached


def _units_of_orders(connection: Connection, store: StoreState, order_ids: set[str]) -> set[int]:
    """The units that the orders themselves reach: what comes later to an order restates them."""
    event, link = schema.event.c, schema.event_unit.c
    found: set[int] = set()
    for part in chunks(order_ids):
        rows = connection.execute(
            select(link.unit_no)
            .join_from(schema.event, schema.event_unit, event.event_no == link.event_no)
            .where(event.store_no == store.store_no, event.order_id.in_(part), event.type == "order")
        )
        found.update(rows.scalars())
    return found
