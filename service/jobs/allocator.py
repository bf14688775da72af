"""The allocator: posteriors to shares, published as policy versions. Runs inside the writer.

A version is published when some share moved by 0.005 or more, a guardrail changed state, a person
changed something, or a day passed. After an experiment's first day shares move at most 24 times a day;
a kill, a throttle (and its end) or a person is exempt. Any other news in between is published with the
shares as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from experiments.allocation.capping import new_caps
from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.proposal import Proposal, propose
from experiments.allocation.published import Cause, PolicyVersion, moved, same_shares
from experiments.analysis.guardrails import GuardrailState
from experiments.fold import DAY_US, micros
from experiments.model import Lifecycle, VariantState
from experiments.statistics import Cell
from service.catalogue import LiveExperiment, StoreState, load_store
from service.clock import to_datetime
from service.context import Service
from service.ledger import schema
from service.ledger.cells import candidate_sets, read_cells
from service.ledger.folds import mark_all_dirty

HOUR_US = DAY_US // 24
MOVED_BY = 0.005


@dataclass(frozen=True, slots=True)
class Body:
    """What a version's row holds besides the version itself."""

    held: Mapping[str, str] | None
    burn_in: bool
    guardrails: Sequence[Mapping[str, Any]]
    promoted: str | None

    def to_json(self, version: PolicyVersion) -> dict[str, Any]:
        """The row's body."""
        return {
            "version": version.to_json(),
            "held": self.held,
            "burn_in": self.burn_in,
            "guardrails": list(self.guardrails),
            "promoted": self.promoted,
        }


def step_due(connection: Connection, service: Service, store_no: int) -> int:
    """Take the allocation steps due in a store; how many experiments took one."""
    if not _has_running(connection, store_no):
        return 0
    store = load_store(connection, store_no)
    now_us = service.now_us(store)
    steps = 0
    for live in store.experiments.values():
        if live.state is Lifecycle.RUNNING and live.policy is not None and _is_due(live, service, now_us):
            step(connection, store, live, now_us)
            service.stepped_at_us[live.experiment_no] = now_us
            steps += 1
    return steps


def publish_first(connection: Connection, store_no: int, experiment_no: int, now_us: int) -> None:
    """Publish version 1 of an experiment that starts."""
    live = _live(load_store(connection, store_no), experiment_no)
    proposal = _propose(live, [], [], Guarded(), None, now_us)
    version = PolicyVersion(
        number=1,
        epoch=1,
        published_at_us=now_us,
        cause=Cause.STARTED,
        control=live.experiment.control.key,
        sets=proposal.sets,
    )
    _publish(connection, live, version, Body(proposal.held, proposal.burn_in, [], None))


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
    before = _last_body(connection, live)
    keeps = cause in (Cause.RETIRED, Cause.RESUMED)
    promoted = promote if cause is Cause.PROMOTED else (before.get("promoted") if keeps else None)
    _decide(connection, live, now_us, cause, promoted, before, is_person=True)


def step(connection: Connection, store: StoreState, live: LiveExperiment, now_us: int) -> None:
    """One allocation step of a running experiment."""
    if _fix_caps(connection, live, now_us):
        mark_all_dirty(connection, store.store_no, live.experiment_no)
    before = _last_body(connection, live)
    _decide(connection, live, now_us, Cause.SHARES_MOVED, before.get("promoted"), before, is_person=False)


def _decide(
    connection: Connection,
    live: LiveExperiment,
    now_us: int,
    cause: Cause,
    promoted: str | None,
    before: Mapping[str, Any],
    *,
    is_person: bool,
) -> None:
    assert live.policy is not None
    last = live.policy
    cells = read_cells(connection, live)
    guarded = guard(
        live.experiment,
        cells,
        _active(live),
        before["guardrails"],
        last,
        time_zone=live.time_zone,
        now=to_datetime(now_us),
    )
    live = _kill(connection, live, guarded.killed, now_us)
    if promoted is not None and live.variant_states.get(promoted) is not VariantState.ACTIVE:
        promoted = None
    seen = list(candidate_sets(connection, live.experiment_no).values())
    proposal = _propose(live, cells, seen, guarded, promoted, now_us)
    version = PolicyVersion(
        number=last.number + 1,
        epoch=last.epoch,
        published_at_us=now_us,
        cause=cause,
        control=live.experiment.control.key,
        sets=proposal.sets,
        capped=guarded.capped,
        killed=frozenset(k for k, s in live.variant_states.items() if s is not VariantState.ACTIVE),
    )
    body = Body(proposal.held, proposal.burn_in, guarded.entries, promoted)
    if not is_person:
        may_move = _may_move(connection, live, last, now_us)
        chosen = _worth_publishing(last, version, before, body, may_move=may_move)
        if chosen is None:
            return
        version = chosen
    if not same_shares(last, version) or cause is Cause.EDITED:
        version = replace(version, epoch=last.epoch + 1)
    _publish(connection, live, version, body)


