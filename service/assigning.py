"""Get-or-create: the unit's variant, once, and what may be shown of it now.

`decide_many` answers the requests of one batch and adds its rows to the round, which is committed before
anybody is told. An assignment happens once; what is shown is checked at every call, and gives way to no
offer with the reason while the assignment stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from experiments.allocation.hashing import race, uniform
from experiments.eligibility import RequestContext, conditions_hold, eligible, showable
from experiments.facts import Enrolment
from experiments.fold import micros, serving_enrolments
from experiments.model import Lifecycle, UnitKind, VariantState
from service.catalogue import LiveExperiment, StoreState
from service.decision_ids import DecisionRef
from service.hot.assignments import Assignments, Enrolled, read_assignments
from service.hot.ledger import HotLedger, Round
from service.ledger.shown import OFFER
from service.ledger.units import KIND_BITS, PERSON_KINDS

SHARE_TOTAL = 1 << 32
OPEN = (Lifecycle.RUNNING, Lifecycle.PAUSED)
"""States in which an experiment answers the units it has."""


class Mode(StrEnum):
    """`preview` writes nothing; `forced` records the variant that history chose."""

    LIVE = "live"
    PREVIEW = "preview"
    FORCED = "forced"


@dataclass(slots=True)
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


@dataclass(slots=True)
class Decision:
    """The answer: the assignment if there is one, and the variant shown (None = no offer)."""

    reason: str
    live: LiveExperiment | None = None
    variant: str | None = None
    shown: str | None = None
    row: Enrolled | None = None  # none for a preview
    share: int | None = None
    policy_version: int | None = None

    @property
    def ref(self) -> DecisionRef | None:
        """What the decision id names."""
        return None if self.row is None else self.row.ref


async def decide_many(
    ledger: HotLedger, batch: Round, store: StoreState, asks: Sequence[Ask], at_us: int
) -> list[Decision]:
    """Answer requests in order, adding the rows of new assignments; `at_us` is the machine's time."""
    raw_ids: dict[str, None] = {}
    experiment_nos: set[int] = set()
    for ask in asks:
        for live in ask.experiments:
            experiment_nos.update(mate.experiment_no for mate in _layer_mates(store, live))
            if (raw_id := _raw_id(ask, live)) is not None:
                raw_ids[raw_id] = None
    found = await read_assignments(ledger, batch, store, raw_ids, experiment_nos, at_us)
    return [_decide(found, ask) for ask in asks]


def _raw_id(ask: Ask, live: LiveExperiment) -> str | None:
    return ask.ids.get(live.experiment.unit)


def _decide(found: Assignments, ask: Ask) -> Decision:
    """The first experiment that has, or takes, the unit; else the first one's reason not to."""
    refused: Decision | None = None
    for live in ask.experiments:
        decision = _decide_in(found, ask, live)
        if decision.row is not None or decision.policy_version is not None or decision.reason == "holdout":
            return decision
        refused = refused or decision
    return refused or Decision("no_experiment")


def _decide_in(found: Assignments, ask: Ask, live: LiveExperiment) -> Decision:
    store = found.store
    if live.state not in OPEN or live.policy is None:
        return Decision("no_experiment", live)
    raw_id = _raw_id(ask, live)
    if raw_id is None:
        return Decision("unit_id_missing", live)
    unit_no = found.units.numbers.get(raw_id)
    row = None if unit_no is None else _serving_row(found, live, unit_no, ask.at_us)
    if row is not None:
        decision = again(store, ask, live, row)
        if ask.mode is not Mode.PREVIEW:
            found.note_shown(row, ask.at_us, what_is_shown(decision))
        return decision
    if live.state is Lifecycle.PAUSED:
        return Decision("paused", live)
    unit = found.units.hashes[raw_id]
    if ask.mode is not Mode.FORCED and _is_held_out(store, unit):
        return Decision("holdout", live)
    if not _in_layer(found, live, unit, unit_no):
        return Decision("not_in_audience", live)
    if not conditions_hold(live.experiment.audience, ask.context, ask.segment):
        return Decision("not_in_audience", live)
    return _enrol(found, ask, live, raw_id)


def _is_held_out(store: StoreState, unit: bytes) -> bool:
    holdout = store.settings.holdout
    return holdout > 0 and uniform("holdout:" + store.key, unit) < holdout


def _serving_row(found: Assignments, live: LiveExperiment, unit_no: int, at_us: int) -> Enrolled | None:
    """The assignment that serves the unit now: the earliest of the person, in the open period."""
    group = _one_with(found, live, unit_no)
    rows = [row for member in group for row in found.rows.get((live.experiment_no, member), ())]
    if not rows:
        return None
    first = rows[0]
    if len(rows) > 1:
        by_place = {(row.unit_no, row.period): row for row in rows}
        enrolments = [_enrolment(live, row) for row in rows]
        serving = serving_enrolments(enrolments, live.experiment.reassign_after)[-1][0]
        first = by_place[(serving.unit_no, serving.period)]
    return first if still_serves(live, first, at_us) else None


