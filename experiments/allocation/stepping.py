"""One step of the allocator: from what an experiment stands on and what is known now to its next version.

Pure, so that the service and the simulator take the very same step. In this order: drift, guardrails (and
what they kill), ramps, circuit breakers, shares, the stop rule (which may promote), and, while a breaker is
tripped, the last shares again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from experiments.allocation.breakers import BreakerState, Mark, breaker_of, judged
from experiments.allocation.drift import reading_as, watch_drift
from experiments.allocation.features import Encoded
from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.proposal import Keys, Proposal, holding, propose
from experiments.allocation.published import Cause, PolicyVersion, same_shares
from experiments.allocation.publishing import Body, may_draw_anew
from experiments.allocation.ramps import Growth, caps_of, grown, growth_of
from experiments.allocation.stopping import StopDecision, has_rule, in_words, read_figures
from experiments.allocation.stopping import decide as decide_stop
from experiments.allocation.warm_start import PastExperiment, WarmPriors, warm_priors
from experiments.analysis.reading import is_adaptive
from experiments.model import Experiment
from experiments.statistics import Cell

EDITS = (Cause.EDITED, Cause.ADDED, Cause.REPLACED)
"""Causes that open a new epoch whatever the shares."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An experiment as a step finds it: `before` is the body of `version`, the one that is served.

    `added` are the variants that came while it ran.
    """

    experiment: Experiment
    version: PolicyVersion
    before: Mapping[str, Any]
    active: frozenset[str]
    added: frozenset[str]
    time_zone: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known at a step: `seen` candidate sets, `marks` of before and the `mark` of now.

    `past` are the experiments a warm start names; `contexts` is asked only where a stop rule needs them.
    """

    cells: Sequence[Cell]
    seen: Sequence[Keys]
    mark: Mark
    marks: Sequence[Mark] = ()
    past: Mapping[str, PastExperiment] | None = None
    contexts: Callable[[], Sequence[Encoded]] | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """The next version, not yet numbered into its epoch, its body, and the variants its guardrails kill."""

    version: PolicyVersion
    body: Body
    killed: frozenset[str]


def first_version(
    experiment: Experiment,
    active: frozenset[str],
    *,
    added: frozenset[str] = frozenset(),
    past: Mapping[str, PastExperiment] | None = None,
    time_zone: str,
    now_us: int,
) -> tuple[PolicyVersion, Body]:
    """Version 1, of an experiment that starts."""
    warm = _warm(experiment, [], past, time_zone, now_us)
    ramps = grown(experiment, [], active, None, [], now_us=now_us, is_start=True)
    guarded = Guarded(capped=caps_of(ramps, experiment.policy.ramp, {}))
    proposal = propose(
        experiment,
        [],
        active,
        [],
        guarded=guarded,
        promoted=None,
        last=None,
        time_zone=time_zone,
        now=_instant(now_us),
        added=added,
        warm=warm,
    )
    version = PolicyVersion(
        number=1,
        epoch=1,
        published_at_us=now_us,
        cause=Cause.STARTED,
        control=experiment.control.key,
        sets=proposal.sets,
        segments=proposal.segments,
        contextual=proposal.contextual,
        capped=guarded.capped,
    )
    grew = [growth.to_json(experiment.policy.ramp) for growth in ramps]
    body = Body(proposal.held, proposal.burn_in, [], None, warm_start=warm.entries or None, ramps=grew)
    return version, body


def decide(
    standing: Standing, known: Known, *, cause: Cause, promoted: str | None, may_promote: bool = False
) -> Decided:
    """The version these cells ask for.

    Only a step promotes by the stop rule (`may_promote`), not what a person changed for another reason, and
    none whose data is not trusted.
    """
    now_us, before, cells = known.mark.at_us, standing.before, known.cells
    drift = _drift(standing, cells, now_us)
    experiment = reading_as(standing.experiment, discounting=bool(drift and drift["discounting"]))
    guarded = guard(
        experiment,
        cells,
        standing.active,
        before["guardrails"],
        standing.version,
        time_zone=standing.time_zone,
        now=_instant(now_us),
    )
    standing = replace(standing, experiment=experiment, active=standing.active - guarded.killed)
    if promoted not in standing.active:
        promoted = None
    ramps = _ramps(standing, cells, guarded, now_us)
    caps = caps_of(ramps, experiment.policy.ramp, guarded.capped)
    guarded = replace(guarded, capped={key: cap for key, cap in caps.items() if key in standing.active})
    breakers = _breakers(standing, known)
    warm = _warm(experiment, cells, known.past, standing.time_zone, now_us)
    proposal = _propose(standing, known, guarded, promoted, warm)
    trusted = not any(state.is_tripped for state in breakers)
    stop = _stop(
        standing,
        known,
        guarded,
        warm,
        is_burn_in=proposal.burn_in,
        promoted=promoted,
        may_promote=may_promote and trusted,
    )
    if stop is not None and stop.promote is not None and promoted is None:
        promoted = stop.promote
        proposal = _propose(standing, known, guarded, promoted, warm)
    if promoted is None and is_adaptive(experiment):
        proposal = _holding(proposal, guarded, standing.version, breakers)
    body = Body(
        proposal.held,
        proposal.burn_in,
        guarded.entries,
        promoted,
        drift,
        draws=proposal.draws,
        ramps=[growth.to_json(experiment.policy.ramp) for growth in ramps],
        breakers=[state.to_json() for state in breakers],
        newcomers=sorted(proposal.newcomers),
        warm_start=warm.entries or None,
        stop=_stop_to_json(experiment, stop, before, now_us),
    )
    return Decided(_next_version(standing, proposal, guarded, cause, now_us), body, guarded.killed)