def _worth_publishing(
    last: PolicyVersion, version: PolicyVersion, before: Mapping[str, Any], body: Body, *, may_move: bool
) -> PolicyVersion | None:
    """The version to publish, with its cause; None when nothing is worth one."""
    old, new = _states(before["guardrails"]), _states(body.guardrails)
    is_exempt = _acting(old) != _acting(new)
    allowed = version if may_move or is_exempt else _unmoved(version, last)
    if old != new:
        return replace(allowed, cause=Cause.GUARDRAIL)
    if moved(last, allowed, by=MOVED_BY) or body.held != before["held"]:
        return allowed
    if version.published_at_us - last.published_at_us >= DAY_US:
        return replace(allowed, cause=Cause.DAILY)
    return None


def _unmoved(version: PolicyVersion, last: PolicyVersion) -> PolicyVersion:
    """The version's posteriors with the shares that are served already."""
    sets = {keys: replace(found, shares=last.shares_for(keys)) for keys, found in version.sets.items()}
    return replace(version, sets=sets)


def _may_move(connection: Connection, live: LiveExperiment, last: PolicyVersion, now_us: int) -> bool:
    """At most 24 moves a day once the first day is over: an hour between one and the next."""
    if now_us - (live.started_at_us or 0) < DAY_US:
        return True
    table = schema.policy_version.c
    moved_at_us: int = connection.execute(
        select(func.min(table.published_at_us)).where(
            table.experiment_no == live.experiment_no, table.epoch == last.epoch
        )
    ).scalar_one()
    return now_us - moved_at_us >= HOUR_US


def _propose(
    live: LiveExperiment,
    cells: Sequence[Cell],
    seen: Sequence[tuple[str, ...]],
    guarded: Guarded,
    promoted: str | None,
    now_us: int,
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
    )


def _active(live: LiveExperiment) -> frozenset[str]:
    return frozenset(k for k, state in live.variant_states.items() if state is VariantState.ACTIVE)


def _fix_caps(connection: Connection, live: LiveExperiment, now_us: int) -> bool:
    """Fix the caps that can be; every unit of the experiment is then folded again under them."""
    if live.experiment.winsorise is None:
        return False
    fixed = {name: (low, high) for name, (low, high) in live.caps.get("caps", {}).items()}
    found = new_caps(
        live.experiment,
        read_cells(connection, live),
        fixed,
        time_zone=live.time_zone,
        now=to_datetime(now_us),
    )
    if not found:
        return False
    value = {"version": live.caps.get("version", 0) + 1, "caps": {**fixed, **found}}
    table = schema.experiment
    connection.execute(update(table).where(table.c.experiment_no == live.experiment_no).values(caps=value))
    return True


def _kill(
    connection: Connection, live: LiveExperiment, killed: frozenset[str], now_us: int
) -> LiveExperiment:
    if not killed:
        return live
    table = schema.variant
    connection.execute(
        update(table)
        .where(table.c.experiment_no == live.experiment_no, table.c.key.in_(killed))
        .values(state=VariantState.KILLED.value, changed_at_us=now_us)
    )
    states = dict(live.variant_states) | dict.fromkeys(killed, VariantState.KILLED)
    return replace(live, variant_states=states)


def _publish(connection: Connection, live: LiveExperiment, version: PolicyVersion, body: Body) -> None:
    values: dict[str, Any] = {
        "experiment_no": live.experiment_no,
        "number": version.number,
        "epoch": version.epoch,
        "published_at_us": version.published_at_us,
        "body": body.to_json(version),
    }
    connection.execute(insert(schema.policy_version), values)


def _states(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    known = {(e["metric"], e["variant"]): e["state"] for e in entries}
    # Becoming computable is no change anybody acts on.
    return {place: state for place, state in known.items() if state not in _QUIET}


def _acting(states: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """The states that change shares: a warning does not."""
    return {place: state for place, state in states.items() if state != GuardrailState.WARN.value}


_QUIET = (GuardrailState.UNKNOWN.value, GuardrailState.OK.value)


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


def _last_body(connection: Connection, live: LiveExperiment) -> Mapping[str, Any]:
    assert live.policy is not None
    table = schema.policy_version.c
    return connection.execute(
        select(table.body).where(
            table.experiment_no == live.experiment_no, table.number == live.policy.number
        )
    ).scalar_one()
