"""What the stop rules look at under a contextual policy: by context, averaged over the mix of all units.

===============  =========================================================================  ===============
symbol           meaning                                                                    unit
===============  =========================================================================  ===============
p_x              part of all units that have context x                                      sums to 1
v_rk(x)          draw r of arm k's mean of the metric in x, more is better                  the metric's
l(x)             leader in x: the arm of highest P(best | x)                                an arm
gap_r            sum_x p_x (max_k v_rk(x) - v_r,l(x)(x))                                    the metric's
expected_loss    mean of gap_r: lost a unit by serving every context its leader             the metric's
value_remaining  95th percentile of gap_r, times units a week                               its, x units/week
prob_best        sum_x p_x P(l(x) is best in x)                                             probability
prob_any_better  P(sum_x p_x max_k v_rk(x) > V_rc + rope |V_rc|), V_rc = sum_x p_x v_rc(x)  probability
===============  =========================================================================  ===============

A logistic model's draws are carried to rates (at the level of the largest candidate set) before anything is
compared. With one context all of it is what `stopping.stop_figures` finds of the same arms.

Futility is of the best treatment *by context*, which is what the policy would serve: had it been of one
treatment for everybody, a variant that does well on mobile and as much harm on desktop would be futile. The
errors of many contexts add up in the maximum, so with few units it is reached later, never sooner.

Error      of a probability at most 0.5 / sqrt(8,192) = 0.0055. The draws are those of one seed for good, so
           that figures move with the posterior alone: drawn anew at every step, a rule would be reached by
           the luckiest of thousands of steps.
Limits     contexts that are endless are those of a sample of units; without one there is the average context
           only, and the figures are of one leader over everybody: what is left to win by telling contexts
           apart is then not in them. Guardrails take no part, as in the figures of the other policies.

Sources: Scott 2015, Multi-armed bandit experiments in the online service economy, 3.1, and Scott 2010, A
modern Bayesian look at the multi-armed bandit, 4 (regression bandits), by context.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from experiments.allocation.contextual_fit import ContextualPosterior
from experiments.allocation.features import FEATURE_POINT
from experiments.allocation.mixes import Mix
from experiments.posteriors.protocol import FloatArray

DRAWS = 8192


@dataclass(frozen=True, slots=True)
class ContextFigures:
    """The figures of the module's table, `value_remaining` a unit.

    `leads`: of each variant, the part of the units in whose context it leads, most first; `contexts`: how
    many there are, 1 where only the average one is known.
    """

    leads: Mapping[str, float]
    contexts: int
    prob_best: float
    expected_loss: float
    value_remaining: float
    prob_any_better: float


def context_figures(
    found: ContextualPosterior, mix: Mix, control: str, *, rope: float, seed: int
) -> ContextFigures:
    """The figures of all arms of the posterior over a mix of contexts; an empty one is the posterior's own.

    >>> from experiments.posteriors.linear import Coupled
    >>> arms = Coupled(np.array([[1.0, 0.0], [0.0, 2.0]]), 1e8 * np.eye(4))
    >>> told = ContextualPosterior(("none", "a"), "linear", 1, arms, None, None, {}, None)
    >>> two = Mix(((FEATURE_POINT, 0), (FEATURE_POINT, FEATURE_POINT)), (0.75, 0.25))
    >>> known = context_figures(told, two, "none", rope=0.2, seed=1)  # means 1, 0 in one, 1, 2 in the other
    >>> known.leads, known.prob_best, known.prob_any_better  # 1.25 over everybody, against 1.2
    ({'none': 0.75, 'a': 0.25}, 1.0, 1.0)
    """
    rows, parts = _contexts(found, mix)
    scores = np.ascontiguousarray(found.draw(DRAWS, rng=np.random.default_rng(seed)).transpose(1, 0, 2))
    place = found.keys.index(control)
    leads = dict.fromkeys(found.keys, 0.0)
    prob_best = 0.0
    gap, best, ours = np.zeros(DRAWS), np.zeros(DRAWS), np.zeros(DRAWS)
    for row, part in zip(rows, parts, strict=True):
        values = _values(found, scores @ row)
        top = values.max(axis=0)
        won = np.bincount(values.argmax(axis=0), minlength=len(values))
        leader = int(won.argmax())
        leads[found.keys[leader]] += float(part)
        prob_best += float(part) * float(won[leader]) / DRAWS
        gap += part * (top - values[leader])
        best += part * top
        ours += part * values[place]
    return ContextFigures(
        leads=dict(sorted(((k, p) for k, p in leads.items() if p), key=lambda item: -item[1])),
        contexts=len(rows),
        prob_best=prob_best,
        expected_loss=float(gap.mean()),
        value_remaining=float(np.quantile(gap, 0.95)),
        prob_any_better=float((best > ours + rope * np.abs(ours)).mean()),
    )


def _contexts(found: ContextualPosterior, mix: Mix) -> tuple[FloatArray, FloatArray]:
    """Rows (n_contexts, p) and the part of the units that each has."""
    if not mix.rows:
        return found.contexts
    return np.array(mix.rows, dtype=np.float64) / FEATURE_POINT, np.array(mix.parts)


def _values(found: ContextualPosterior, scores: FloatArray) -> FloatArray:
    """What draws of a linear score say of the metric, more is better, (n_arms, n_draws)."""
    return found.sign * special.expit(found.sign * scores) if found.model == "logistic" else scores