def numbered(last: PolicyVersion, version: PolicyVersion) -> PolicyVersion:
    """The version in its epoch: a new one when shares differ, or the experiment was edited."""
    is_new = not same_shares(last, version) or version.cause in EDITS
    return replace(version, epoch=last.epoch + int(is_new))


def _next_version(
    standing: Standing, proposal: Proposal, guarded: Guarded, cause: Cause, now_us: int
) -> PolicyVersion:
    """The proposal as the next version; whether it opens a new epoch is found by comparing shares."""
    return PolicyVersion(
        number=standing.version.number + 1,
        epoch=standing.version.epoch,
        published_at_us=now_us,
        cause=cause,
        control=standing.experiment.control.key,
        sets=proposal.sets,
        segments=proposal.segments,
        contextual=proposal.contextual,
        capped=guarded.capped,
        killed=frozenset(v.key for v in standing.experiment.variants) - standing.active,
    )


def _propose(
    standing: Standing, known: Known, guarded: Guarded, promoted: str | None, warm: WarmPriors
) -> Proposal:
    return propose(
        standing.experiment,
        known.cells,
        standing.active,
        known.seen,
        guarded=guarded,
        promoted=promoted,
        last=standing.version,
        time_zone=standing.time_zone,
        now=_instant(known.mark.at_us),
        added=standing.added,
        warm=warm,
    )


def _ramps(standing: Standing, cells: Sequence[Cell], guarded: Guarded, now_us: int) -> list[Growth]:
    kept = standing.before.get("ramps")  # versions of old have none
    last = None if kept is None else [growth_of(plain) for plain in kept]
    return grown(standing.experiment, cells, standing.active, last, guarded.entries, now_us=now_us)


def _breakers(standing: Standing, known: Known) -> list[BreakerState]:
    last = [breaker_of(plain) for plain in standing.before.get("breakers") or ()]
    return judged(standing.experiment, standing.active, [*known.marks, known.mark], last)


def _holding(
    proposal: Proposal, guarded: Guarded, last: PolicyVersion, breakers: Sequence[BreakerState]
) -> Proposal:
    """The last shares while a breaker is tripped, whatever else it does."""
    open_ones = [state for state in breakers if state.is_tripped]
    if not open_ones:
        return proposal
    detail = f"the circuit breaker of {' and '.join(state.breaker.value for state in open_ones)} is tripped"
    return holding(proposal, guarded, last, "breaker", detail)


def _drift(standing: Standing, cells: Sequence[Cell], now_us: int) -> dict[str, Any] | None:
    """Whether the last week contradicts what the shares rest on; versions of old have no state."""
    if not is_adaptive(standing.experiment):
        return None
    before = standing.before.get("drift")
    state = watch_drift(
        standing.experiment, cells, before, time_zone=standing.time_zone, now=_instant(now_us)
    )
    return state.to_json()


def _warm(
    experiment: Experiment,
    cells: Sequence[Cell],
    past: Mapping[str, PastExperiment] | None,
    time_zone: str,
    now_us: int,
) -> WarmPriors:
    """The priors of the experiment's warm start, those of past experiments as they are known now."""
    if experiment.policy.warm_start is None:
        return WarmPriors()
    return warm_priors(experiment, cells, past or {}, time_zone=time_zone, now=_instant(now_us))


def _stop(
    standing: Standing,
    known: Known,
    guarded: Guarded,
    warm: WarmPriors,
    *,
    is_burn_in: bool,
    promoted: str | None,
    may_promote: bool,
) -> StopDecision | None:
    """The stop rule's state now; it waits while variants burn in, and a promotion for draws to change."""
    experiment = standing.experiment
    if not has_rule(experiment.stop_rule):
        return None
    now = _instant(known.mark.at_us)
    figures = (
        "burn_in"
        if is_burn_in
        else read_figures(
            experiment,
            known.cells,
            [variant.key for variant in experiment.variants if variant.key in standing.active],
            priors=warm.priors,
            time_zone=standing.time_zone,
            now=now,
            contexts=[] if known.contexts is None else list(known.contexts()),
        )
    )
    return decide_stop(
        experiment,
        figures,
        standing.before.get("stop"),
        guarded.entries,
        promoted=promoted,
        now=now,
        may_promote=may_promote and may_draw_anew(standing.version, known.mark.at_us),
    )


def _stop_to_json(
    experiment: Experiment, stop: StopDecision | None, before: Mapping[str, Any], now_us: int
) -> dict[str, Any] | None:
    """The stop rule's state as a version keeps it: with its sentence, and since when it is so."""
    if stop is None:
        return None
    plain, last = stop.to_json(), before.get("stop") or {}
    since_us = last["since_us"] if last.get("state") == plain["state"] else now_us
    return plain | {"detail": in_words(plain, experiment), "since_us": since_us}


def _instant(at_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
