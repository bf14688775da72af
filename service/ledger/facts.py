"""Rows to facts: what the ledger holds of some units, in the shape `fold_unit` takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Text, cast, literal_column, select

from experiments.facts import (
    CartFact,
    CustomFact,
    Enrolment,
    OrderFact,
    RatingFact,
    Slot,
    SlotFact,
    UnitFacts,
)
from experiments.model import UnitKind
from service.archive.reading import read_archived
from service.catalogue import LiveExperiment
from service.ledger import schema
from service.ledger.orders import Orders, body_of
from service.ledger.statements import ByKeys
from service.ledger.units import KIND_BITS, PERSON_KINDS, members_of, persons_of

Fact = SlotFact | OrderFact | CartFact | RatingFact | CustomFact
SLOTS = {slot.value: slot for slot in Slot}
CARTS = ("cart", "checkout_started", "abandonment")
FOLDED = (*SLOTS, *CARTS, "order", "rating", "custom")
"""The types of events that contribute something; what comes later to an order is read with it."""
UNFOLDED = frozenset(("product_view", "decline", "message_opened"))
"""The types that change no sum, whatever has come before: they need not be folded."""


class Assigned(NamedTuple):
    """A unit's assignment."""

    unit_no: int
    experiment_no: int
    period: int
    at_us: int
    variant_no: int
    segment: str
    set_no: int
    epoch: int
    share: int


class Reached(NamedTuple):
    """A fact as it reaches a unit."""

    event_no: int
    kinds: int  # bits
    experiment_no: int | None  # of the decision it names
    decision_unit_no: int | None
    decision_period: int | None
    fact: Fact


_assignment, _event, _link = schema.assignment.c, schema.event.c, schema.event_unit.c
_archived = schema.archived_event.c
_ASSIGNMENTS = ByKeys(select(*(_assignment[name] for name in Assigned._fields)), _assignment.unit_no)
_CODES = msgspec.json.Decoder(tuple[int, ...])
_features = schema.enrolment_features.c
_FEATURES = ByKeys(
    select(_features.unit_no, _features.experiment_no, _features.period, cast(_features.codes, Text)),
    _features.unit_no,
)
_EVENTS = ByKeys(
    select(
        _link.unit_no,
        _event.event_no,
        _link.kinds,
        _event.experiment_no,
        _event.decision_unit_no,
        _event.decision_period,
        _event.type,
        _event.occurred_at_us,
        _event.order_id,
        cast(_event.body, Text),
    )
    .join_from(schema.event_unit, schema.event, _event.event_no == _link.event_no)
    .where(_event.type.in_([literal_column(f"'{kind}'") for kind in FOLDED])),
    _link.unit_no,
)
_ARCHIVED = ByKeys(
    select(_link.unit_no, _link.event_no, _link.kinds).join_from(
        schema.event_unit, schema.archived_event, _archived.event_no == _link.event_no
    ),
    _link.unit_no,
)


@dataclass(slots=True)
class UnitRows:
    """Rows of a slice of units, read in bulk."""

    groups: list[tuple[int, ...]]  # units that are one, each once
    linked: set[int]  # units that are a person's, by `identify`
    assignments: dict[int, list[Assigned]] = field(default_factory=dict)  # by unit_no
    reached: dict[int, list[Reached]] = field(default_factory=dict)  # by unit_no
    features: dict[tuple[int, int, int], tuple[int, ...]] = field(
        default_factory=dict[tuple[int, int, int], tuple[int, ...]]
    )  # by unit_no, experiment_no and period


def read_units(connection: Connection, unit_nos: Iterable[int], orders: Orders) -> UnitRows:
    """Everything recorded of these units and of those that are one with them."""
    wanted = set(unit_nos)
    persons = persons_of(connection, wanted)
    people = members_of(connection, persons.values()).values()
    linked = {unit_no for members in people for unit_no in members}
    groups = [*(tuple(sorted(members)) for members in people), *((u,) for u in wanted - linked)]
    rows = UnitRows(sorted(groups), linked)
    for row in map(Assigned._make, _ASSIGNMENTS.rows(connection, wanted | linked)):
        rows.assignments.setdefault(row.unit_no, []).append(row)
    for unit_no, experiment_no, period, codes in _FEATURES.rows(connection, rows.assignments):
        rows.features[unit_no, experiment_no, period] = _CODES.decode(codes)
    # Events matter once a unit of the group is enrolled; before that they wait.
    enrolled = [m for group in rows.groups if any(u in rows.assignments for u in group) for m in group]
    events = _EVENTS.rows(connection, enrolled)
    if orders.archive is not None:
        events = [*events, *_archived_events(connection, enrolled, orders.archive)]
    placed = orders.facts({order_id for *_, kind, _, order_id, _ in events if kind == "order"})
    for unit_no, event_no, kinds, experiment_no, by_unit, period, kind, at_us, order_id, body in events:
        slot = SLOTS.get(kind)
        if slot is not None:
            fact = SlotFact(slot, by_unit, period, at_us)
        else:
            fact = placed[order_id] if kind == "order" else _fact(kind, at_us, body)
        reached = Reached(event_no, kinds, experiment_no, by_unit, period, fact)
        rows.reached.setdefault(unit_no, []).append(reached)
    return rows


def _archived_events(
    connection: Connection, unit_nos: Collection[int], archive: Path
) -> list[tuple[Any, ...]]:
    """What is archived of these units, as `_EVENTS` has it."""
    links = _ARCHIVED.rows(connection, unit_nos)
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
    number = live.experiment_no
    enrolments = [
        Enrolment(
            unit_no,
            row.period,
            row.at_us,
            live.variant_key(row.variant_no),
            row.segment,
            row.set_no,
            row.epoch,
            rows.features.get((unit_no, number, row.period), ()),
            row.share,
        )
        for unit_no in cluster
        for row in rows.assignments.get(unit_no, ())
        if row.experiment_no == number
    ]
    found: dict[type[Fact], list[Any]] = {}
    if enrolments:
        for reached in reaching(rows, live, cluster, mask):
            kind = type(reached.fact)
            if kind is not SlotFact or reached.experiment_no == number:
                found.setdefault(kind, []).append(reached.fact)
    return UnitFacts(enrolments, *(found.get(kind, ()) for kind in _KINDS))


_KINDS = (SlotFact, OrderFact, CartFact, RatingFact, CustomFact)
"""In the order of `UnitFacts`."""


def reaching(rows: UnitRows, live: LiveExperiment, cluster: Sequence[int], mask: int) -> Collection[Reached]:
    """What reaches these units together, each event once.

    A request is credited by its own decision alone; other kinds by whatever reaches them.
    """
    by_decision = live.experiment.unit is UnitKind.REQUEST
    found = {
        reached.event_no: reached
        for unit_no in cluster
        for reached in rows.reached.get(unit_no, ())
        if reached.kinds & mask and (not by_decision or reached.experiment_no == live.experiment_no)
    }
    return found.values()