def still_serves(live: LiveExperiment, row: Enrolled, at_us: int) -> bool:
    """Whether the assignment's period is open."""
    reassign_after = live.experiment.reassign_after
    return reassign_after is None or at_us < row.at_us + micros(reassign_after)


def _enrolment(live: LiveExperiment, row: Enrolled) -> Enrolment:
    return Enrolment(
        row.unit_no,
        row.period,
        row.at_us,
        live.variant_key(row.variant_no),
        row.segment,
        row.set_no,
        row.epoch,
    )


def again(store: StoreState, ask: Ask, live: LiveExperiment, row: Enrolled) -> Decision:
    """A unit assigned before: its first decision, and what may be shown of it now."""
    key = live.variant_key(row.variant_no)
    reason = _hidden(store, ask, live, key)
    shown = None if reason else key
    return Decision(reason or "sticky", live, key, shown, row, row.share, row.policy_version)


def what_is_shown(decision: Decision) -> str:
    """The offer, or why not: what the ledger keeps of an answer where it changes."""
    return OFFER if decision.shown is not None else decision.reason


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


def _in_layer(found: Assignments, live: LiveExperiment, unit: bytes, unit_no: int | None) -> bool:
    """Whether the unit's place in the experiment's layer is this experiment's."""
    layer = live.experiment.layer
    if layer is None:
        return True
    others = [e for e in _layer_mates(found.store, live) if e.state in OPEN]
    group = [] if unit_no is None else _one_with(found, live, unit_no)
    taken = [e.key for e in others if any(found.rows.get((e.experiment_no, member)) for member in group)]
    if taken:
        return live.key in taken
    return race("layer:" + layer, unit, {e.key: 1 for e in others}).winner == live.key


def _layer_mates(store: StoreState, live: LiveExperiment) -> list[LiveExperiment]:
    """The experiment and those it shares no unit with, at whatever touchpoint."""
    layer = live.experiment.layer
    if layer is None:
        return [live]
    return [e for e in store.experiments.values() if e.experiment.layer == layer]


def _one_with(found: Assignments, live: LiveExperiment, unit_no: int) -> list[int]:
    """The units that are one with this one in the experiment, itself included."""
    is_person = KIND_BITS[live.experiment.unit] & PERSON_KINDS
    return found.groups.get(unit_no, [unit_no]) if is_person else [unit_no]


def _enrol(found: Assignments, ask: Ask, live: LiveExperiment, raw_id: str) -> Decision:
    assert live.policy is not None
    store = found.store
    out_of_stock = store.settings.out_of_stock
    if ask.mode is Mode.FORCED:
        # What history showed could be shown then, whatever has been retired or killed since.
        chosen = eligible(live.experiment.variants, {}, ask.context, out_of_stock)
    else:
        chosen = live.eligible_for(ask.context, out_of_stock)
    candidates = chosen.candidates
    if len(candidates) < 2:
        return Decision("no_eligible_variant", live)
    features = None if live.columns is None else live.columns.encoded(ask.context, ask.segment)
    if ask.mode is Mode.FORCED and ask.variant is not None and ask.propensity is not None:
        key, share = ask.variant, max(1, round(ask.propensity * SHARE_TOTAL))
        if key not in candidates:
            # Enrolled for the treatment only, such units would have no control to be compared with.
            return Decision("not_eligible_now", live)
    else:
        shares = live.shares_for(candidates, ask.segment, features)
        key = race(live.experiment.salt, found.units.hashes[raw_id], shares).winner
        share = shares[key]
    reason = _hidden(store, ask, live, key) or ("forced" if ask.mode is Mode.FORCED else "assigned")
    shown = key if reason in ("forced", "assigned") else None
    version = live.policy.number
    if ask.mode is Mode.PREVIEW:
        return Decision(reason, live, key, shown, None, share, version)
    unit_no = found.units.number(raw_id)
    row = Enrolled(
        unit_no=unit_no,
        experiment_no=live.experiment_no,
        period=found.next_period(live.experiment_no, unit_no),
        variant_no=live.variant_no(key),
        share=share,
        set_no=found.set_number(live.experiment_no, candidates),
        policy_version=version,
        epoch=live.policy.epoch,
        segment=ask.segment,
        is_forced=ask.mode is Mode.FORCED,
        at_us=ask.at_us,
    )
    found.add(row, chosen.rejected, ask.stored_context, features)
    decision = Decision(reason, live, key, shown, row, share, version)
    found.note_shown(row, ask.at_us, what_is_shown(decision), is_first=True)
    return decision
