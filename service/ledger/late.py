"""Events that were recorded long after they occurred, hot and archived."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, ScalarSelect, Select, Table, case, func, select, text, union_all

from experiments.analysis.checks_outcomes import LateEvents
from experiments.fold import micros
from service.catalogue import LiveExperiment
from service.ledger import schema
from service.ledger.tables import LATE
from service.ledger.unit_events import FOLDED

LOOKED_AT = 10_000
"""Late events of the store looked at, the latest: what history brought in must not make a report slow."""


def late_events_of(connection: Connection, live: LiveExperiment) -> LateEvents:
    """How many outcomes in the windows of the experiment's units came over a day late, and how many too late.

    Read by an index of late events alone, and from a table of the archived ones. A window is counted from
    the assignment, whatever the anchor.
    """
    number = live.experiment_no
    store_no = select(schema.experiment.c.store_no).where(schema.experiment.c.experiment_no == number)
    link, assignment = schema.event_unit.c, schema.assignment.c
    hot = _latest(schema.event, store_no.scalar_subquery()).where(text(LATE)).subquery()
    archived = _latest(schema.archived_late, store_no.scalar_subquery()).subquery()
    both = union_all(select(hot), select(archived)).subquery()
    late = select(both).order_by(both.c.event_no.desc()).limit(LOOKED_AT).subquery()
    window_us = micros(live.experiment.attribution_window)
    closes_at = assignment.at_us + window_us
    after_close = func.max(case((late.c.received_at_us >= closes_at, 1), else_=0)).label("after_close")
    found = (
        select(late.c.event_no, after_close)
        .join_from(late, schema.event_unit, link.event_no == late.c.event_no)
        .join(schema.assignment, assignment.unit_no == link.unit_no)
        .where(
            assignment.experiment_no == number,
            late.c.type.in_(FOLDED),
            late.c.occurred_at_us >= assignment.at_us,
            late.c.occurred_at_us < closes_at,
        )
        .group_by(late.c.event_no)
        .subquery()
    )
    counts = connection.execute(select(func.count(), func.coalesce(func.sum(found.c.after_close), 0))).one()
    looked_at = connection.execute(select(func.count()).select_from(late)).scalar_one()
    return LateEvents(counts[0], int(counts[1]), is_more=looked_at >= LOOKED_AT)


def _latest(table: Table, store_no: ScalarSelect[int]) -> Select[Any, Any, Any, Any]:
    """The latest events of a table."""
    event = table.c
    return (
        select(event.event_no, event.type, event.occurred_at_us, event.received_at_us)
        .where(event.store_no == store_no)
        .order_by(event.event_no.desc())
        .limit(LOOKED_AT)
    )
