"""A bandit for each segment, each variant shrunk toward what it does everywhere: empirical Bayes.

====================  =================================================================  ==============
symbol                meaning                                                            unit
====================  =================================================================  ==============
m_kg, s_kg^2          mean and variance of arm k's own posterior in segment g            the metric's
w_g                   the segment's share of all units, whatever their arm               sums to 1
l_g                   level of the segment: sum_k a_k m_kg, a common to all segments     the metric's
D_k                   the pooled arm: sum_g w_g (m_kg - l_g)                             the metric's
tau^2                 variance between segments of what an arm does beyond both          its square
B_kg                  tau^2 / (tau^2 + s_kg^2): how much a segment speaks for itself     in [0, 1]
====================  =================================================================  ==============

Model      theta_kg = level_g + effect_k + gamma_kg, gamma ~ (0, tau^2); m_kg = theta_kg + (0, s_kg^2).
Posterior  l_g + B_kg (m_kg - l_g) + (1 - B_kg) D_k: the pooled arm, carried to the segment's level, as far as
           the segment does not say otherwise. sum_g w_g m_kg, not the arm's own mix of segments: a bandit
           sends an arm where it does well, which would flatter it everywhere.
           Shrunk to a pooled mean without levels, an arm with few units in a segment that buys much would
           be drawn below its equals there, and starve.
tau^2      by moments: r_kg = m_kg - l_g - D_k has variance sum_j (d_kj - a_j)^2 V_jg with
           V_jg = (1 - w_g)^2 (tau^2 + s_jg^2) + sum_{h != g} w_h^2 (tau^2 + s_jh^2), linear in tau^2;
           the sum of r^2 over their variances at tau^2 = 0 is set to its expectation; at least 0.
Variance   s^2 - 2 (1 - B)(1 - w_g) s^2 + (1 - B)^2 V_kg: of the arm's own error. The error of l_g is common
           to the arms of a segment and changes no comparison (as far as their B agree). To it comes
           2 (1 - B)^2 r^2 / ((K-1)(G-1)) because tau^2 is estimated, from as many residuals. Without it the
           squared error of arms' differences is 1.2 to 1.5 times what is stated, with it 0.7 to 1.25 (2 or 3
           arms, 2 to 5 segments, tau^2 from 0 to twice s^2; 1,500 worlds each).
Limits     Normal; a segment has its own shares once every candidate has 10 units there, before that those of
           all segments together.

Sources: Efron and Morris, Data Analysis Using Stein's Estimator (1975); DerSimonian and Laird, Meta-Analysis
in Clinical Trials (1986), for the moments; Morris, Parametric Empirical Bayes Inference (1983), for the term
of an estimated tau^2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite, sqrt

import numpy as np

from experiments.allocation.joint import Joint
from experiments.analysis.comparison import oriented
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.objective import AllocationPosteriors, allocation_posteriors
from experiments.analysis.strata import MIN_UNITS
from experiments.model import Experiment
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell

SEGMENTS_MAX = 64
"""So many segments, the largest, have shares of their own: any caller with a secret key may name one."""


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """Posteriors of arms in segments: means and variances (K, G), tau^2 and the weights B (K, G)."""

    mean: FloatArray
    variance: FloatArray
    between: float
    own: FloatArray


def shrunk(means: FloatArray, variances: FloatArray, weights: FloatArray) -> Shrunk:
    """Shrink arms' means in segments, (K, G), toward the pooled arms; `weights` (G,) sum to 1.

    >>> found = shrunk(np.array([[1.0, 2.0], [2.0, 3.0]]), np.ones((2, 2)), np.array([0.5, 0.5]))
    >>> found.between, found.mean.tolist()  # levels 1.5 and 2.5, arms 1 apart in both: nothing of their own
    (0.0, [[1.0, 2.0], [2.0, 3.0]])
    >>> found.variance.tolist()  # as if both segments had been one
    [[0.5, 0.5], [0.5, 0.5]]
    """
    arms = 1.0 / (variances @ weights)
    arms /= arms.sum()
    levels = arms @ means
    effects = (means - levels) @ weights
    residuals = means - levels - effects[:, np.newaxis]
    between = _between(residuals, variances, weights, arms)
    own = between / (between + variances)
    spread = _spread(between + variances, weights)
    rest = 1.0 - own
    variance = variances - 2.0 * rest * (1.0 - weights) * variances + rest**2 * spread
    variance += 2.0 * (rest * residuals) ** 2 / ((len(arms) - 1) * (len(weights) - 1))
    return Shrunk(levels + effects[:, np.newaxis] + own * residuals, variance, between, own)


def _between(residuals: FloatArray, variances: FloatArray, weights: FloatArray, arms: FloatArray) -> float:
    """tau^2 by moments, at least 0."""
    mix = (np.eye(len(arms)) - arms) ** 2  # what arm j contributes to the residual of arm k, squared
    within = mix @ _spread(variances, weights)
    per_unit = mix @ _spread(np.ones_like(variances), weights)
    excess = float((residuals**2 / within).sum()) - residuals.size
    return max(0.0, excess / float((per_unit / within).sum()))


def _spread(variances: FloatArray, weights: FloatArray) -> FloatArray:
    """Variance of u_kg - sum_h w_h u_kh for independent u of these variances, (K, G)."""
    everywhere = (variances @ weights**2)[:, np.newaxis]
    return everywhere + (1.0 - 2.0 * weights) * variances


def segment_posteriors(
    experiment: Experiment, cells: Sequence[Cell], candidates: Sequence[str], *, time_zone: str, now: datetime
) -> dict[str, AllocationPosteriors]:
    """The shrunk posteriors of the objective by segment; none unless two or more can be told apart.

    Nor with one candidate alone, as when all treatments are killed: there is nothing to compare.
    """
    if len(candidates) < 2:
        return {}
    of_segment: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.candidates.issuperset(candidates):
            of_segment.setdefault(cell.key.segment, []).append(cell)
    sizes = {segment: sum(cell.moments.sum("units") for cell in some) for segment, some in of_segment.items()}
    alone: dict[str, AllocationPosteriors] = {}
    for segment in sorted(of_segment, key=lambda key: (-sizes[key], key))[:SEGMENTS_MAX]:
        found = allocation_posteriors(
            experiment, of_segment[segment], candidates, time_zone=time_zone, now=now
        )
        if found.reason is None and _is_told(found):
            alone[segment] = found
    if len(alone) < 2:
        return {}
    means, variances = (
        np.array([[getattr(found.better[key], name) for found in alone.values()] for key in candidates])
        for name in ("mean", "variance")
    )
    weights = np.array([sizes[segment] for segment in alone], dtype=np.float64)
    result = shrunk(means, variances, weights / weights.sum())
    sign = metric_definitions(experiment)[experiment.policy.objective].sign
    return {
        segment: _replaced(found, result, candidates, place, sign)
        for place, (segment, found) in enumerate(alone.items())
    }


def goals_of(found: AllocationPosteriors, candidates: Sequence[str]) -> list[list[float]]:
    """What a version keeps to draw a segment again: location and scale of each candidate's goal, oriented.

    All else (guardrails, correlations, seed) is the joint posterior of all segments, which the version keeps
    once a set. So a segment costs about 45 bytes a variant and set: 1 kB for 4 segments, 3 variants and 2
    sets, 58 kB at the most there may be with 5 variants and 4 sets (64 segments), where whole posteriors
    would be eight times that with two guardrails.
    """
    return [[found.better[key].mean, sqrt(found.better[key].variance)] for key in candidates]


def with_goals(joint: Joint, goals: Sequence[Sequence[float]]) -> Joint:
    """The joint posterior of a segment: that of all of them, with the segment's own goals (Normal).

    >>> from experiments.allocation.joint import JointArm
    >>> everywhere = Joint(("none",), "none", (), (JointArm(StudentT(2.0, 1.0), (), ((1.0,),)),), seed=1)
    >>> with_goals(everywhere, [[3.0, 0.5]]).arms[0].goal
    StudentT(location=3.0, scale=0.5, df=inf)
    """
    arms = (
        replace(arm, goal=StudentT(location, scale))
        for arm, (location, scale) in zip(joint.arms, goals, strict=True)
    )
    return replace(joint, arms=tuple(arms))


def _is_told(found: AllocationPosteriors) -> bool:
    """Whether every candidate has units enough there, and a posterior that has a variance."""
    is_spread = all(isfinite(one.variance) and one.variance > 0.0 for one in found.posteriors.values())
    return is_spread and min(found.units.values()) >= MIN_UNITS


def _replaced(
    found: AllocationPosteriors, result: Shrunk, candidates: Sequence[str], place: int, sign: int
) -> AllocationPosteriors:
    better = {
        key: StudentT(float(result.mean[k, place]), sqrt(float(result.variance[k, place])))
        for k, key in enumerate(candidates)
    }
    return replace(found, better=better, posteriors={key: oriented(p, sign) for key, p in better.items()})
