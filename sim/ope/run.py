"""One evaluation, from a file to its estimates: what is learnt from the other folds, then terms by slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from experiments.off_policy.estimators import Estimate, Parts, Settings, of_parts
from experiments.off_policy.evaluation import Evaluation, evaluate
from experiments.off_policy.overlap import Overlap
from experiments.off_policy.terms import FloatArray, Terms
from experiments.off_policy.tuning import tuned
from sim.ope.dealing import Options, deal, policy_terms, said
from sim.ope.loading import load
from sim.ope.mapping import LogMapping
from sim.ope.policies import Candidate


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of it. `logged` is what the log's own policy earned; `trained` says on what was learnt.

    `weights` (n,) are those of the rows, `wanted` and `taken` (K,) the candidate's mass and the log's rows by
    action.
    """

    candidate: Candidate
    options: Options
    actions: Sequence[str]
    rows: int
    logged: Estimate
    evaluation: Evaluation
    trained: str
    weights: FloatArray
    wanted: FloatArray
    taken: FloatArray

    @property
    def estimates(self) -> Sequence[Estimate]:
        """In the order asked for."""
        return self.evaluation.estimates

    @property
    def overlap(self) -> Overlap:
        """Whether the log can tell."""
        return self.evaluation.overlap


def run(path: Path, mapping: LogMapping, candidate: Candidate, options: Options) -> Outcome:
    """Evaluate a candidate policy on a log."""
    data = load(path, mapping, candidate.columns or None, candidate.taken)
    rng = np.random.default_rng(options.seed)
    learner = options.learner if options.is_modelled(candidate) else None
    dealt = deal(data, candidate, options, is_modelled=learner is not None, rng=rng)
    whole, places = policy_terms(data, candidate, dealt, learner, seed=options.seed)
    found = evaluate(
        whole,
        options.estimators,
        _settings(whole, options),
        draws=options.bootstrap,
        labels=data.rows[places],
        rng=rng,
    )
    return Outcome(
        candidate,
        options,
        data.labels,
        len(whole),
        of_parts("logged", Parts(whole.rewards), whole.units),
        found,
        said(candidate, len(data), dealt, learner),
        whole.weights,
        whole.wanted.sum(axis=0),
        whole.taken.sum(axis=0),
    )


def _settings(whole: Terms, options: Options) -> Settings:
    given = options.clip, options.switch, options.shrink
    best = Settings(inf, inf, inf)
    if None in given and np.isfinite(whole.weights).all():
        best = tuned(whole)
    return Settings(
        *(b if g is None else g for g, b in zip(given, (best.clip, best.switch, best.shrink), strict=True))
    )
