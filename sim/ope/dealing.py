"""Which rows a policy and a model learn from, and the terms of the rows they then have shares of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from experiments.off_policy.estimators import MODELLED, Estimator
from experiments.off_policy.folds import folds_of
from experiments.off_policy.gathering import BadShares
from experiments.off_policy.terms import IntArray, Terms, joined, terms, terms_of_taken
from sim.ope.learners import Learner, Predictions, fitted
from sim.ope.logged import Logged
from sim.ope.policies import Candidate, Shares, Training
from sim.replay.errors import BadFile

ENTRIES = 4_000_000
"""Rows times actions of one slice: 32 MB an array."""

NO_FOLDS = (
    "a log of one unit has only --estimators replay,ips,clipped_ips,snips of a policy that does not learn"
)


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options; a setting that is None is chosen by least estimated squared error."""

    estimators: Sequence[Estimator] = tuple(Estimator)
    learner: Learner = Learner.MEAN
    folds: int = 5
    seed: int = 0
    clip: float | None = None
    switch: float | None = None
    shrink: float | None = None
    bootstrap: int = 0

    def is_modelled(self, candidate: Candidate) -> bool:
        """Whether a model of rewards is asked for and can be used."""
        return bool(MODELLED & set(self.estimators)) and candidate.taken is None


@dataclass(frozen=True, slots=True, eq=False)
class Dealt:
    """The rows that are evaluated, their folds if there are any, and those a policy knows beforehand."""

    earlier: IntArray
    rows: IntArray
    folds: IntArray | None
    count: int


def deal(
    data: Logged, candidate: Candidate, options: Options, *, is_modelled: bool, rng: np.random.Generator
) -> Dealt:
    """Deal the rows of a log out."""
    earlier, rows = _split(data, candidate)
    if not is_modelled and candidate.training is not Training.CROSS_FITTED:
        return Dealt(earlier, rows, None, 1)
    units = None if data.units is None else renumbered(data.units[rows])
    try:
        return Dealt(earlier, rows, folds_of(len(rows), units, options.folds, rng=rng), options.folds)
    except ValueError as error:
        groups = len(rows) if units is None else 1 + int(units.max())
        remedy = "take fewer --folds" if groups > 1 else NO_FOLDS
        raise BadFile(f"the log cannot be dealt out: {error}; {remedy}") from error


def policy_terms(
    data: Logged, candidate: Candidate, dealt: Dealt, learner: Learner | None, *, seed: int
) -> tuple[Terms, IntArray]:
    """The terms under the candidate, fold by fold, and which rows they are of; a model where `learner` is."""
    parts: list[Terms] = []
    order: list[IntArray] = []
    rows, folds = dealt.rows, dealt.folds
    shares = None
    if candidate.training is not Training.CROSS_FITTED:
        shares = candidate.make(data, dealt.earlier)
    for fold in range(dealt.count):
        own = rows if folds is None else rows[folds == fold]
        others = rows if folds is None else rows[folds != fold]
        of_fold = candidate.make(data, others) if shares is None else shares
        model = None if learner is None else fitted(learner, data, others, seed=seed)
        for slice_ in _slices(own, len(data.labels)):
            parts.append(_terms(data, slice_, candidate, of_fold, model))
            order.append(slice_)
    whole = joined(parts)
    return replace(whole, units=renumbered(whole.units)), np.concatenate(order)


def renumbered(units: IntArray | None) -> IntArray | None:
    """Units without gaps."""
    return None if units is None else np.unique(units, return_inverse=True)[1].ravel().astype(np.int64)


def said(candidate: Candidate, rows: int, dealt: Dealt | None, learner: Learner | None) -> str:
    """In words, on what policy and model were trained; `rows` are all of the log's."""
    words = ["the policy knows its shares beforehand"]
    if dealt is not None and candidate.training is Training.CROSS_FITTED:
        others = f"{dealt.count - 1} of {dealt.count} folds of units"
        words = [f"the policy learnt from the other {others}, for each fold anew"]
    if dealt is not None and candidate.training is Training.EARLIER:
        later = len(dealt.rows)
        words = [
            f"the policy learnt from the earlier {rows - later:,} rows or their units'; "
            f"the later {later:,} are evaluated"
        ]
    if dealt is not None and learner is not None:
        words.append(f"the model ({learner}) is cross-fitted in {dealt.count} folds of units")
    return "; ".join(words)


def _split(data: Logged, candidate: Candidate) -> tuple[IntArray, IntArray]:
    """The rows a policy that learns from earlier ones has, and those that are evaluated."""
    every = np.arange(len(data))
    if candidate.training is not Training.EARLIER:
        return every, every
    assert data.times is not None
    order = np.argsort(data.times, kind="stable")
    cut = float(data.times[order[(len(order) + 1) // 2]]) if len(order) > 1 else inf
    earlier, later = every[data.times < cut], every[data.times >= cut]
    if data.units is not None:  # nobody is evaluated of whom something was learnt
        later = later[~np.isin(data.units[later], data.units[earlier])]
    if not len(earlier) or not len(later):
        raise BadFile(
            "the log has no later half of units that the earlier half has not: take train: cross_fitted"
        )
    return earlier, later


def _slices(rows: IntArray, actions: int) -> list[IntArray]:
    size = max(1, ENTRIES // actions)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _terms(
    data: Logged, rows: IntArray, candidate: Candidate, shares: Shares, model: Predictions | None
) -> Terms:
    log = data.log(rows)
    try:
        if data.taken_shares is not None:
            return terms_of_taken(log, data.taken_shares[rows])
        given = shares(rows)
        if candidate.is_logged:  # what was done is what it does: every weight is 1, whatever the propensity
            given = np.zeros((len(rows), len(data.labels)))
            given[np.arange(len(rows)), log.actions] = 1.0
            log = replace(log, propensities=np.ones(len(rows)))
        return terms(log, given, None if model is None else model(rows))
    except BadShares as error:
        row = int(data.rows[rows[error.row]])
        raise BadFile(f"the shares of the candidate: {error.problem}", row) from error
