"""Rejection replay: keep the rows the candidate policy might have made itself, and average what they earned.

Row i is kept with probability w_i / max(w). On a log drawn evenly over K actions that is the replay of Li et
al. for a policy that does not learn: of a candidate that always takes one action exactly the rows that agree
are kept. The rows kept are a sample of what the candidate would have seen, so a plain mean stands for its
value. Wrong where the propensities are; wasteful where weights differ much: n / max(w) rows are kept, and
`snips` says the same of all of them.
Sources: Li, Chu, Langford, Wang, Unbiased Offline Evaluation of Contextual-bandit-based News Article
Recommendation Algorithms (2011), section 3; Dudik, Erhan, Langford, Li, Sample-efficient Nonstationary Policy
Evaluation (2012), for logs that are not even.
"""

import numpy as np

from experiments.off_policy.estimators import Estimate, Estimator, Parts, Reason, of_parts
from experiments.off_policy.terms import Terms


def rejection(terms: Terms, *, rng: np.random.Generator) -> Estimate:
    """The mean reward of the rows kept; `ess` is how many they are. The setting is max(w).

    >>> log = Terms(np.array([0, 1, 0]), np.full(3, 0.5), np.array([1.0, 5.0, 3.0]), np.array([2., 0., 2.]),
    ...             None, None, None, np.ones((1, 2)), np.ones((1, 2)))
    >>> found = rejection(log, rng=np.random.default_rng(1))
    >>> found.value, found.ess
    (2.0, 2.0)
    """
    most = float(terms.weights.max(initial=0.0))
    if not most > 0.0:
        reason = Reason.NO_OVERLAP if len(terms) else Reason.NO_ROWS
        return Estimate(Estimator.REPLAY, None, reason=reason, ess=0.0)
    kept = (rng.random(len(terms)) * most < terms.weights).astype(np.float64)
    return of_parts(Estimator.REPLAY, Parts(None, kept * terms.rewards, kept, kept), terms.units, most)
