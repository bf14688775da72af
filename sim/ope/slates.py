"""A log of slates of two offers: its places read, its candidate weighed, its four estimates.

A candidate that is no column of shares decides each place by itself: independently, where the log was drawn
so, else from what is left after the first (`slate_log`). One that learns has a policy of its own for each
place, taught by what that place earned, or the slate where no more is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.off_policy.estimators import Estimate, Parts, Reason, bootstrap, of_parts
from experiments.off_policy.overlap import Overlap, overlap
from experiments.off_policy.slate import SlateEstimator, Slates, log_weights, slate_parts, slate_value
from experiments.off_policy.terms import FloatArray, IntArray, Terms, is_probability
from sim.ope.dealing import Options, deal, policy_terms, renumbered, said
from sim.ope.logged import Logged
from sim.ope.mapping import LogMapping, SlateMapping
from sim.ope.policies import Candidate, Training
from sim.ope.slate_log import SlateLog, slate_log
from sim.ope.table import Table
from sim.replay.errors import BadFile


@dataclass(frozen=True, slots=True, eq=False)
class SlateOutcome:
    """What came of it; overlap and `weights` are of whole slates, `trained` says on what was learnt."""

    candidate: Candidate
    options: Options
    actions: Sequence[str]
    rows: int
    logged: Estimate
    estimates: Sequence[Estimate]
    overlap: Overlap
    trained: str
    weights: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Weighed:
    """Weights of some rows: of the first place, of the second given the first, of the second by itself.

    `wanted` and `taken` (places, K) are the candidate's mass and the log's rows, where all shares are known.
    """

    rows: IntArray
    first: FloatArray
    second: FloatArray
    alone: FloatArray | None
    trained: str
    wanted: FloatArray
    taken: FloatArray


def run_slates(path: Path, mapping: LogMapping, candidate: Candidate, options: Options) -> SlateOutcome:
    """Evaluate a candidate policy on a log of slates."""
    slate = mapping.slate
    assert slate is not None
    log = slate_log(path, mapping, slate, is_columns=candidate.kind == "columns")
    rng = np.random.default_rng(options.seed)
    found = _weighed(log, slate, candidate, options, rng)
    rows = found.rows
    units = None if log.first.units is None else renumbered(log.first.units[rows])
    rewards = None if log.by_place is None else (log.by_place[0][rows], log.by_place[1][rows])
    slates = Slates(
        found.first, found.second, found.alone, log.total[rows], rewards, slate.is_factored, units
    )
    joint = found.first * found.second
    propensities = np.ones(len(rows)) if candidate.is_logged else _together(log)[rows]
    seen = overlap(
        Terms(
            actions=log.first.actions[rows],
            propensities=propensities,
            rewards=slates.total,
            weights=joint,
            fitted=None,
            expected=None,
            units=units,
            wanted=found.wanted,
            taken=found.taken,
        ),
        labels=log.table.rows[rows],
    )
    return SlateOutcome(
        candidate,
        options,
        log.first.labels,
        len(rows),
        of_parts("logged", Parts(slates.total), units),
        _estimates(slates, seen, options, rng),
        seen,
        found.trained,
        joint,
    )


def _estimates(
    slates: Slates, seen: Overlap, options: Options, rng: np.random.Generator
) -> tuple[Estimate, ...]:
    if seen.refused:
        return tuple(Estimate(name, None, reason=Reason.REFUSED) for name in SlateEstimator)
    found = [slate_value(name, slates) for name in SlateEstimator]
    every = [slate_parts(SlateEstimator(e.estimator), slates) for e in found if e.ci_low is not None]
    parts = [one for one in every if isinstance(one, Parts)]
    if not options.bootstrap or not parts:
        return tuple(found)
    bounds = iter(bootstrap(parts, slates.units, draws=options.bootstrap, rng=rng))
    drawn: list[Estimate] = []
    for one in found:
        low, high = (None, None) if one.ci_low is None else next(bounds)
        drawn.append(replace(one, ci_low=low, ci_high=high))
    return tuple(drawn)


def _together(log: SlateLog) -> FloatArray:
    """How likely each slate was as a whole; nan where either place's propensity can be none."""
    both = (log.first.propensities, log.second.propensities)
    return np.where(is_probability(both[0]) & is_probability(both[1]), both[0] * both[1], np.nan)


def _weighed(
    log: SlateLog, slate: SlateMapping, candidate: Candidate, options: Options, rng: np.random.Generator
) -> _Weighed:
    every, one = np.arange(len(log.total)), np.ones(len(log.total))
    whole = np.ones((1, 1))
    if candidate.is_logged:
        return _Weighed(every, one, one, one, said(candidate, len(every), None, None), whole, whole)
    if candidate.kind == "columns":
        weights = _of_columns(log, slate)
        return _Weighed(every, *weights, said(candidate, len(every), None, None), whole, whole)
    dealt = deal(log.first, candidate, options, is_modelled=False, rng=rng)
    first, rows = policy_terms(log.first, candidate, dealt, None, seed=options.seed)
    second, _ = policy_terms(log.second, candidate, dealt, None, seed=options.seed)
    alone = second.weights if slate.is_factored else _alone(log, slate, candidate, rows)
    return _Weighed(
        rows,
        first.weights,
        second.weights,
        alone,
        said(candidate, len(every), dealt, None),
        np.concatenate([first.wanted, second.wanted]),
        np.concatenate([first.taken, second.taken]),
    )


def _of_columns(log: SlateLog, slate: SlateMapping) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    shares = [log.table.numbers[place.share] for place in (slate.first, slate.second) if place.share]
    _check_shares(log.table, shares)
    first = log_weights(shares[0], log.first.propensities)
    second = log_weights(shares[1], log.second.propensities)
    if slate.is_factored:
        return first, second, second
    if slate.second.alone is None:
        return first, second, None
    propensity, share = (log.table.numbers[column] for column in slate.second.alone)
    _check_shares(log.table, [share])
    return first, second, log_weights(share, propensity)


def _alone(log: SlateLog, slate: SlateMapping, candidate: Candidate, rows: IntArray) -> FloatArray | None:
    """Weights of the second place whatever stood first, by the candidate's share of it after each first.

    Of policies that know their shares beforehand, where the log says how likely its second offer was alone;
    None of others.
    """
    if slate.second.alone is None or candidate.training is not Training.NONE:
        return None
    propensity = log.table.numbers[slate.second.alone[0]]
    one = np.zeros(1, dtype=np.int64)

    def shares_of(data: Logged) -> FloatArray:
        return candidate.make(data, one)(one)[0]

    first = shares_of(log.first)
    second = np.array(
        [shares_of(replace(log.second, sets=np.full(len(log.second), k))) for k in range(len(first))]
    )
    return log_weights((first @ second)[log.second.actions], propensity)[rows]


def _check_shares(table: Table, shares: Sequence[FloatArray]) -> None:
    for of_place in shares:
        wrong = np.flatnonzero(~((of_place >= 0.0) & (of_place <= 1.0)))
        if len(wrong):
            row = int(wrong[0])
            raise BadFile(f"a share of {of_place[row]:g}; shares are from 0 to 1", int(table.rows[row]))
