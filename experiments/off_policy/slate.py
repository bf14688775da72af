"""The value of a policy that shows two offers at once, from a log of such slates.

In row i the log showed a1 first and a2 second, with probabilities p1 = p(a1), p2 = p(a2 | a1) and m2 = p(a2)
whatever stood first; the candidate with pi1, pi2 and mu2 alike. r1 and r2 are what each place earned. With
w1 = pi1 / p1, w2 = pi2 / p2 and u2 = mu2 / m2:

=================  =============================  ======================================================
estimator          value                          right where
=================  =============================  ======================================================
`joint`            mean(w1 w2 (r1 + r2))          always; weights are products, so it needs most rows
`interaction`      mean(w1 r1 + w1 w2 r2)         what the first earns does not depend on the second
                                                  (the shopper looks from first to last: a cascade)
`independent`      mean(w1 r1 + u2 r2)            what a place earns depends on its own offer alone
`pseudoinverse`    mean((w1 + w2 - 1)(r1 + r2))   the reward is a sum of what each offer adds *and* the
                                                  log drew both places independently (w2 = u2); needs no
                                                  reward by place
=================  =============================  ======================================================

Where its assumption does not hold, the bias does not fall with n. The pseudoinverse estimator in general
takes q' G^+ 1(slate), with G the second moments of the slate's indicator under the log; for independent
places that is w1 + w2 - 1. Where an offer never stands twice there is no such short form, so it is not given
then. All are unbiased under their assumption, none normalises itself; intervals are Normal, by unit, as in
`estimators`.

Sources: Li et al., Offline Evaluation of Ranking Policies with Click Models (2018) for `independent`;
McInerney et al., Counterfactual Evaluation of Slate Recommendations with Sequential Reward Interactions
(2020) for `interaction`; Swaminathan et al., Off-policy Evaluation for Slate Recommendation (2017), and
Vlassis et al., Control Variates for Slate Off-policy Evaluation (2021), section 3, for `pseudoinverse`.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from experiments.off_policy.estimators import Estimate, Parts, Reason, of_parts
from experiments.off_policy.terms import FloatArray, IntArray, is_probability


class SlateEstimator(StrEnum):
    """How the value of a slate is estimated."""

    JOINT = "joint"
    INTERACTION = "interaction"
    INDEPENDENT = "independent"
    PSEUDOINVERSE = "pseudoinverse"


@dataclass(frozen=True, slots=True, eq=False)
class Slates:
    """Weights w1, w2 and u2 (None: not known) and rewards by place (None: `total` alone is known), (n,).

    `is_factored` says that the log drew the second place without looking at the first.
    """

    first: FloatArray
    second: FloatArray
    second_alone: FloatArray | None
    total: FloatArray
    rewards: tuple[FloatArray, FloatArray] | None
    is_factored: bool
    units: IntArray | None = None


def slate_value(name: SlateEstimator, slates: Slates) -> Estimate:
    """The value per slate; None where what the estimator needs is not known.

    >>> one = np.ones(20)
    >>> shown = Slates(2 * one, one / 2, None, one, None, is_factored=True)
    >>> slate_value(SlateEstimator.PSEUDOINVERSE, shown).value, slate_value(SlateEstimator.JOINT, shown).value
    (1.5, 1.0)
    """
    parts = slate_parts(name, slates)
    if isinstance(parts, Reason):
        return Estimate(name, None, reason=parts)
    return of_parts(name, parts, slates.units)


def slate_parts(name: SlateEstimator, slates: Slates) -> Parts | Reason:
    """What an estimator sums over the slates, or what it lacks.

    >>> one = np.ones(20)
    >>> slate_parts(SlateEstimator.INTERACTION, Slates(one, one, None, one, None, is_factored=True))
    <Reason.NO_REWARD_BY_PLACE: 'no_reward_by_place'>
    """
    if not len(slates.total):
        return Reason.NO_ROWS
    both = slates.first * slates.second
    if name is SlateEstimator.JOINT:
        return Parts(both * slates.total, weights=both)
    if name is SlateEstimator.PSEUDOINVERSE:
        if not slates.is_factored:
            return Reason.NOT_FACTORED
        summed = slates.first + slates.second - 1.0
        return Parts(summed * slates.total, weights=summed)
    if slates.rewards is None:
        return Reason.NO_REWARD_BY_PLACE
    of_second = both if name is SlateEstimator.INTERACTION else slates.second_alone
    if of_second is None:
        return Reason.NO_PROPENSITY_ALONE
    first, second = slates.rewards
    return Parts(slates.first * first + of_second * second, weights=of_second)


def log_weights(shares: FloatArray, propensities: FloatArray) -> FloatArray:
    """The weights of one place: share over propensity, nan where the propensity can be none.

    >>> log_weights(np.array([0.5, 0.5]), np.array([0.25, 0.0])).tolist()
    [2.0, nan]
    """
    valid = is_probability(propensities)
    return np.where(valid, shares / np.where(valid, propensities, 1.0), np.nan)
