"""Where to clip, to switch and how far to shrink: the setting of least estimated squared error.

    mse(s) = se(s)^2 + b(s)^2,    b(s) = mean((w_s - w) (r - f)),

with w_s the weights that setting s uses (f = 0 for clipped ips). b^2 is the bias squared plus the variance of
its own estimate, so that a setting that changes much is chosen only where it saves more. Settings are tried
at the upper quantiles of the positive weights, none below 1: so at most a tenth of the rows is changed and no
row that the candidate favours less than the log did. Chosen on the rows it is used on: the interval knows
nothing of the choice, nor of what the model errs by where it takes over.
Source: Su et al., Doubly Robust Off-policy Evaluation with Shrinkage (2020), section 5 (the direct estimate).
"""

from collections.abc import Callable
from math import inf

import numpy as np

from experiments.off_policy.estimators import Settings, shrunk, standard_error
from experiments.off_policy.terms import FloatArray, Terms

QUANTILES = (0.9, 0.95, 0.99, 0.999)


def tuned(terms: Terms) -> Settings:
    """Settings of least estimated squared error; infinite where leaving the weights as they are is best.

    >>> even = Terms(np.array([0, 1]), np.full(2, 0.5), np.array([1.0, 0.0]), np.ones(2), None, None, None,
    ...              np.ones((1, 2)), np.ones((1, 2)))
    >>> tuned(even)  # equal weights: nothing to gain
    Settings(clip=inf, switch=inf, shrink=inf)
    """
    weights = terms.weights
    positive = weights[weights > 0.0]
    if not len(positive):
        return Settings(inf, inf, inf)
    levels = np.unique(np.quantile(positive, QUANTILES))
    levels = levels[(levels >= 1.0) & (levels < positive.max())].tolist()
    left = terms.rewards if terms.fitted is None else terms.rewards - terms.fitted
    base = np.zeros_like(weights) if terms.expected is None else terms.expected

    def best(
        used: Callable[[float], FloatArray], settings: list[float], r: FloatArray, v: FloatArray
    ) -> float:
        """The setting of least error; of equals the one that changes least, so inf first."""
        found, least = inf, _squared_error(terms, weights, r, v)
        for setting in reversed(settings):
            error = _squared_error(terms, used(setting), r, v)
            if error < least:
                found, least = setting, error
        return found

    return Settings(
        clip=best(lambda s: np.minimum(weights, s), levels, terms.rewards, np.zeros_like(weights)),
        switch=best(lambda s: np.where(weights <= s, weights, 0.0), levels, left, base),
        shrink=best(lambda s: shrunk(weights, s), [level**2 for level in levels], left, base),
    )


def _squared_error(terms: Terms, used: FloatArray, left: FloatArray, base: FloatArray) -> float:
    rows = base + used * left
    error, _ = standard_error(rows - rows.mean(), terms.units)
    bias = float(((used - terms.weights) * left).mean())
    return error * error + bias * bias
