"""The events that reach units, read and made into facts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, FromClause, Select, Text, cast, literal_column, select

from experiments.facts import CartFact, CustomFact, RatingFact, Slot, SlotFact
from service.archive.reading import read_archived
from service.ledger import schema
from service.ledger.links import Linked
from service.ledger.orders import Orders, body_of
from service.ledger.unit_rows import Fact, Reached

SLOTS = {slot.value: slot for slot in Slot}
CARTS = ("cart", "checkout_started", "abandonment")
FOLDED = (*SLOTS, *CARTS, "order", "rating", "custom")
"""The types of events that contribute something; what comes later to an order is read with it."""
UNFOLDED = frozenset(("product_view", "decline", "message_opened"))
"""The types that change no sum, whatever has come before: they need not be folded."""

EventRow = tuple[Any, ...]  # as `_read` has it
_TYPE, _ORDER_ID = 6, 8

_event, _archived = schema.event.c, schema.archived_event.c
_IS_FOLDED = _event.type.in_([literal_column(f"'{kind}'") for kind in FOLDED])


def _read(link: FromClause) -> Select[*tuple[Any, ...]]:
    columns = (
        link.c.unit_no,
        _event.event_no,
        link.c.kinds,
        _event.experiment_no,
        _event.decision_unit_no,
        _event.decision_period,
        _event.type,
        _event.occurred_at_us,
        _event.order_id,
        cast(_event.body, Text),
    )
    is_linked = _event.event_no == link.c.event_no
    return select(*columns).join_from(link, schema.event, is_linked).where(_IS_FOLDED)


def _read_archived(link: FromClause) -> Select[*tuple[Any, ...]]:
    columns = link.c.unit_no, link.c.event_no, link.c.kinds
    return select(*columns).join_from(link, schema.archived_event, _archived.event_no == link.c.event_no)


_EVENTS, _ARCHIVED = Linked(_read), Linked(_read_archived)


def read_events(
    connection: Connection, unit_nos: Collection[int], archive: Path | None
) -> Sequence[EventRow]:
    """The events that reach these units, from the ledger and from its archive, where it has one."""
    events = _EVENTS.of_units(connection, unit_nos)
    return events if archive is None else [*events, *_archived_events(connection, unit_nos, archive)]


def read_events_of(connection: Connection, event_nos: Collection[int]) -> Sequence[EventRow]:
    """Events of the ledger, once for each unit they reach."""
    return _EVENTS.of_events(connection, event_nos)


def reached_by(events: Sequence[EventRow], orders: Orders) -> dict[int, list[Reached]]:
    """What reaches each unit; orders with all that came later to them."""
    found: dict[int, list[Reached]] = {}
    placed = orders.facts({row[_ORDER_ID] for row in events if row[_TYPE] == "order"})
    for unit_no, event_no, kinds, experiment_no, by_unit, period, kind, at_us, order_id, body in events:
        slot = SLOTS.get(kind)
        if slot is not None:
            fact: Fact = SlotFact(slot, by_unit, period, at_us)
        else:
            fact = placed[order_id] if kind == "order" else _fact(kind, at_us, body)
        reached = Reached(event_no, kinds, experiment_no, by_unit, period, fact)
        found.setdefault(unit_no, []).append(reached)
    return found


def _archived_events(
    connection: Connection, unit_nos: Collection[int], archive: Path
) -> list[tuple[Any, ...]]:
    """What is archived of these units, as `_read` has it."""
    links = _ARCHIVED.of_units(connection, unit_nos)
    events = read_archived(connection, {event_no for _, event_no, _ in links}, archive)
    return [
        (
            unit_no,
            event_no,
            kinds,
            event.experiment_no,
            event.decision_unit_no,
            event.decision_period,
            event.type,
            event.occurred_at_us,
            event.order_id,
            event.body,
        )
        for unit_no, event_no, kinds in links
        if (event := events[event_no]).type in FOLDED
    ]


class _Cart(msgspec.Struct):
    cart_id: str
    abandon_after_us: int


class _Rating(msgspec.Struct):
    score_fixed: int


class _Custom(msgspec.Struct):
    name: str
    value_fixed: int


def _fact(kind: str, at_us: int, body: str | Mapping[str, Any]) -> Fact:
    """What an event says that is neither of a slot nor an order."""
    if kind == "rating":
        return RatingFact(at_us, body_of(body, _Rating).score_fixed)
    if kind == "custom":
        custom = body_of(body, _Custom)
        return CustomFact(custom.name, at_us, custom.value_fixed)
    cart = body_of(body, _Cart)
    return CartFact(cart.cart_id, at_us, cart.abandon_after_us, kind == "abandonment")
