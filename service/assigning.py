"""Get-or-create: the unit's variant, once, and what may be shown of it now.

`decide_many` runs inside the writer: what it returns is committed with it. An assignment happens once;
what is shown is checked at every call, and gives way to no offer with the reason while the assignment
stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, select

from experiments.allocation.hashing import race, uniform, unit_hash
from experiments.eligibility import RequestContext, conditions_hold, eligible, showable
from experiments.facts import Enrolment
from experiments.fold import micros, serving_enrolments
from experiments.model import Lifecycle, UnitKind, VariantState
from service.catalogue import LiveExperiment, StoreState
from service.decision_ids import DecisionRef
from service.ledger import schema
from service.ledger.statements import chunks, insert_missing
from service.ledger.units import KIND_BITS, PERSON_KINDS, find_units, get_or_create_units, groups_of

SHARE_TOTAL = 1 << 32


class Mode(StrEnum):
    """`preview` writes nothing; `forced` records the variant that history chose."""

    LIVE = "live"
    PREVIEW = "preview"
    FORCED = "forced"


@dataclass(frozen=True, slots=True)
class Ask:
    """A well-formed request: who asks for an offer, where, in which context."""

    experiments: tuple[LiveExperiment, ...]  # candidates in order; one when the request names it
    ids: Mapping[UnitKind, str]
    context: RequestContext
    segment: str
    stored_context: Mapping[str, Any]
    at_us: int
    mode: Mode = Mode.LIVE
    variant: str | None = None
    propensity: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer: the assignment if there is one, and the variant shown (None = no offer)."""

    reason: str
    live: LiveExperiment | None = None
    variant: str | None = None
    shown: str | None = None
    ref: DecisionRef | None = None
    share: int | None = None
    policy_version: int | None = None


@dataclass(slots=True)
class _Ledger:
    """What the requests of one batch touch, read in bulk, kept current while they are decided."""

    units: dict[str, int]
    groups: dict[int, list[int]]
    rows: dict[tuple[int, int], list[Any]]  # (experiment_no, unit_no) -> assignment rows
    sets: dict[tuple[int, tuple[str, ...]], int] = field(default_factory=dict)
    last_shown: dict[DecisionRef, str] = field(default_factory=dict)
    new_assignments: list[dict[str, Any]] = field(default_factory=list)
    new_contexts: list[dict[str, Any]] = field(default_factory=list)
    new_shown: list[dict[str, Any]] = field(default_factory=list)


def decide_many(connection: Connection, store: StoreState, asks: Sequence[Ask]) -> list[Decision]:
    """Answer requests in order; rows for new assignments are written in the caller's transaction."""
    ledger = _read(connection, store, asks)
    decisions = [_decide(connection, store, ledger, ask) for ask in asks]
    numbers = _number_new_units(connection, store, ledger)
    for rows in (ledger.new_assignments, ledger.new_contexts, ledger.new_shown):
        for row in rows:
            row["unit_no"] = numbers.get(row["unit_no"], row["unit_no"])
    _append(connection, store, ledger)
    return [_renumbered(decision, numbers) for decision in decisions]


def _number_new_units(connection: Connection, store: StoreState, ledger: _Ledger) -> dict[int, int]:
    """The unit_no that each provisional (negative) number stands for: rows made in one statement."""
    new = {raw_id: number for raw_id, number in ledger.units.items() if number < 0}
    made = get_or_create_units(connection, store, new)
    return {number: made[raw_id] for raw_id, number in new.items()}


def _renumbered(decision: Decision, numbers: Mapping[int, int]) -> Decision:
    ref = decision.ref
    if ref is None or ref.unit_no >= 0:
        return decision
    return replace(decision, ref=replace(ref, unit_no=numbers[ref.unit_no]))


