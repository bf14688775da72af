"""The allocator: posteriors to shares, published as policy versions.

A version is published when some share moved by 0.005 or more, a guardrail or a circuit breaker changed
state, a ramp took a step, a person changed something, or a day passed. After an experiment's first day
shares move at most 24 times a day; a kill, a throttle (and its end) or a person is exempt. Any other news
in between is published with the shares as they are.

A tripped breaker holds the shares, or pauses the experiment once: a person who resumes it is not overruled.

Steps are computed on a snapshot, beside the writer, and taken in a short transaction: a decision never
waits for mathematics. A step whose experiment has changed meanwhile is dropped and computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select, update

from experiments.allocation.breakers import Mark, mark_of
from experiments.allocation.capping import new_caps
from experiments.allocation.published import Cause, PolicyVersion
from experiments.allocation.publishing import Body, tripped, worth_publishing
from experiments.allocation.stepping import Decided, Known, Standing, decide, first_version, numbered
from experiments.fold import Caps, micros
from experiments.model import BreakerAction, Lifecycle, VariantState
from experiments.statistics import Cell
from service.catalogue import LiveExperiment, StoreState, load_store
from service.clock import to_datetime
from service.context import Service
from service.jobs.exploring import exploration_of, sampled_contexts
from service.jobs.guardrail_changes import record_changes
from service.jobs.operations import answered, marks_of, note
from service.jobs.past import past_of
from service.jobs.versions import last_body, may_move, publish
from service.ledger import schema
from service.ledger.cells import candidate_sets, read_cells
from service.ledger.folds import mark_all
from service.ledger.statements import upsert


@dataclass(frozen=True, slots=True)
class Step:
    """What one allocation step found, from the experiment as it was then."""

    live: LiveExperiment
    at_us: int
    version: PolicyVersion | None  # None: nothing worth publishing
    body: Body
    killed: frozenset[str]
    caps: Caps  # new ones
    mark: Mark
    pauses: bool = False


def steps_due(connection: Connection, service: Service, store_no: int) -> list[Step]:
    """Compute the allocation steps due in a store. Reads only."""
    if not _has_running(connection, store_no):
        return []
    store = load_store(connection, store_no)
    now_us = service.now_us(store)
    due = [
        live
        for live in store.experiments.values()
        if live.state is Lifecycle.RUNNING and live.policy is not None and _is_due(live, service, now_us)
    ]
    answers = answered(connection, service.metrics.answers, store_no) if due else (0, 0)
    return [_step(connection, live, now_us, answers) for live in due]


def take(connection: Connection, service: Service, store_no: int, steps: Sequence[Step]) -> None:
    """Write the steps; one whose experiment has changed since is left for the next time."""
    store = load_store(connection, store_no)
    for step in steps:
        live = _live(store, step.live.experiment_no)
        if _is_same(live, step.live):
            _write(connection, store_no, step)
            note(connection, live.experiment_no, step.mark)
            service.stepped_at_us[live.experiment_no] = step.at_us
            row = {"name": stepped_name(live.experiment_no), "value": step.at_us}
            upsert(connection, schema.progress, [row])


def stepped_name(experiment_no: int) -> str:
    """Under which name of `progress` the time of an experiment's last step stands."""
    return f"allocated:{experiment_no}"


def publish_first(connection: Connection, store_no: int, experiment_no: int, now_us: int) -> None:
    """Publish version 1 of an experiment that starts."""
    live = _live(load_store(connection, store_no), experiment_no)
    version, body = first_version(
        live.experiment,
        _active(live),
        added=frozenset(live.added),
        past=past_of(connection, live, []),
        time_zone=live.time_zone,
        now_us=now_us,
    )
    explored = exploration_of(connection, live, version, [], None, None)
    publish(connection, experiment_no, version, replace(body, exploration=explored))


def republish(
    connection: Connection,
    store_no: int,
    experiment_no: int,
    now_us: int,
    cause: Cause,
    promote: str | None = None,
) -> None:
    """Publish a version because a person changed something; an edit also opens a new epoch."""
    live = _live(load_store(connection, store_no), experiment_no)
    before = last_body(connection, live)
    keeps = cause in (Cause.RETIRED, Cause.RESUMED)
    promoted = promote if cause is Cause.PROMOTED else (before.get("promoted") if keeps else None)
    cells = read_cells(connection, live)
    mark = mark_of(live.experiment, cells, now_us)  # nothing is said here of the service's answers
    assert live.policy is not None
    decided = _decide(connection, live, cells, before, promoted, cause, mark)
    explored = exploration_of(connection, live, decided.version, cells, before, decided.body.promoted)
    body, version = replace(decided.body, exploration=explored), numbered(live.policy, decided.version)
    _write(connection, store_no, Step(live, now_us, version, body, decided.killed, {}, mark))


