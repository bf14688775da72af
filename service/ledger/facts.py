"""Rows to facts: what the ledger holds of some units, in the shape `fold_unit` takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Text, cast, select

from experiments.facts import (
    CartFact,
    CustomFact,
    Enrolment,
    OrderFact,
    RatingFact,
    SlotFact,
    UnitFacts,
)
from experiments.model import UnitKind
from service.catalogue import LiveExperiment
from service.ledger import schema
from service.ledger.orders import Orders
from service.ledger.statements import ByKeys
from service.ledger.unit_events import reached_by, read_events
from service.ledger.unit_rows import Assigned, Fact, Reached, UnitRows
from service.ledger.units import KIND_BITS, PERSON_KINDS, members_of, persons_of

_assignment = schema.assignment.c
_ASSIGNMENTS = ByKeys(select(*(_assignment[name] for name in Assigned._fields)), _assignment.unit_no)
_CODES = msgspec.json.Decoder(tuple[int, ...])
_features = schema.enrolment_features.c
_FEATURES = ByKeys(
    select(_features.unit_no, _features.experiment_no, _features.period, cast(_features.codes, Text)),
    _features.unit_no,
)


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
    rows.reached = reached_by(read_events(connection, enrolled, orders.archive), orders)
    return rows


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
        for _, _, named, _, _, fact in reaching(rows, live, cluster, mask):
            kind = type(fact)
            if kind is not SlotFact or named == number:
                found.setdefault(kind, []).append(fact)
    return UnitFacts(enrolments, *(found.get(kind, ()) for kind in _KINDS))


_KINDS = (SlotFact, OrderFact, CartFact, RatingFact, CustomFact)
"""In the order of `UnitFacts`."""


def reaching(rows: UnitRows, live: LiveExperiment, cluster: Sequence[int], mask: int) -> Collection[Reached]:
    """What reaches these units together, each event once.

    A request is credited by its own decision alone; other kinds by whatever reaches them.
    """
    by_decision = live.experiment.unit is UnitKind.REQUEST
    if len(cluster) == 1 and not by_decision:  # nearly always
        return [reached for reached in rows.reached.get(cluster[0], ()) if reached.kinds & mask]
    found = {
        reached.event_no: reached
        for unit_no in cluster
        for reached in rows.reached.get(unit_no, ())
        if reached.kinds & mask and (not by_decision or reached.experiment_no == live.experiment_no)
    }
    return found.values()
