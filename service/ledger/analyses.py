"""Analyses as rows: a queue in which each is run by one service at a time, whatever becomes of that service.

Who begins one holds a lease and renews it. A lease that has run out goes back to the queue, three times at
most; and nobody writes a result but under the `attempt` he began. So an analysis survives restarts, and two
replicas never finish the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update

from service.ledger import schema

ATTEMPTS_MAX = 3
LEASE_US = 30_000_000
WAITING_MAX = 20
"""Analyses of one store that may wait at once."""


class State(StrEnum):
    """Where an analysis is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"  # the model does not fit: the reasons say why
    FAILED = "failed"  # it could not be run to its end
    CANCELLED = "cancelled"


OPEN = (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Claim:
    """An analysis that is ours to run."""

    analysis_no: int
    attempt: int
    store_no: int
    experiment_no: int
    settings: Mapping[str, Any]


class QueueFull(Exception):
    """The store has as many analyses waiting as it may."""


def queue(
    connection: Connection, store_no: int, experiment_no: int, settings: Mapping[str, Any], now_us: int
) -> int:
    """Queue an analysis, or find the one that waits or runs with the same settings; its number."""
    table = schema.analysis
    waiting = connection.execute(
        select(table).where(table.c.store_no == store_no, table.c.state.in_(OPEN))
    ).all()
    for row in waiting:
        if row.experiment_no == experiment_no and row.settings == settings:
            return row.analysis_no
    if len(waiting) >= WAITING_MAX:
        raise QueueFull
    values = {
        "store_no": store_no,
        "experiment_no": experiment_no,
        "state": State.QUEUED.value,
        "settings": dict(settings),
        "created_at_us": now_us,
        "attempt": 0,
        "result": {},
    }
    return connection.execute(insert(table).values(values).returning(table.c.analysis_no)).scalar_one()


def is_due(connection: Connection, now_us: int) -> bool:
    """Whether one waits, or its runner is gone."""
    table = schema.analysis.c
    mine = or_(table.state == State.QUEUED, _is_abandoned(now_us))
    return connection.execute(select(table.analysis_no).where(mine).limit(1)).first() is not None


def claim(connection: Connection, now_us: int) -> Claim | None:
    """The next to run, begun; None while another runs. In the one writing transaction."""
    table = schema.analysis
    lost = connection.execute(select(table).where(_is_abandoned(now_us))).all()
    for row in lost:
        if row.attempt >= ATTEMPTS_MAX:
            detail = f"the service ended {ATTEMPTS_MAX} times while it ran: ask for it again"
            _end(connection, row.analysis_no, State.FAILED, now_us, failure("interrupted", detail))
        else:
            connection.execute(_of(row.analysis_no).values(state=State.QUEUED.value, lease_until_us=None))
    if connection.execute(select(table.c.analysis_no).where(table.c.state == State.RUNNING)).first():
        return None
    row = connection.execute(
        select(table).where(table.c.state == State.QUEUED).order_by(table.c.analysis_no).limit(1)
    ).first()
    if row is None:
        return None
    connection.execute(
        _of(row.analysis_no).values(
            state=State.RUNNING.value,
            started_at_us=now_us,
            attempt=row.attempt + 1,
            lease_until_us=now_us + LEASE_US,
        )
    )
    return Claim(row.analysis_no, row.attempt + 1, row.store_no, row.experiment_no, row.settings)


def renew(connection: Connection, mine: Claim, now_us: int) -> bool:
    """Whether it is still ours; then for another while."""
    held = _of(mine.analysis_no).where(_is_mine(mine)).values(lease_until_us=now_us + LEASE_US)
    return connection.execute(held).rowcount == 1


def is_mine(connection: Connection, mine: Claim) -> bool:
    """Whether nobody cancelled it or took it over."""
    found = select(schema.analysis.c.analysis_no).where(
        schema.analysis.c.analysis_no == mine.analysis_no, _is_mine(mine)
    )
    return connection.execute(found).first() is not None


def finish(connection: Connection, mine: Claim, state: State, result: Mapping[str, Any], now_us: int) -> bool:
    """Write what came of it, if it is still ours."""
    if not is_mine(connection, mine):
        return False
    _end(connection, mine.analysis_no, state, now_us, result)
    return True


def cancel(connection: Connection, experiment_no: int, analysis_no: int, now_us: int) -> State | None:
    """Cancel one that has not ended; the state it then has, None when there is none of that number."""
    row = find(connection, experiment_no, analysis_no)
    if row is None:
        return None
    if row.state not in OPEN:
        return State(row.state)
    _end(connection, analysis_no, State.CANCELLED, now_us, {})
    return State.CANCELLED


def find(connection: Connection, experiment_no: int, analysis_no: int) -> Row[Any] | None:
    """The row of that number of this experiment."""
    table = schema.analysis
    mine = (table.c.experiment_no == experiment_no) & (table.c.analysis_no == analysis_no)
    return connection.execute(select(table).where(mine)).first()


def analyses_after(connection: Connection, experiment_no: int, after: int, limit: int) -> Sequence[Row[Any]]:
    """Rows of an experiment, oldest first."""
    table = schema.analysis
    mine = (table.c.experiment_no == experiment_no) & (table.c.analysis_no > after)
    return connection.execute(select(table).where(mine).order_by(table.c.analysis_no).limit(limit)).all()


def failure(code: str, detail: str) -> dict[str, Any]:
    """The result of an analysis that came to nothing."""
    return {"reasons": [{"code": code, "detail": detail}]}


def _is_abandoned(now_us: int) -> ColumnElement[bool]:
    table = schema.analysis.c
    return (table.state == State.RUNNING) & (func.coalesce(table.lease_until_us, 0) < now_us)


def _is_mine(mine: Claim) -> ColumnElement[bool]:
    table = schema.analysis.c
    return (table.state == State.RUNNING) & (table.attempt == mine.attempt)


def _of(analysis_no: int) -> Any:
    return update(schema.analysis).where(schema.analysis.c.analysis_no == analysis_no)


def _end(
    connection: Connection, analysis_no: int, state: State, now_us: int, result: Mapping[str, Any]
) -> None:
    values = {"state": state.value, "ended_at_us": now_us, "lease_until_us": None, "result": dict(result)}
    connection.execute(_of(analysis_no).values(**values))