def _step(connection: Connection, live: LiveExperiment, now_us: int, answers: tuple[int, int]) -> Step:
    assert live.policy is not None
    cells, before = read_cells(connection, live), last_body(connection, live)
    promoted = before.get("promoted")
    moves = may_move(connection, live, live.policy, now_us)
    mark = mark_of(live.experiment, cells, now_us, answers=answers[0], fallbacks=answers[1])
    decided = _decide(connection, live, cells, before, promoted, Cause.SHARES_MOVED, mark, may_promote=moves)
    body, version = decided.body, None
    chosen = worth_publishing(live.policy, decided.version, before, body, may_move=moves)
    if chosen is not None:
        version = numbered(live.policy, chosen)
        explored = exploration_of(connection, live, chosen, cells, before, body.promoted, recounts=True)
        body = replace(body, exploration=explored)
    pauses = live.experiment.policy.breakers.action is BreakerAction.PAUSE and bool(
        tripped(body.breakers) - tripped(before.get("breakers") or ())
    )
    caps = _new_caps(live, cells, now_us)
    return Step(live, now_us, version, body, decided.killed, caps, mark, pauses)


def _decide(
    connection: Connection,
    live: LiveExperiment,
    cells: Sequence[Cell],
    before: Mapping[str, Any],
    promoted: str | None,
    cause: Cause,
    mark: Mark,
    *,
    may_promote: bool = False,
) -> Decided:
    """The version these cells ask for, and the variants its guardrails kill."""
    assert live.policy is not None
    standing = Standing(
        live.experiment, live.policy, before, _active(live), frozenset(live.added), live.time_zone
    )
    known = Known(
        cells,
        list(candidate_sets(connection, live.experiment_no).values()),
        mark,
        marks_of(connection, live.experiment_no, mark.at_us),
        past_of(connection, live, cells),
        lambda: sampled_contexts(connection, live),
    )
    return decide(standing, known, cause=cause, promoted=promoted, may_promote=may_promote)


def _active(live: LiveExperiment) -> frozenset[str]:
    return frozenset(k for k, state in live.variant_states.items() if state is VariantState.ACTIVE)


def _new_caps(live: LiveExperiment, cells: Sequence[Cell], now_us: int) -> Caps:
    fixed = {name: (low, high) for name, (low, high) in live.caps.get("caps", {}).items()}
    now = to_datetime(now_us)
    return new_caps(live.experiment, cells, fixed, time_zone=live.time_zone, now=now)


def _write(connection: Connection, store_no: int, step: Step) -> None:
    experiment_no = step.live.experiment_no
    if step.caps:
        before = step.live.caps
        value = {"version": before.get("version", 0) + 1, "caps": {**before.get("caps", {}), **step.caps}}
        table = schema.experiment
        connection.execute(update(table).where(table.c.experiment_no == experiment_no).values(caps=value))
        # Every unit's capped totals are folded again under the new caps.
        mark_all(connection, store_no, experiment_no)
    if step.killed:
        variant = schema.variant
        connection.execute(
            update(variant)
            .where(variant.c.experiment_no == experiment_no, variant.c.key.in_(step.killed))
            .values(state=VariantState.KILLED.value, changed_at_us=step.at_us)
        )
    if step.version is not None:
        before, after = last_body(connection, step.live), step.body.to_json(step.version)
        record_changes(connection, experiment_no, step.version, before, after)
        publish(connection, experiment_no, step.version, step.body)
    if step.pauses:
        table = schema.experiment
        connection.execute(
            update(table)
            .where(table.c.experiment_no == experiment_no)
            .values(state=Lifecycle.PAUSED.value, version=table.c.version + 1)
        )


def _is_same(now: LiveExperiment, then: LiveExperiment) -> bool:
    """Whether nobody has changed the experiment or published a version in between."""
    if now.policy is None or then.policy is None:
        return False
    return (now.version, now.policy.number) == (then.version, then.policy.number)


def _has_running(connection: Connection, store_no: int) -> bool:
    table = schema.experiment.c
    running = select(table.experiment_no).where(
        table.store_no == store_no, table.state == Lifecycle.RUNNING.value
    )
    return connection.execute(running.limit(1)).first() is not None


def _is_due(live: LiveExperiment, service: Service, now_us: int) -> bool:
    assert live.policy is not None
    last_us = service.stepped_at_us.get(live.experiment_no, live.policy.published_at_us)
    return now_us - last_us >= micros(live.experiment.policy.cadence)


def _live(store: StoreState, experiment_no: int) -> LiveExperiment:
    live = store.by_no(experiment_no)
    assert live is not None, f"experiment {experiment_no} is not of store {store.store_no}"
    return live