def _append(connection: Connection, store: StoreState, ledger: _Ledger) -> None:
    if ledger.new_assignments:
        connection.execute(insert(schema.assignment), ledger.new_assignments)
        dirty = {row["unit_no"] for row in ledger.new_assignments}
        rows = [{"unit_no": unit_no, "store_no": store.store_no} for unit_no in dirty]
        insert_missing(connection, schema.dirty_unit, rows)
    if ledger.new_contexts:
        connection.execute(insert(schema.decision_context), ledger.new_contexts)
    if ledger.new_shown:
        connection.execute(insert(schema.shown), ledger.new_shown)


def _read(connection: Connection, store: StoreState, asks: Sequence[Ask]) -> _Ledger:
    raw_ids: dict[str, None] = {}
    experiment_nos: set[int] = set()
    for ask in asks:
        for live in ask.experiments:
            experiment_nos.update(mate.experiment_no for mate in _layer_mates(store, live))
            if (raw_id := _raw_id(ask, live)) is not None:
                raw_ids[raw_id] = None
    units = find_units(connection, store, raw_ids)
    groups = groups_of(connection, units.values())
    members = {member for group in groups.values() for member in group}
    rows: dict[tuple[int, int], list[Any]] = {}
    table = schema.assignment.c
    for part in chunks(members):
        found = connection.execute(
            select(schema.assignment).where(table.experiment_no.in_(experiment_nos), table.unit_no.in_(part))
        )
        for row in found:
            rows.setdefault((row.experiment_no, row.unit_no), []).append(row)
    last_shown = _last_shown(connection, experiment_nos, {unit_no for _, unit_no in rows})
    return _Ledger(units, groups, rows, last_shown=last_shown)


def _last_shown(
    connection: Connection, experiment_nos: set[int], unit_nos: set[int]
) -> dict[DecisionRef, str]:
    shown = schema.shown.c
    last: dict[DecisionRef, str] = {}
    for part in chunks(unit_nos):
        newest = (
            select(func.max(shown.shown_no))
            .where(shown.experiment_no.in_(experiment_nos), shown.unit_no.in_(part))
            .group_by(shown.experiment_no, shown.unit_no, shown.period)
        )
        for row in connection.execute(select(schema.shown).where(shown.shown_no.in_(newest))):
            last[DecisionRef(row.experiment_no, row.unit_no, row.period)] = row.reason
    return last


def _raw_id(ask: Ask, live: LiveExperiment) -> str | None:
    return ask.ids.get(live.experiment.unit)


def _decide(connection: Connection, store: StoreState, ledger: _Ledger, ask: Ask) -> Decision:
    """The first experiment that has, or takes, the unit; else the first one's reason not to."""
    refused: Decision | None = None
    for live in ask.experiments:
        decision = _decide_in(connection, store, ledger, ask, live)
        if decision.ref is not None or decision.policy_version is not None or decision.reason == "holdout":
            return decision
        refused = refused or decision
    return refused or Decision("no_experiment")


def _decide_in(
    connection: Connection, store: StoreState, ledger: _Ledger, ask: Ask, live: LiveExperiment
) -> Decision:
    if live.state not in (Lifecycle.RUNNING, Lifecycle.PAUSED) or live.policy is None:
        return Decision("no_experiment", live)
    raw_id = _raw_id(ask, live)
    if raw_id is None:
        return Decision("unit_id_missing", live)
    unit_no = ledger.units.get(raw_id)
    row = None if unit_no is None else _serving_row(ledger, live, unit_no, ask.at_us)
    if row is not None:
        return _again(ledger, store, ask, live, row)
    if live.state is Lifecycle.PAUSED:
        return Decision("paused", live)
    unit = unit_hash(store.secret, raw_id)
    if ask.mode is not Mode.FORCED and uniform("holdout:" + store.key, unit) < store.settings.holdout:
        return Decision("holdout", live)
    if not _in_layer(ledger, store, live, unit, unit_no):
        return Decision("not_in_audience", live)
    if not conditions_hold(live.experiment.audience, ask.context, ask.segment):
        return Decision("not_in_audience", live)
    return _enrol(connection, store, ledger, ask, live, raw_id, unit)


