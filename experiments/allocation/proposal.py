"""From cells to the shares of every candidate set: what the next policy version would say.

Pure, so that the service, the simulator and a replay allocate by the same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from experiments.allocation.caps import cap_integer, cap_shares, capped_integer
from experiments.allocation.contextual import ContextualDraws
from experiments.allocation.contextual_proposal import Held, average_shares, contextual_draws
from experiments.allocation.guarding import Guarded
from experiments.allocation.joint import Joint, Wins, draw_wins, seed_of
from experiments.allocation.joint_posteriors import joint_of
from experiments.allocation.newcomers import NEWCOMER_SHARE, admitted, newcomers
from experiments.allocation.published import PolicyVersion, PosteriorSummary, Sets, SetShares, summary_of
from experiments.allocation.segments import goals_of, segment_posteriors, with_goals
from experiments.allocation.thompson import burn_in_shares, fixed_shares, shares, top_two
from experiments.allocation.warm_start import WarmPriors
from experiments.analysis.objective import AllocationPosteriors, allocation_posteriors
from experiments.analysis.strata import by_segment
from experiments.model import Experiment, PolicyKind
from experiments.posteriors.compare import prob_best
from experiments.statistics import Cell

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """Shares by candidate set; `held` says why they are the last ones (no posterior can be had).

    `draws` is what a set was drawn from where guardrails took part, with what came of it: as plain values,
    from which `replayed` gives the same wins again.
    """

    sets: Mapping[Keys, SetShares]
    burn_in: bool
    held: Mapping[str, str] | None
    draws: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    newcomers: frozenset[str] = frozenset()
    segments: Mapping[str, Sets] = field(default_factory=dict[str, Sets])
    contextual: ContextualDraws | None = None


def propose(
    experiment: Experiment,
    cells: Sequence[Cell],
    active: frozenset[str],
    seen: Sequence[Keys],
    *,
    guarded: Guarded,
    promoted: str | None,
    last: PolicyVersion | None,
    time_zone: str,
    now: datetime,
    added: frozenset[str] = frozenset(),
    warm: WarmPriors | None = None,
) -> Proposal:
    """Shares for the set of all active variants and for every set seen, as far as still active.

    `added` came while the experiment ran: they burn in beside the others, which go on (`newcomers`).
    """
    everything = tuple(v.key for v in experiment.variants if v.key in active)
    sets = {everything: None} | {tuple(k for k in keys if k in active): None for keys in seen}
    wanted = [keys for keys in sets if len(keys) >= 2] or [everything]
    if promoted is not None:
        chosen = {keys: _promoted(experiment, keys, promoted, guarded) for keys in wanted}
        return Proposal(chosen, burn_in=False, held=None)
    if experiment.policy.kind is PolicyKind.FIXED:
        chosen = {keys: _fixed(experiment, keys, guarded) for keys in wanted}
        return Proposal(chosen, burn_in=False, held=None)
    warm = warm or WarmPriors()
    if experiment.policy.kind is PolicyKind.SEGMENT:
        cells = by_segment(cells)
    is_burn_in = _burning_in(experiment, cells, active - added)
    waiting = frozenset() if is_burn_in else added & active
    fresh = newcomers(experiment, cells, waiting, time_zone=time_zone, now=now)
    known = {keys: tuple(key for key in keys if key not in fresh) for keys in wanted}
    posteriors = {
        keys: allocation_posteriors(experiment, cells, keys, time_zone=time_zone, now=now, priors=warm.priors)
        for keys in known.values()
    }
    held = _held(posteriors[known[wanted[0]]])
    if is_burn_in:
        chosen = {keys: _burn_in(experiment, keys, guarded, posteriors[keys], warm) for keys in wanted}
        return Proposal(chosen, burn_in=True, held=held)
    seed = seed_of(experiment.key, 1 if last is None else last.number + 1)
    joints = {
        keys: joint_of(experiment, cells, keys, found, seed=seed, time_zone=time_zone, now=now)
        for keys, found in posteriors.items()
        if experiment.guardrails and found.reason is None
    }
    drawn = {keys: (joint, draw_wins(joint)) for keys, joint in joints.items() if joint is not None}
    split = {
        keys: _thompson(experiment, keys, guarded, found, last, drawn.get(keys), warm)
        for keys, found in posteriors.items()
    }
    chosen = {keys: admitted(experiment, split[known[keys]], keys, fresh, guarded.capped) for keys in wanted}
    draws = [_drawn(joint, wins) for joint, wins in drawn.values()]
    found = Proposal(chosen, burn_in=False, held=held, draws=draws, newcomers=fresh)
    if experiment.policy.kind is PolicyKind.SEGMENT:
        asked = _Asked(experiment, cells, guarded, last, time_zone, now)
        return _by_segment(asked, found, joints, warm, known)
    if experiment.policy.kind is PolicyKind.CONTEXTUAL:
        asked = _Asked(experiment, cells, guarded, last, time_zone, now)
        return _contextual(asked, found, joints.get(known[everything]), everything, seed)
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    """What shares by segment or context are found from."""

    experiment: Experiment
    cells: Sequence[Cell]
    guarded: Guarded
    last: PolicyVersion | None
    time_zone: str
    now: datetime


def _by_segment(
    asked: _Asked,
    found: Proposal,
    joints: Mapping[Keys, Joint | None],
    warm: WarmPriors,
    known: Mapping[Keys, Keys],
) -> Proposal:
    """Shares of each segment and candidate set; a variant does the same harm in every segment.

    While the objective cannot be read they are the last ones, under the caps of now.
    """
    if found.held is not None:
        return replace(found, segments=_kept_segments(asked.last, found.sets, asked.guarded))
    sets: dict[str, dict[Keys, SetShares]] = {}
    goals: dict[Keys, dict[str, list[list[float]]]] = {}
    for keys, of_known in known.items():
        by_name = segment_posteriors(
            asked.experiment, asked.cells, of_known, time_zone=asked.time_zone, now=asked.now
        )
        joint = joints.get(of_known)
        for segment, posteriors in by_name.items():
            drawn = None
            if joint is not None:
                kept = goals_of(posteriors, of_known)
                goals.setdefault(of_known, {})[segment] = kept
                own = with_goals(joint, kept)
                drawn = own, draw_wins(own)
            split = _thompson(asked.experiment, of_known, asked.guarded, posteriors, None, drawn, warm)
            shares = admitted(asked.experiment, split, keys, found.newcomers, asked.guarded.capped)
            sets.setdefault(segment, {})[keys] = shares
    draws = [{**one, "segments": goals.get(tuple(one["candidates"]), {})} for one in found.draws]
    return replace(found, segments=sets, draws=draws)


def _kept_segments(last: PolicyVersion | None, sets: Sets, guarded: Guarded) -> Mapping[str, Sets]:
    if last is None:
        return {}
    kept: dict[str, dict[Keys, SetShares]] = {}
    for segment, of_segment in last.segments.items():
        for keys in sets.keys() & of_segment.keys():
            capped = {key: cap for key, cap in guarded.capped.items() if key in keys}
            split = cap_integer(of_segment[keys].shares, capped, last.control)
            kept.setdefault(segment, {})[keys] = replace(of_segment[keys], shares=split)
    return kept


def _contextual(asked: _Asked, found: Proposal, joint: Joint | None, everything: Keys, seed: int) -> Proposal:
    """Draws in place of shares; a newcomer is drawn with what is known of all, its share bounded."""
    before = None if asked.last is None else asked.last.contextual
    drawn = contextual_draws(
        asked.experiment,
        asked.cells,
        everything,
        joint=joint,
        caps=dict.fromkeys(sorted(found.newcomers), NEWCOMER_SHARE),
        last=before,
        seed=seed,
        time_zone=asked.time_zone,
        now=asked.now,
    )
    if isinstance(drawn, Held):
        held = {"reason": drawn.reason.value, "detail": drawn.detail}
        return replace(found, held=held, contextual=before)
    published, posterior = drawn
    sets = {keys: average_shares(published, posterior, keys, asked.guarded.capped) for keys in found.sets}
    return replace(found, sets=sets, held=None, contextual=published)


def holding(proposal: Proposal, guarded: Guarded, last: PolicyVersion, reason: str, detail: str) -> Proposal:
    """The proposal with the last shares, under the caps of now; the rest of it (its posteriors) stands.

    A candidate set with a variant that had no share yet takes the proposal's.
    """
    sets: dict[Keys, SetShares] = {}
    for keys, found in proposal.sets.items():
        kept = _kept(keys, guarded, last)
        sets[keys] = found if kept is None else replace(found, shares=kept.shares)
    held = {"reason": reason, "detail": detail}
    segments = _kept_segments(last, sets, guarded) if proposal.segments else {}
    contextual = proposal.contextual if last.contextual is None else last.contextual
    return replace(proposal, sets=sets, held=held, segments=segments, contextual=contextual)


def replayed(drawn: Mapping[str, Any], segment: str | None = None) -> dict[str, float]:
    """P(best) of a set drawn before, from what its version keeps: equal to the last bit.

    Of a `segment` that the version drew by itself (`drawn["segments"]`), or of all of them together.
    """
    joint = Joint.from_json(drawn)
    if segment is not None:
        joint = with_goals(joint, drawn["segments"][segment])
    return dict(zip(joint.keys, map(float, draw_wins(joint).won), strict=True))


def _drawn(joint: Joint, wins: Wins) -> dict[str, Any]:
    struck = zip(joint.keys, map(float, wins.struck), strict=True)
    return joint.to_json() | {"prob_struck_out": dict(struck)}


def _burning_in(experiment: Experiment, cells: Sequence[Cell], active: frozenset[str]) -> bool:
    """Until every active variant has `burn_in` assigned units, counted over all candidate sets."""
    assigned = dict.fromkeys(active, 0)
    for cell in cells:
        if cell.key.variant in assigned:
            assigned[cell.key.variant] += cell.moments.sum("assigned")
    return any(units < experiment.policy.burn_in for units in assigned.values())


def _held(found: AllocationPosteriors) -> Mapping[str, str] | None:
    return None if found.reason is None else {"reason": found.reason, "detail": found.detail or ""}


def _thompson(
    experiment: Experiment,
    keys: Keys,
    guarded: Guarded,
    found: AllocationPosteriors,
    last: PolicyVersion | None,
    drawn: tuple[Joint, Wins] | None,
    warm: WarmPriors,
) -> SetShares:
    if found.reason is not None:
        kept = _kept(keys, guarded, last)
        return kept if kept is not None else _burn_in(experiment, keys, guarded, found, warm)
    won = prob_best([found.better[key] for key in keys]) if drawn is None else drawn[1].won
    best = dict(zip(keys, map(float, won), strict=True))
    weights = _top_two(best, drawn) if experiment.policy.kind is PolicyKind.TOP_TWO else best
    return SetShares(_shared(experiment, weights, guarded), best, _summaries(found))


def _shared(experiment: Experiment, weights: Mapping[str, float], guarded: Guarded) -> dict[str, int]:
    settings, control, capped = experiment.policy, experiment.control.key, guarded.capped
    split = shares(
        weights, control=control, control_share=settings.control_share, floor=settings.floor, capped=capped
    )
    return capped_integer(split, capped, control)


def _top_two(best: Mapping[str, float], drawn: tuple[Joint, Wins] | None) -> dict[str, float]:
    """Weights of `top_two`; a leader that won every draw is challenged by who would win without it.

    Without draws such a leader's challengers share equally; with them that would send traffic to a variant
    that is struck out of every draw.
    """
    leader = max(best, key=lambda key: best[key])
    if drawn is None or best[leader] < 1.0:
        return top_two(best)
    second = dict(zip(drawn[0].keys, draw_wins(drawn[0], without=leader).won, strict=True))
    return {key: 0.5 if key == leader else 0.5 * float(second[key]) for key in best}


def _kept(keys: Keys, guarded: Guarded, last: PolicyVersion | None) -> SetShares | None:
    """The last shares, under the caps of now; None when a variant had none to keep."""
    if last is None or not any(set(keys) <= set(known) for known in last.sets):
        return None
    capped = {key: cap for key, cap in guarded.capped.items() if key in keys}
    before = last.published(keys)
    split = cap_integer(last.shares_for(keys), capped, last.control)
    return SetShares(split) if before is None else replace(before, shares=split)


def _burn_in(
    experiment: Experiment, keys: Keys, guarded: Guarded, found: AllocationPosteriors, warm: WarmPriors
) -> SetShares:
    """Equal treatments; by P(best) of what is known beforehand where that is something of every one."""
    if warm.initial.keys() >= set(keys):
        won = prob_best([warm.initial[key] for key in keys])
        best = dict(zip(keys, map(float, won), strict=True))
        return SetShares(_shared(experiment, best, guarded), best, _summaries(found))
    settings = experiment.policy
    control = experiment.control.key
    split = burn_in_shares(keys, control, settings.control_share, capped=guarded.capped)
    return SetShares(capped_integer(split, guarded.capped, control), None, _summaries(found))


def _fixed(experiment: Experiment, keys: Keys, guarded: Guarded) -> SetShares:
    control = experiment.control.key
    split = fixed_shares(keys, control=control, shares=experiment.policy.shares, capped=guarded.capped)
    return SetShares(capped_integer(split, guarded.capped, control))


def _promoted(experiment: Experiment, keys: Keys, promoted: str, guarded: Guarded) -> SetShares:
    """The promoted variant gets all but the control's share; where it is no candidate, the control all."""
    control = experiment.control.key
    control_share = experiment.policy.control_share if promoted in keys else 1.0
    split = dict.fromkeys(keys, 0.0) | {control: control_share}
    if promoted in keys:
        split[promoted] = 1 - control_share
    return SetShares(capped_integer(cap_shares(split, guarded.capped, control), guarded.capped, control))


def _summaries(found: AllocationPosteriors) -> dict[str, PosteriorSummary]:
    return {
        key: summary_of(posterior, found.units[key], found.methods.get(key))
        for key, posterior in found.posteriors.items()
    }
