"""Events into the ledger: idempotent, in any order, each whole or not at all.

`record_many` decides for each event of a batch: accepted, duplicate (same key and content) or refused
with the reason, and adds the accepted ones to the round with the units they reach. Nothing is folded here:
an event only marks its units and orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.model import UnitKind
from service import event_types as wire
from service.catalogue import StoreState
from service.decision_ids import DecisionRef
from service.event_content import Arrived, body_of
from service.hot import statements
from service.hot.ledger import HotLedger, Round, Units, json_text, json_value, persons_of, units_of
from service.ledger.unit_events import UNFOLDED
from service.ledger.units import ANY_KIND, KIND_BITS
from service.problems import Problem, field_problem

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
Outcome = str | Problem


@dataclass(slots=True)
class _Known:
    """What the ledger holds of the keys in this batch, kept current while it is recorded."""

    units: Units
    events: dict[str, bytes] = field(default_factory=dict)  # event_id -> digest
    orders: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # order_id -> digest, currency
    refunds: dict[tuple[str, str], bytes] = field(default_factory=dict)
    decisions: set[tuple[Any, ...]] = field(default_factory=set)  # as DecisionRef names them
    decision_ids: dict[int, str] = field(default_factory=dict)  # raw id of a decision's unit, unless erased
    persons: dict[int, int] = field(default_factory=dict)
    linked: list[tuple[int, int]] = field(default_factory=list)  # new links: unit_no, person_no
    is_sure: bool = True  # else the events are taken to be new


async def record_many(
    ledger: HotLedger, batch: Round, store: StoreState, events: Sequence[Arrived], at_us: int
) -> list[Outcome]:
    """Record events in order, adding their rows; one outcome each. `at_us` is the machine's time."""
    units = await units_of(ledger, batch, store, dict.fromkeys(_raw_ids(events)))
    # To judge a link gives numbers to the ids it names: not before it is known to be no repeat.
    has_links = any(type(event.struct) is wire.Identify for event in events)
    known = await _read(ledger, batch, store, units, events, surely=has_links)
    outcomes = _judge_all(store, known, events)
    if not known.is_sure and any(outcome != ACCEPTED for outcome in outcomes):
        # Of an event that is on record, nothing but that is told, whatever else may be said of it.
        known = await _read(ledger, batch, store, units, events, surely=True)
        outcomes = _judge_all(store, known, events)
    accepted = [event for event, outcome in zip(events, outcomes, strict=True) if outcome == ACCEPTED]
    if accepted:
        numbers = await ledger.event_numbers(len(accepted))
        _append(batch, store, known, accepted, numbers, at_us)
    return outcomes


async def _read(
    ledger: HotLedger,
    batch: Round,
    store: StoreState,
    units: Units,
    events: Sequence[Arrived],
    *,
    surely: bool = False,
) -> _Known:
    known = _Known(units)
    mine = (store.store_no,)
    event_ids = {event.event_id for event in events}
    digests = await ledger.event_digests(batch, store, event_ids, surely=surely)
    known.is_sure = digests is not None
    known.events.update(digests or {})
    order_ids = {event.order_id for event in events if event.order_id is not None}
    if order_ids:
        for kind, order_id, refund_id, digest, body in await ledger.lookup(
            statements.ORDERS, mine, order_ids
        ):
            if kind == "order":
                known.orders[order_id] = (digest, json_value(body)["currency"])
            elif refund_id is not None:
                known.refunds[order_id, refund_id] = digest
    decided = {event.decision.unit_no for event in events if event.decision is not None}
    if decided:
        known.decisions = {tuple(row) for row in await ledger.lookup(statements.DECISIONS, (), decided)}
    # Only where an event also names somebody is it asked whether that is the decision's unit.
    named = {event.decision.unit_no for event in events if event.decision is not None and event.reach}
    if named:
        rows = await ledger.lookup(statements.RAW_IDS, (), named)
        known.decision_ids = {unit_no: raw_id for unit_no, raw_id in rows}
    if named or any(type(event.struct) is wire.Identify for event in events):
        known.persons = await persons_of(ledger, {*units.numbers.values(), *named})
    return known


def _raw_ids(events: Iterable[Arrived]) -> list[str]:
    ids = [raw_id for event in events for raw_id in event.reach]
    linked = [e.struct.anonymous_id for e in events if isinstance(e.struct, wire.Identify)]
    return [*ids, *linked]


def _judge_all(store: StoreState, known: _Known, events: Sequence[Arrived]) -> list[Outcome]:
    """What becomes of each event, in order: what is accepted is known to those after it."""
    outcomes: list[Outcome] = []
    for event in events:
        outcome = _judge(store, known, event)
        outcomes.append(outcome)
        if outcome == ACCEPTED:
            _remember(known, event)
    return outcomes


