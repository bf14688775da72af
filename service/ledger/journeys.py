"""What the ledger holds of decisions, events and one person: read in slices, and erased."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Table,
    delete,
    select,
    tuple_,
    union,
    update,
)

from service import decision_ids
from service.archive.reading import read_archived
from service.archive.records import PERSONAL_FIELDS
from service.catalogue import StoreState
from service.clock import to_wire
from service.decision_ids import DecisionRef
from service.ledger import schema
from service.ledger.links import reaching
from service.ledger.notices import announce_erased
from service.ledger.shown import Step, steps_of
from service.ledger.statements import chunks, number
from service.ledger.units import find_units, hashes_of, members_of, persons_of

SHARE_TOTAL = 1 << 32


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows of the ledger: times in microseconds, `to` exclusive."""

    experiment_no: int | None = None
    unit_nos: tuple[int, ...] | None = None
    from_us: int | None = None
    to_us: int | None = None


def decisions_after(
    connection: Connection, store: StoreState, wanted: Filter, after: Sequence[int], limit: int
) -> Sequence[Any]:
    """Assignment rows after a place (unit, experiment, period), in the order of their key."""
    table = schema.assignment.c
    mine = [live.experiment_no for live in store.experiments.values()]
    statement = select(schema.assignment).where(table.experiment_no.in_(mine))
    if wanted.experiment_no is not None:
        statement = statement.where(table.experiment_no == wanted.experiment_no)
    if wanted.unit_nos is not None:
        statement = statement.where(table.unit_no.in_(wanted.unit_nos))
    statement = _between(statement, table.at_us, wanted)
    place = tuple_(table.unit_no, table.experiment_no, table.period)
    statement = statement.where(place > tuple_(*map(number, after))) if after else statement
    statement = statement.order_by(table.unit_no, table.experiment_no, table.period)
    return connection.execute(statement.limit(limit)).all()


def events_after(
    connection: Connection, store: StoreState, wanted: Filter, after: Sequence[int], limit: int
) -> Sequence[Any]:
    """Event rows after an event number, in the order they were recorded; archived ones without words."""
    hot = connection.execute(_of_events(schema.event, store, wanted, after, limit)).all()
    archived = connection.execute(_of_events(schema.archived_event, store, wanted, after, limit)).all()
    first = sorted([*hot, *archived], key=lambda row: row.event_no)[:limit]
    read = read_archived(connection, {row.event_no for row in first} - {row.event_no for row in hot})
    return [read.get(row.event_no, row) for row in first]


def _of_events(
    table: Table, store: StoreState, wanted: Filter, after: Sequence[int], limit: int
) -> Select[Any]:
    """Rows of `event` or `archived_event`."""
    statement = select(table).where(table.c.store_no == store.store_no)
    if wanted.experiment_no is not None:
        statement = statement.where(table.c.experiment_no == wanted.experiment_no)
    if wanted.unit_nos is not None:
        statement = statement.where(table.c.event_no.in_(_reaching(store, wanted.unit_nos)))
    statement = _between(statement, table.c.occurred_at_us, wanted)
    statement = statement.where(table.c.event_no > after[0]) if after else statement
    return statement.order_by(table.c.event_no).limit(limit)


def _reaching(store: StoreState, unit_nos: Collection[int]) -> CompoundSelect[Any]:
    """Events that reach the units: by name or decision, and what came to their orders later, or before."""
    event, archived = schema.event.c, schema.archived_order.c
    named = reaching(unit_nos)
    hot, kept = event.store_no == store.store_no, archived.store_no == store.store_no
    is_order = (event.type == "order") & event.event_no.in_(named)
    was_order = archived.currency.is_not(None) & archived.event_no.in_(named)
    orders = union(
        select(event.order_id).where(hot, is_order), select(archived.order_id).where(kept, was_order)
    )
    return union(
        named,
        select(event.event_no).where(hot, event.order_id.in_(orders)),
        select(archived.event_no).where(kept, archived.order_id.in_(orders)),
    )


