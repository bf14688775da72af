"""One evaluation, from a file to its estimates: what is learnt from the other folds, then terms by slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np

from experiments.off_policy.estimators import (
    MODELLED,
    Estimate,
    Estimator,
    Parts,
    Settings,
    of_parts,
)
from experiments.off_policy.evaluation import Evaluation, evaluate
from experiments.off_policy.folds import folds_of
from experiments.off_policy.gathering import BadShares
from experiments.off_policy.terms import IntArray, Terms, joined, terms, terms_of_taken
from experiments.off_policy.tuning import tuned
from sim.ope.learners import Learner, Predictions, fitted
from sim.ope.loading import load
from sim.ope.logged import Logged
from sim.ope.mapping import LogMapping
from sim.ope.policies import Candidate, Shares, Training
from sim.replay.errors import BadFile, BadMapping

ENTRIES = 4_000_000
"""Rows times actions of one slice: 32 MB an array."""


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `logged` is what the log's own policy earned; `trained` says on what was learnt."""

    candidate: Candidate
    options: Options
    actions: Sequence[str]
    rows: int
    logged: Estimate
    evaluation: Evaluation
    trained: str


def run(path: Path, mapping: LogMapping, candidate: Candidate, options: Options) -> Outcome:
    """Evaluate a candidate policy on a log."""
    data = load(path, mapping, candidate.columns or None, candidate.taken)
    rng = np.random.default_rng(options.seed)
    earlier, rows = _split(data, candidate)
    is_modelled = bool(MODELLED & set(options.estimators)) and candidate.taken is None
    folds = None
    if is_modelled or candidate.training is Training.CROSS_FITTED:
        folds = _folds(data, rows, options, rng)
    parts: list[Terms] = []
    order: list[IntArray] = []
    shares = None if candidate.training is Training.CROSS_FITTED else candidate.make(data, earlier)
    for fold in range(1 if folds is None else options.folds):
        own = rows if folds is None else rows[folds == fold]
        others = rows if folds is None else rows[folds != fold]
        of_fold = candidate.make(data, others) if shares is None else shares
        model = fitted(options.learner, data, others, seed=options.seed) if is_modelled else None
        for slice_ in _slices(own, len(data.labels)):
            parts.append(_terms(data, slice_, candidate, of_fold, model))
            order.append(slice_)
    whole, places = joined(parts), np.concatenate(order)
    whole = replace(whole, units=_renumbered(whole.units))
    found = evaluate(
        whole,
        options.estimators,
        _settings(whole, options),
        draws=options.bootstrap,
        labels=data.rows[places],
        rng=rng,
    )
    logged = of_parts("logged", Parts(whole.rewards), whole.units)
    return Outcome(
        candidate, options, data.labels, len(whole), logged, found, _said(candidate, data, rows, options)
    )


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


def _folds(data: Logged, rows: IntArray, options: Options, rng: np.random.Generator) -> IntArray:
    units = None if data.units is None else _renumbered(data.units[rows])
    try:
        return folds_of(len(rows), units, options.folds, rng=rng)
    except ValueError as error:
        raise BadFile(f"the log cannot be dealt out: {error}; take fewer --folds") from error


def _renumbered(units: IntArray | None) -> IntArray | None:
    """Units without gaps."""
    return None if units is None else np.unique(units, return_inverse=True)[1].ravel().astype(np.int64)


def _slices(rows: IntArray, actions: int) -> list[IntArray]:
    size = max(1, ENTRIES // actions)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _terms(
    data: Logged, rows: IntArray, candidate: Candidate, shares: Shares, model: Predictions | None
) -> Terms:
    log = data.log(rows)
    if data.taken_shares is not None:
        try:
            return terms_of_taken(log, data.taken_shares[rows])
        except BadShares as error:
            raise _bad_shares(error, data, rows) from error
    given = shares(rows)
    if candidate.is_logged:  # what was done is what it does: every weight is 1, whatever the propensity
        given = np.zeros((len(rows), len(data.labels)))
        given[np.arange(len(rows)), log.actions] = 1.0
        log = replace(log, propensities=np.ones(len(rows)))
    try:
        return terms(log, given, None if model is None else model(rows))
    except BadShares as error:
        raise _bad_shares(error, data, rows) from error


def _bad_shares(error: BadShares, data: Logged, rows: IntArray) -> BadFile:
    return BadFile(f"the shares of the candidate: {error.problem}", int(data.rows[rows[error.row]]))


def _settings(whole: Terms, options: Options) -> Settings:
    given = options.clip, options.switch, options.shrink
    best = Settings(inf, inf, inf)
    if None in given and np.isfinite(whole.weights).all():
        best = tuned(whole)
    return Settings(
        *(b if g is None else g for g, b in zip(given, (best.clip, best.switch, best.shrink), strict=True))
    )


def _said(candidate: Candidate, data: Logged, rows: IntArray, options: Options) -> str:
    """In words, on what policy and model were trained."""
    said = ["the policy knows its shares beforehand"]
    if candidate.training is Training.CROSS_FITTED:
        others = f"{options.folds - 1} of {options.folds} folds of units"
        said = [f"the policy learnt from the other {others}, for each fold anew"]
    if candidate.training is Training.EARLIER:
        said = [
            f"the policy learnt from the earlier {len(data) - len(rows):,} rows or their units'; "
            f"the later {len(rows):,} are evaluated"
        ]
    if MODELLED & set(options.estimators) and candidate.taken is None:
        said.append(f"the model ({options.learner}) is cross-fitted in {options.folds} folds of units")
    return "; ".join(said)


def check(candidate: Candidate, mapping: LogMapping) -> None:
    """What a candidate and a mapping must agree on before a file is read."""
    if mapping.slate is not None and candidate.kind not in ("uniform", "logged", "columns"):
        raise BadMapping(
            [f"slate: a policy of kind {candidate.kind} has no slates; take columns, uniform or logged"]
        )
