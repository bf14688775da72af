"""The folder's work: marked units into totals and cells.

For each marked unit the old contributions are taken out of their cells and the new ones put in; totals,
cells and the dirty marks change in one transaction, so a kill at any instant leaves either the old or
the new state. All arithmetic is on integers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, select

from experiments.fold import Contribution, FoldRules, cart_deadlines, fold_unit
from experiments.statistics import Cell, CellKey, Moments
from service.archive.index import units_of_archived_orders
from service.catalogue import LiveExperiment, StoreState
from service.ledger import schema
from service.ledger.facts import facts_for
from service.ledger.marks import mark
from service.ledger.statements import ByKeys
from service.ledger.unit_rows import UnitRows


class Folded(NamedTuple):
    """What a group contributes, and when one of its carts next counts as abandoned."""

    contributions: list[tuple[int, Contribution]]  # with the experiment_no
    next_cart_due_us: int | None


def units_of_orders(connection: Connection, store_no: int, order_ids: Collection[str]) -> set[int]:
    """The units that orders reach: whatever comes later to an order restates them.

    Asked when folding, not when recording: an order and its refund may be recorded by two replicas at once,
    neither of which sees the other's row.
    """
    event_nos = [event_no for (event_no,) in _ORDERED.rows(connection, order_ids, store_no=store_no)]
    found = {unit_no for (unit_no,) in _REACHED.rows(connection, event_nos)}
    return found | units_of_archived_orders(connection, store_no, order_ids)


_event, _link = schema.event.c, schema.event_unit.c
_ORDERED = ByKeys(
    select(_event.event_no).where(_event.store_no == bindparam("store_no"), _event.type == "order"),
    _event.order_id,
)
_REACHED = ByKeys(select(_link.unit_no), _link.event_no)


def mark_all(connection: Connection, store_no: int, experiment_no: int) -> None:
    """Have every unit of an experiment folded again, under rules that have changed."""
    total = schema.unit_total.c
    unit_nos = connection.execute(
        select(total.unit_no).where(total.experiment_no == experiment_no).distinct()
    ).scalars()
    mark(connection, store_no, unit_nos, ())


def fold_groups(store: StoreState, rows: UnitRows) -> Iterator[tuple[tuple[int, ...], Folded]]:
    """Each group of units, and what it contributes to each experiment it is enrolled in."""
    experiments = {live.experiment_no: live for live in store.experiments.values()}
    rules = all_rules(store)
    for group in rows.groups:
        entered = {row.experiment_no for unit_no in group for row in rows.assignments.get(unit_no, ())}
        contributions: list[tuple[int, Contribution]] = []
        deadlines: list[int] = []
        for experiment_no in sorted(entered):
            for facts in facts_for(rows, experiments[experiment_no], group):
                found = fold_unit(rules[experiment_no], facts)
                contributions += [(experiment_no, one) for one in found]
                if facts.carts:
                    deadlines += cart_deadlines(facts.carts, facts.orders).values()
        yield group, Folded(contributions, min(deadlines, default=None))


def all_rules(store: StoreState) -> dict[int, FoldRules]:
    """What folds of a store's experiments depend on, by experiment_no."""
    return {live.experiment_no: rules_of(live) for live in store.experiments.values()}


def caps_versions(store: StoreState) -> dict[int, int]:
    """Which caps the totals of each experiment are made with, by experiment_no."""
    return {live.experiment_no: live.caps.get("version", 0) for live in store.experiments.values()}


def rules_of(live: LiveExperiment) -> FoldRules:
    """The frozen settings a fold of this experiment depends on."""
    caps = {name: (low, high) for name, (low, high) in live.caps.get("caps", {}).items()}
    return FoldRules(live.experiment, live.time_zone, caps)


def cell_of(row: Any, live: LiveExperiment, candidates: frozenset[str]) -> Cell:
    """A cell row as a value."""
    key = CellKey(
        live.variant_key(row.variant_no), row.segment, row.set_no, date.fromisoformat(row.day), row.epoch
    )
    histograms = {
        name: {int(b): n for b, n in histogram.items()} for name, histogram in row.histograms.items()
    }
    return Cell(key, candidates, Moments(dict(row.sums), dict(row.products)), histograms)
