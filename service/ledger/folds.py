"""The folder's work: marked units into totals and cells.

For each marked unit the old contributions are taken out of their cells and the new ones put in; totals,
cells and the dirty marks change in one transaction, so a kill at any instant leaves either the old or
the new state. All arithmetic is on integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, select

from experiments.fold import Contribution, FoldRules, cart_deadlines, fold_unit
from experiments.statistics import Cell, CellKey, Moments
from service.archive.index import units_of_archived_orders
from service.catalogue import LiveExperiment, StoreState
from service.ledger import schema
from service.ledger.facts import UnitRows, facts_for
from service.ledger.marks import mark
from service.ledger.statements import chunks


@dataclass(frozen=True, slots=True)
class Folded:
    """What a group contributes, and when one of its carts next counts as abandoned."""

    contributions: list[tuple[int, Contribution]]  # with the experiment_no
    next_cart_due_us: int | None


def units_of_orders(connection: Connection, store_no: int, order_ids: Iterable[str]) -> set[int]:
    """The units that orders reach: whatever comes later to an order restates them.

    Asked when folding, not when recording: an order and its refund may be recorded by two replicas at once,
    neither of which sees the other's row.
    """
    event, link = schema.event.c, schema.event_unit.c
    found: set[int] = set()
    for part in chunks(order_ids):
        rows = connection.execute(
            select(link.unit_no)
            .join_from(schema.event, schema.event_unit, event.event_no == link.event_no)
            .where(event.store_no == store_no, event.order_id.in_(part), event.type == "order")
        )
        found.update(rows.scalars())
        found |= units_of_archived_orders(connection, store_no, part)
    return found


def mark_all(connection: Connection, store_no: int, experiment_no: int) -> None:
    """Have every unit of an experiment folded again, under rules that have changed."""
    total = schema.unit_total.c
    unit_nos = connection.execute(
        select(total.unit_no).where(total.experiment_no == experiment_no).distinct()
    ).scalars()
    mark(connection, store_no, unit_nos, ())


def fold_group(store: StoreState, rows: UnitRows, group: Sequence[int]) -> Folded:
    """What one group of units contributes to each experiment it is enrolled in."""
    entered = {row.experiment_no for unit_no in group for row in rows.assignments.get(unit_no, [])}
    contributions: list[tuple[int, Contribution]] = []
    deadlines: list[int] = []
    for experiment_no in sorted(entered):
        live = store.numbered(experiment_no)
        for facts in facts_for(rows, live, group):
            found = fold_unit(rules_of(live), facts)
            contributions += [(experiment_no, contribution) for contribution in found]
            deadlines += cart_deadlines(facts.carts, facts.orders).values()
    return Folded(contributions, min(deadlines, default=None))


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


def cell_sums(cell: Cell) -> dict[str, Any]:
    """The sums of a cell as its columns hold them."""
    histograms = {
        name: {str(b): n for b, n in sorted(histogram.items())} for name, histogram in cell.histograms.items()
    }
    return {"sums": cell.moments.sums, "products": cell.moments.products, "histograms": histograms}