def _serving_row(ledger: _Ledger, live: LiveExperiment, unit_no: int, at_us: int) -> Any | None:
    """The assignment that serves the unit now: the earliest of the person, in the open period."""
    group = _one_with(ledger, live, unit_no)
    rows = [row for member in group for row in ledger.rows.get((live.experiment_no, member), [])]
    if not rows:
        return None
    by_place = {(row.unit_no, row.period): row for row in rows}
    enrolments = [_enrolment(live, row) for row in rows]
    reassign_after = live.experiment.reassign_after
    first = serving_enrolments(enrolments, reassign_after)[-1][0]
    if reassign_after is not None and at_us >= first.at_us + micros(reassign_after):
        return None
    return by_place[(first.unit_no, first.period)]


def _enrolment(live: LiveExperiment, row: Any) -> Enrolment:
    return Enrolment(
        row.unit_no,
        row.period,
        row.at_us,
        live.variant_key(row.variant_no),
        row.segment,
        row.set_no,
        row.epoch,
    )


def _again(ledger: _Ledger, store: StoreState, ask: Ask, live: LiveExperiment, row: Any) -> Decision:
    """A unit assigned before: its first decision, and what may be shown of it now."""
    ref = DecisionRef(row.experiment_no, row.unit_no, row.period)
    key = live.variant_key(row.variant_no)
    reason = _hidden(store, ask, live, key)
    if ask.mode is not Mode.PREVIEW:
        _note_shown(ledger, ref, ask.at_us, reason or "offer")
    return Decision(
        reason=reason or "sticky",
        live=live,
        variant=key,
        shown=None if reason else key,
        ref=ref,
        share=row.share,
        policy_version=row.policy_version,
    )


def _hidden(store: StoreState, ask: Ask, live: LiveExperiment, key: str) -> str | None:
    """Why an assigned variant may not be shown at this call; None when it may."""
    state = live.variant_states[key]
    if live.state is Lifecycle.PAUSED:
        return "paused"
    if state is not VariantState.ACTIVE:
        return state.value
    variant = live.experiment.variant(key)
    rule = showable(variant, state, ask.context, store.settings.out_of_stock)
    return None if rule is None else "not_eligible_now"


def _in_layer(
    ledger: _Ledger, store: StoreState, live: LiveExperiment, unit: bytes, unit_no: int | None
) -> bool:
    """Whether the unit's place in the experiment's layer is this experiment's."""
    layer = live.experiment.layer
    if layer is None:
        return True
    others = [e for e in _layer_mates(store, live) if e.state in (Lifecycle.RUNNING, Lifecycle.PAUSED)]
    group = [] if unit_no is None else _one_with(ledger, live, unit_no)
    taken = [e.key for e in others if any(ledger.rows.get((e.experiment_no, member)) for member in group)]
    if taken:
        return live.key in taken
    return race("layer:" + layer, unit, {e.key: 1 for e in others}).winner == live.key


def _layer_mates(store: StoreState, live: LiveExperiment) -> list[LiveExperiment]:
    """The experiment and those it shares no unit with, at whatever touchpoint."""
    layer = live.experiment.layer
    if layer is None:
        return [live]
    return [e for e in store.experiments.values() if e.experiment.layer == layer]


def _one_with(ledger: _Ledger, live: LiveExperiment, unit_no: int) -> list[int]:
    """The units that are one with this one in the experiment, itself included."""
    is_person = KIND_BITS[live.experiment.unit] & PERSON_KINDS
    return ledger.groups.get(unit_no, [unit_no]) if is_person else [unit_no]


