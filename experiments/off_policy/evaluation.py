"""One candidate policy on one log: every estimate asked for, beside what the weights say of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.off_policy.estimators import (
    MODELLED,
    Estimate,
    Estimator,
    Reason,
    Settings,
    bootstrap,
    estimate,
    parts_of,
)
from experiments.off_policy.overlap import Labels, Overlap, overlap
from experiments.off_policy.replay import rejection
from experiments.off_policy.terms import Terms


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Estimates in the order asked for, the settings they were made with, and the overlap."""

    estimates: Sequence[Estimate]
    settings: Settings
    overlap: Overlap


def evaluate(
    terms: Terms,
    wanted: Sequence[Estimator],
    settings: Settings,
    *,
    draws: int = 0,
    labels: Labels | None = None,
    rng: np.random.Generator,
) -> Evaluation:
    """Every estimate; those that weigh rows are refused where the overlap is.

    With `draws` > 0 intervals are of so many bootstrap draws of units, else Normal; `replay` keeps its Normal
    one, since what it keeps is drawn already. Findings call rows by `labels`.

    >>> log = Terms(np.array([0, 1] * 50), np.full(100, 0.5), np.array([1.0, 0.0] * 50),
    ...             np.array([0.5, 1.5] * 50), None, None, None, np.ones((1, 2)), np.ones((1, 2)))
    >>> found = evaluate(log, [Estimator.SNIPS], Settings(9.0, 9.0, 9.0), rng=np.random.default_rng(1))
    >>> found.estimates[0].value, found.overlap.ess
    (0.25, 80.0)
    """
    seen = overlap(terms, labels)
    found: list[Estimate] = []
    for name in wanted:
        if seen.refused and name is not Estimator.DM:
            found.append(Estimate(name, None, reason=_refusal(name, terms)))
        elif name is Estimator.REPLAY:
            found.append(rejection(terms, rng=rng))
        else:
            found.append(estimate(name, terms, settings))
    if draws:
        found = _bootstrapped(found, terms, settings, draws, rng)
    return Evaluation(tuple(found), settings, seen)


def _refusal(name: Estimator, terms: Terms) -> Reason:
    return Reason.NO_MODEL if name in MODELLED and terms.expected is None else Reason.REFUSED


def _bootstrapped(
    found: Sequence[Estimate], terms: Terms, settings: Settings, draws: int, rng: np.random.Generator
) -> list[Estimate]:
    drawn = [e for e in found if e.ci_low is not None and e.estimator != Estimator.REPLAY]
    if not drawn:
        return list(found)
    parts = [parts_of(Estimator(e.estimator), terms, settings) for e in drawn]
    bounds = dict(zip(drawn, bootstrap(parts, terms.units, draws=draws, rng=rng), strict=True))
    return [replace(e, ci_low=bounds[e][0], ci_high=bounds[e][1]) if e in bounds else e for e in found]
