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

from experiments.allocation.breakers import BreakerState, Mark, breaker_of, judged, mark_of
from experiments.allocation.capping import new_caps
from experiments.allocation.drift import reading_as, watch_drift
from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.proposal import Proposal, holding, propose
from experiments.allocation.published import Cause, PolicyVersion, same_shares
from experiments.allocation.ramps import Growth, caps_of, grown, growth_of
from experiments.allocation.warm_start import WarmPriors
from experiments.analysis.reading import is_adaptive
from experiments.fold import Caps, micros
from experiments.model import BreakerAction, Lifecycle, VariantState
from experiments.statistics import Cell
from service.catalogue import LiveExperiment, StoreState, load_store
from service.clock import to_datetime
from service.context import Service
from service.jobs.exploring import exploration_of
from service.jobs.guardrail_changes import record_changes
from service.jobs.operations import answered, marks_of, note
from service.jobs.versions import Body, last_body, may_move, publish, tripped, worth_publishing
from service.jobs.watching import stop_of, stop_to_json, warm_of
from service.ledger import schema
from service.ledger.cells import candidate_sets, read_cells
from service.ledger.folds import mark_all
from service.ledger.statements import upsert

_EDITS = (Cause.EDITED, Cause.ADDED, Cause.REPLACED)


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
    warm = warm_of(connection, live, [], now_us)
    ramps = grown(live.experiment, [], _active(live), None, [], now_us=now_us, is_start=True)
    guarded = Guarded(capped=caps_of(ramps, live.experiment.policy.ramp, {}))
    proposal = _propose(live, [], [], guarded, None, now_us, warm)
    version = PolicyVersion(
        number=1,
        epoch=1,
        published_at_us=now_us,
        cause=Cause.STARTED,
        control=live.experiment.control.key,
        sets=proposal.sets,
        segments=proposal.segments,
        contextual=proposal.contextual,
        capped=guarded.capped,
    )
    grew = [growth.to_json(live.experiment.policy.ramp) for growth in ramps]
    body = Body(proposal.held, proposal.burn_in, [], None, warm_start=warm.entries or None, ramps=grew)
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
    version, body, killed = _decide(connection, live, cells, before, promoted, cause, mark)
    explored = exploration_of(connection, live, version, cells, before, body.promoted)
    body = replace(body, exploration=explored)
    _write(connection, store_no, Step(live, now_us, _numbered(live, version), body, killed, {}, mark))


def _step(connection: Connection, live: LiveExperiment, now_us: int, answers: tuple[int, int]) -> Step:
    assert live.policy is not None
    cells, before = read_cells(connection, live), last_body(connection, live)
    promoted = before.get("promoted")
    moves = may_move(connection, live, live.policy, now_us)
    mark = mark_of(live.experiment, cells, now_us, answers=answers[0], fallbacks=answers[1])
    version, body, killed = _decide(
        connection, live, cells, before, promoted, Cause.SHARES_MOVED, mark, may_promote=moves
    )
    chosen = worth_publishing(live.policy, version, before, body, may_move=moves)
    numbered = None if chosen is None else _numbered(live, chosen)
    if chosen is not None:
        explored = exploration_of(connection, live, chosen, cells, before, body.promoted, recounts=True)
        body = replace(body, exploration=explored)
    pauses = live.experiment.policy.breakers.action is BreakerAction.PAUSE and bool(
        tripped(body.breakers) - tripped(before.get("breakers") or ())
    )
    return Step(live, now_us, numbered, body, killed, _new_caps(live, cells, now_us), mark, pauses)


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
) -> tuple[PolicyVersion, Body, frozenset[str]]:
    """The version these cells ask for, and the variants its guardrails kill.

    Only a step promotes by the stop rule, not what a person changed for another reason, and none whose data
    is not trusted.
    """
    assert live.policy is not None
    now_us = mark.at_us
    drift = _drift(live, cells, before, now_us)
    is_discounting = bool(drift and drift["discounting"])
    live = replace(live, experiment=reading_as(live.experiment, discounting=is_discounting))
    assert live.policy is not None
    guarded = guard(
        live.experiment,
        cells,
        _active(live),
        before["guardrails"],
        live.policy,
        time_zone=live.time_zone,
        now=to_datetime(now_us),
    )
    states = dict(live.variant_states) | dict.fromkeys(guarded.killed, VariantState.KILLED)
    live = replace(live, variant_states=states)
    if promoted is not None and states.get(promoted) is not VariantState.ACTIVE:
        promoted = None
    ramps = _ramps(live, cells, before, guarded, now_us)
    guarded = replace(guarded, capped=_capped(live, ramps, guarded))
    breakers = _breakers(connection, live, before, mark)
    seen = list(candidate_sets(connection, live.experiment_no).values())
    warm = warm_of(connection, live, cells, now_us)
    proposal = _propose(live, cells, seen, guarded, promoted, now_us, warm)
    stop = stop_of(
        connection,
        live,
        cells,
        before,
        guarded,
        warm,
        is_burn_in=proposal.burn_in,
        promoted=promoted,
        may_promote=may_promote and not any(state.is_tripped for state in breakers),
        now_us=now_us,
    )
    if stop is not None and stop.promote is not None and promoted is None:
        promoted = stop.promote
        proposal = _propose(live, cells, seen, guarded, promoted, now_us, warm)
    assert live.policy is not None
    if promoted is None and is_adaptive(live.experiment):
        proposal = _holding(proposal, guarded, live.policy, breakers)
    version = _next_version(live, proposal, guarded, cause, now_us)
    body = Body(
        proposal.held,
        proposal.burn_in,
        guarded.entries,
        promoted,
        drift,
        draws=proposal.draws,
        ramps=[growth.to_json(live.experiment.policy.ramp) for growth in ramps],
        breakers=[state.to_json() for state in breakers],
        newcomers=sorted(proposal.newcomers),
        warm_start=warm.entries or None,
        stop=stop_to_json(live, stop, before, now_us),
    )
    return version, body, guarded.killed