def _enrol(
    connection: Connection,
    store: StoreState,
    ledger: _Ledger,
    ask: Ask,
    live: LiveExperiment,
    raw_id: str,
    unit: bytes,
) -> Decision:
    assert live.policy is not None
    # What history showed could be shown then, whatever has been retired or killed since.
    states = {} if ask.mode is Mode.FORCED else live.variant_states
    chosen = eligible(live.experiment.variants, states, ask.context, store.settings.out_of_stock)
    candidates = chosen.candidates
    if len(candidates) < 2:
        return Decision("no_eligible_variant", live)
    if ask.mode is Mode.FORCED and ask.variant is not None and ask.propensity is not None:
        key, share = ask.variant, max(1, round(ask.propensity * SHARE_TOTAL))
        if key not in candidates:
            # Enrolled for the treatment only, such units would have no control to be compared with.
            return Decision("not_eligible_now", live)
    else:
        shares = live.policy.shares_for(candidates)
        key = race(live.experiment.salt, unit, shares).winner
        share = shares[key]
    reason = _hidden(store, ask, live, key) or ("forced" if ask.mode is Mode.FORCED else "assigned")
    shown = key if reason in ("forced", "assigned") else None
    version = live.policy.number
    if ask.mode is Mode.PREVIEW:
        return Decision(reason, live, key, shown, None, share, version)
    # Provisional until the batch is written: its rows are numbered together.
    unit_no = ledger.units.setdefault(raw_id, -1 - len(ledger.units))
    set_no = _set_no(connection, ledger, live.experiment_no, candidates)
    ref = _assignment(ledger, ask, live, unit_no, key, share, set_no)
    if chosen.rejected or ask.stored_context:
        ledger.new_contexts.append(
            {**_place(ref), "rejected": dict(chosen.rejected), "context": dict(ask.stored_context)}
        )
    _note_shown(ledger, ref, ask.at_us, "offer" if shown else reason)
    return Decision(reason, live, key, shown, ref, share, version)


def _assignment(
    ledger: _Ledger, ask: Ask, live: LiveExperiment, unit_no: int, key: str, share: int, set_no: int
) -> DecisionRef:
    assert live.policy is not None
    before = ledger.rows.setdefault((live.experiment_no, unit_no), [])
    period = 1 + max((row.period for row in before), default=-1)
    values: dict[str, Any] = {
        "experiment_no": live.experiment_no,
        "unit_no": unit_no,
        "period": period,
        "variant_no": live.variant_no(key),
        "share": share,
        "set_no": set_no,
        "policy_version": live.policy.number,
        "epoch": live.policy.epoch,
        "segment": ask.segment,
        "is_forced": ask.mode is Mode.FORCED,
        "at_us": ask.at_us,
    }
    ledger.new_assignments.append(values)
    before.append(_Row(**values))
    return DecisionRef(live.experiment_no, unit_no, period)


@dataclass(frozen=True, slots=True)
class _Row:
    """An assignment row of this batch, as the ledger will answer it."""

    experiment_no: int
    unit_no: int
    period: int
    variant_no: int
    share: int
    set_no: int
    policy_version: int
    epoch: int
    segment: str
    is_forced: bool
    at_us: int


def _note_shown(ledger: _Ledger, ref: DecisionRef, at_us: int, what: str) -> None:
    if ledger.last_shown.get(ref) != what:
        ledger.last_shown[ref] = what
        ledger.new_shown.append({**_place(ref), "at_us": at_us, "reason": what})


def _place(ref: DecisionRef) -> dict[str, Any]:
    return {"experiment_no": ref.experiment_no, "unit_no": ref.unit_no, "period": ref.period}


def _set_no(connection: Connection, ledger: _Ledger, experiment_no: int, candidates: tuple[str, ...]) -> int:
    """The number of a candidate set, given when it is first seen."""
    known = ledger.sets.get((experiment_no, candidates))
    if known is not None:
        return known
    table = schema.candidate_set
    rows = connection.execute(select(table).where(table.c.experiment_no == experiment_no)).all()
    ledger.sets |= {(experiment_no, tuple(row.members)): row.set_no for row in rows}
    if (experiment_no, candidates) not in ledger.sets:
        set_no = 1 + max((row.set_no for row in rows), default=0)
        values = {"experiment_no": experiment_no, "set_no": set_no, "members": list(candidates)}
        connection.execute(insert(table), values)
        ledger.sets[experiment_no, candidates] = set_no
    return ledger.sets[experiment_no, candidates]