def decision_views(connection: Connection, store: StoreState, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Assignment rows as the wire writes them; the unit is null once its person is erased."""
    names = _raw_ids(connection, (row.unit_no for row in rows))
    return [_decision_view(store, row, names) for row in rows]


def event_views(connection: Connection, store: StoreState, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Event rows as the wire writes them; units erased are left out."""
    reached: dict[int, list[int]] = {}
    table = schema.event_unit.c
    for part in chunks([row.event_no for row in rows]):
        pairs = connection.execute(
            select(table.event_no, table.unit_no).where(table.event_no.in_(part)).order_by(table.unit_no)
        )
        for pair in pairs:
            reached.setdefault(pair.event_no, []).append(pair.unit_no)
    rest = {row.event_no: row.order_id for row in rows if row.event_no not in reached and row.order_id}
    by_order = _units_of_orders(connection, store, rest.values())
    reached |= {event_no: by_order.get(order_id, []) for event_no, order_id in rest.items()}
    names = _raw_ids(connection, (unit for units in reached.values() for unit in units))
    return [_event_view(store, row, reached.get(row.event_no, []), names) for row in rows]


def _units_of_orders(
    connection: Connection, store: StoreState, order_ids: Iterable[str]
) -> dict[str, list[int]]:
    """The units that orders reach: a refund that names nobody reaches them too."""
    reached, event, archived = schema.event_unit, schema.event, schema.archived_order
    found: dict[str, list[int]] = {}
    for part in chunks(set(order_ids)):
        for table, is_order in (
            (event, event.c.type == "order"),
            (archived, archived.c.currency.is_not(None)),
        ):
            pairs = connection.execute(
                select(table.c.order_id, reached.c.unit_no)
                .join_from(table, reached, table.c.event_no == reached.c.event_no)
                .where(table.c.store_no == store.store_no, table.c.order_id.in_(part), is_order)
                .order_by(reached.c.unit_no)
            )
            for pair in pairs:
                found.setdefault(pair.order_id, []).append(pair.unit_no)
    return found


def person_units(connection: Connection, store: StoreState, unit_id: str) -> list[int]:
    """Every unit of the person this id belongs to; empty when the id was never seen, or is erased."""
    unit_no = find_units(connection, store, [unit_id]).get(unit_id)
    if unit_no is None:
        return []
    person_no = persons_of(connection, [unit_no]).get(unit_no)
    return [unit_no] if person_no is None else members_of(connection, [person_no])[person_no]


def journey(connection: Connection, store: StoreState, unit_nos: Sequence[int]) -> dict[str, Any]:
    """A person's ids, assignments, what was shown, and events, in time order."""
    wanted = Filter(unit_nos=tuple(unit_nos))
    every = 1 << 31
    decisions = decisions_after(connection, store, wanted, (), every)
    events = events_after(connection, store, wanted, (), every)
    shown = steps_of(connection, decisions)
    names = _raw_ids(connection, unit_nos)
    steps = [
        *((view["at"], "assignment", view) for view in decision_views(connection, store, decisions)),
        *((to_wire(step.at_us), "shown", _shown_view(store, step)) for step in shown),
        *((view["occurred_at"], "event", view) for view in event_views(connection, store, events)),
    ]
    order = {"assignment": 0, "shown": 1, "event": 2}
    steps.sort(key=lambda step: (step[0][:19], step[0], order[step[1]]))
    return {
        "unit_ids": [names[unit_no] for unit_no in unit_nos if unit_no in names],
        "links": [names[unit_no] for unit_no in unit_nos[1:] if unit_no in names],
        "journey": [{"at": at, "kind": kind, kind: view} for at, kind, view in steps],
    }


def erase(connection: Connection, store: StoreState, unit_nos: Sequence[int]) -> list[str]:
    """Forget who a person is: ids (which are returned), contexts, words. Numbers stay, so no sum changes."""
    names = _raw_ids(connection, unit_nos)
    context, unit, event = schema.decision_context, schema.unit, schema.event
    numbers = _reaching(store, unit_nos)
    rows = connection.execute(
        select(event.c.event_no, event.c.body).where(
            event.c.event_no.in_(numbers) | event.c.decision_unit_no.in_(unit_nos)
        )
    ).all()
    for row in rows:
        kept = {name: value for name, value in row.body.items() if name not in PERSONAL_FIELDS}
        if kept != row.body:
            connection.execute(update(event).where(event.c.event_no == row.event_no).values(body=kept))
    connection.execute(delete(context).where(context.c.unit_no.in_(unit_nos)))
    connection.execute(delete(schema.unit_key).where(_keys_of(connection, store, unit_nos)))
    connection.execute(delete(unit).where(unit.c.unit_no.in_(unit_nos)))
    announce_erased(connection, unit_nos)
    return list(names.values())


def _keys_of(connection: Connection, store: StoreState, unit_nos: Sequence[int]) -> ColumnElement[bool]:
    key = schema.unit_key.c
    hashes = hashes_of(connection, store, unit_nos).values()
    return (key.store_no == store.store_no) & key.hash16.in_(hashes)


def _between(statement: Select[Any], column: Any, wanted: Filter) -> Select[Any]:
    if wanted.from_us is not None:
        statement = statement.where(column >= wanted.from_us)
    if wanted.to_us is not None:
        statement = statement.where(column < wanted.to_us)
    return statement


def _raw_ids(connection: Connection, unit_nos: Iterable[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    table = schema.unit.c
    for part in chunks(set(unit_nos)):
        rows = connection.execute(select(table.unit_no, table.raw_id).where(table.unit_no.in_(part)))
        names.update({row.unit_no: row.raw_id for row in rows})
    return names


def _decision_id(store: StoreState, row: Any) -> str:
    return decision_ids.encode(store.secret, DecisionRef(row.experiment_no, row.unit_no, row.period))


def _decision_view(store: StoreState, row: Any, names: Mapping[int, str]) -> dict[str, Any]:
    live = store.by_no(row.experiment_no)
    assert live is not None, "rows were asked for by the store's experiments"
    return {
        "decision_id": _decision_id(store, row),
        "experiment": live.key,
        "unit_id": names.get(row.unit_no),
        "variant": live.variant_key(row.variant_no),
        "propensity": row.share / SHARE_TOTAL,
        "policy_version": row.policy_version,
        "epoch": row.epoch,
        "segment": row.segment,
        "forced": bool(row.is_forced),
        "at": to_wire(row.at_us),
    }


def _event_view(
    store: StoreState, row: Any, unit_nos: Sequence[int], names: Mapping[int, str]
) -> dict[str, Any]:
    live, decision_id = None, None
    if row.experiment_no is not None:
        live = store.by_no(row.experiment_no)
        ref = DecisionRef(row.experiment_no, row.decision_unit_no, row.decision_period)
        decision_id = decision_ids.encode(store.secret, ref)
    return {
        "event_id": row.event_id,
        "type": row.type,
        "occurred_at": to_wire(row.occurred_at_us),
        "received_at": to_wire(row.received_at_us),
        "clamped": bool(row.is_clamped),
        "unit_ids": [names[unit_no] for unit_no in unit_nos if unit_no in names],
        "experiment": None if live is None else live.key,
        "decision_id": decision_id,
        "order_id": row.order_id,
        "refund_id": row.refund_id,
        "content": row.body,
    }


def _shown_view(store: StoreState, step: Step) -> dict[str, Any]:
    live = store.by_no(step.ref.experiment_no)
    return {
        "decision_id": decision_ids.encode(store.secret, step.ref),
        "experiment": None if live is None else live.key,
        "shown": step.what,
    }