def _judge(store: StoreState, known: _Known, event: Arrived) -> Outcome:
    before = known.events.get(event.event_id)
    if before is not None:
        return DUPLICATE if before == event.digest else _conflict("/event_id", "event_id")
    struct = event.struct
    if event.order_id is not None:
        twin = _twin(known, event, event.order_id)
        if twin is not None:
            return twin
    if event.decision is not None:
        if event.decision not in known.decisions:
            return decision_not_found()
        if event.reach and _disagrees(store, known, event, event.decision):
            remedy = "name the unit the decision was made for, or leave it out"
            return field_problem(400, "unit_mismatch", "/decision_id", remedy)
    if isinstance(struct, wire.Refund) and struct.currency is not wire.UNSET:
        order = known.orders.get(struct.order_id)
        if order is not None and order[1] != struct.currency:
            remedy = f"refund in the order's currency, {order[1]}, or leave currency out"
            return field_problem(400, "currency_mismatch", "/currency", remedy)
    if isinstance(struct, wire.Identify):
        return _judge_link(known, event, struct)
    return ACCEPTED


def _twin(known: _Known, event: Arrived, order_id: str) -> Outcome | None:
    """What becomes of an order, or a refund, whose own key is on record; None when it is not."""
    if isinstance(event.struct, wire.Order) and order_id in known.orders:
        same = known.orders[order_id][0] == event.digest
        return DUPLICATE if same else _conflict("/order_id", "order_id")
    if event.refund_id is not None:
        refund = known.refunds.get((order_id, event.refund_id))
        if refund is not None:
            return DUPLICATE if refund == event.digest else _conflict("/refund_id", "refund_id")
    return None


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
    own_id = known.decision_ids.get(ref.unit_no)  # none once the person is erased
    if not named or own_id is None or own_id in named:
        return False
    person = known.persons.get(ref.unit_no)
    return person is None or all(_person(known, raw_id) != person for raw_id in named)


def _judge_link(known: _Known, event: Arrived, struct: wire.Identify) -> Outcome:
    """No chains, and the first accepted link stands."""
    name = _customer(event)
    numbers = known.units.numbers
    customer, anonymous = numbers.get(name), numbers.get(struct.anonymous_id)
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
    unit_no = known.units.numbers.get(raw_id)
    return None if unit_no is None else known.persons.get(unit_no)


def _remember(known: _Known, event: Arrived) -> None:
    struct = event.struct
    known.events[event.event_id] = event.digest
    if event.order_id is not None:
        if isinstance(struct, wire.Order):
            known.orders[event.order_id] = (event.digest, struct.currency)
        elif event.refund_id is not None:
            known.refunds[event.order_id, event.refund_id] = event.digest
    elif isinstance(struct, wire.Identify):
        customer = known.units.number(_customer(event))
        for unit_no in (customer, known.units.number(struct.anonymous_id)):
            if unit_no not in known.persons:
                known.persons[unit_no] = customer
                known.linked.append((unit_no, customer))


def _append(
    batch: Round,
    store: StoreState,
    known: _Known,
    events: Sequence[Arrived],
    numbers: Sequence[int],
    at_us: int,
) -> None:
    rows = batch.rows[statements.EVENT.table]
    links: list[tuple[int, int, int]] = []
    marks = batch.rows[statements.MARK.table]  # each of a unit, an order, or one of each
    for event, event_no in zip(events, numbers, strict=True):
        rows.append(_row(store, event, event_no))
        order_id = event.order_id
        for unit_no, kinds in _reached(store, known, event).items():
            links.append((event_no, unit_no, kinds))
            if event.type not in UNFOLDED:
                marks.append((store.store_no, unit_no, order_id, at_us, event_no))
            order_id = None  # is said
        if order_id is not None:
            marks.append((store.store_no, None, order_id, at_us, event_no))
    batch.rows[statements.EVENT_UNIT.table] += links
    batch.rows[statements.PERSON.table] += known.linked


def _row(store: StoreState, event: Arrived, event_no: int) -> tuple[Any, ...]:
    """The event's row, in the order of the table's columns."""
    return (
        event_no,
        store.store_no,
        event.event_id,
        event.type,
        event.occurred_at_us,
        event.received_at_us,
        event.is_clamped,
        event.digest,
        event.order_id,
        event.refund_id,
        *(event.decision or _NO_DECISION),
        json_text(body_of(store, event.struct)),
    )


_NO_DECISION = (None, None, None)


def _reached(store: StoreState, known: _Known, event: Arrived) -> dict[int, int]:
    """Kinds by unit_no: the ids it names, the decision's unit, and the id an `identify` links."""
    reached: dict[int, int] = {}
    for raw_id, kinds in event.reach.items():
        unit_no = known.units.number(raw_id)
        reached[unit_no] = reached.get(unit_no, 0) | kinds
    if event.decision is not None and (live := store.by_no(event.decision.experiment_no)) is not None:
        unit_no = event.decision.unit_no
        reached[unit_no] = reached.get(unit_no, 0) | KIND_BITS[live.experiment.unit]
    if isinstance(event.struct, wire.Identify):
        reached.setdefault(known.units.number(event.struct.anonymous_id), ANY_KIND)
    return reached