def _next_version(
    live: LiveExperiment, proposal: Proposal, guarded: Guarded, cause: Cause, now_us: int
) -> PolicyVersion:
    """The proposal as the next version; whether it opens a new epoch is found by comparing shares."""
    assert live.policy is not None
    return PolicyVersion(
        number=live.policy.number + 1,
        epoch=live.policy.epoch,
        published_at_us=now_us,
        cause=cause,
        control=live.experiment.control.key,
        sets=proposal.sets,
        segments=proposal.segments,
        contextual=proposal.contextual,
        capped=guarded.capped,
        killed=frozenset(k for k, state in live.variant_states.items() if state is not VariantState.ACTIVE),
    )


def _ramps(
    live: LiveExperiment, cells: Sequence[Cell], before: Mapping[str, Any], guarded: Guarded, now_us: int
) -> list[Growth]:
    kept = before.get("ramps")  # versions of old have none
    last = None if kept is None else [growth_of(plain) for plain in kept]
    return grown(live.experiment, cells, _active(live), last, guarded.entries, now_us=now_us)


def _capped(live: LiveExperiment, ramps: Sequence[Growth], guarded: Guarded) -> dict[str, float]:
    caps = caps_of(ramps, live.experiment.policy.ramp, guarded.capped)
    return {key: cap for key, cap in caps.items() if key in _active(live)}


def _breakers(
    connection: Connection, live: LiveExperiment, before: Mapping[str, Any], mark: Mark
) -> list[BreakerState]:
    marks = [*marks_of(connection, live.experiment_no, mark.at_us), mark]
    last = [breaker_of(plain) for plain in before.get("breakers") or ()]
    return judged(live.experiment, _active(live), marks, last)


def _holding(
    proposal: Proposal, guarded: Guarded, last: PolicyVersion, breakers: Sequence[BreakerState]
) -> Proposal:
    """The last shares while a breaker is tripped, whatever else it does."""
    open_ones = [state for state in breakers if state.is_tripped]
    if not open_ones:
        return proposal
    detail = f"the circuit breaker of {' and '.join(state.breaker.value for state in open_ones)} is tripped"
    return holding(proposal, guarded, last, "breaker", detail)


def _drift(
    live: LiveExperiment, cells: Sequence[Cell], before: Mapping[str, Any], now_us: int
) -> dict[str, Any] | None:
    """Whether the last week contradicts what the shares rest on; versions of old have no state."""
    if not is_adaptive(live.experiment):
        return None
    now = to_datetime(now_us)
    return watch_drift(
        live.experiment, cells, before.get("drift"), time_zone=live.time_zone, now=now
    ).to_json()


def _numbered(live: LiveExperiment, version: PolicyVersion) -> PolicyVersion:
    """The version in its epoch: a new one when shares differ, or the experiment was edited."""
    assert live.policy is not None
    is_new = not same_shares(live.policy, version) or version.cause in _EDITS
    return replace(version, epoch=live.policy.epoch + int(is_new))


def _propose(
    live: LiveExperiment,
    cells: Sequence[Cell],
    seen: Sequence[tuple[str, ...]],
    guarded: Guarded,
    promoted: str | None,
    now_us: int,
    warm: WarmPriors,
) -> Proposal:
    return propose(
        live.experiment,
        cells,
        _active(live),
        seen,
        guarded=guarded,
        promoted=promoted,
        last=live.policy,
        time_zone=live.time_zone,
        now=to_datetime(now_us),
        added=frozenset(live.added),
        warm=warm,
    )


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
