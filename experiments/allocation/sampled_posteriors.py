"""Posteriors of many replications at once, for the sampled evaluation: default priors, one candidate set.

The same posteriors as `analysis.estimates` gives one arm at a time (a test holds them together): Beta for
proportions, and for means per unit the Student-t of a Normal-inverse-gamma whose prior is the mean and the
variance pooled over the arms, worth one unit. All arrays (n_replications, n_arms).
"""

import numpy as np

from experiments.allocation.sampled import BetaTable, StudentTable
from experiments.posteriors.protocol import FloatArray

LEAST_UNITS = 2.0
"""Units an arm must have for its mean to have a posterior that can be drawn from."""


def beta_table(units: FloatArray, successes: FloatArray, alpha: float = 1.0, beta: float = 1.0) -> BetaTable:
    """Beta(alpha + successes, beta + units - successes).

    >>> beta_table(np.array([[10.0]]), np.array([[3.0]])).alpha.tolist()
    [[4.0]]
    """
    return BetaTable(alpha + successes, beta + units - successes)


def student_table(units: FloatArray, totals: FloatArray, squares: FloatArray) -> StudentTable:
    """Student-t of each arm's mean; `totals` and `squares` are sums of x and x^2 over its units.

    With n units, mean xbar, sum of squared deviations d, the pooled mean m and variance s2 within arms:
    location (m + n xbar) / (1 + n), df 1 + n, squared scale (s2 + d + n (xbar - m)^2 / (1 + n)) / (1 + n)^2.
    Every arm needs `LEAST_UNITS`.
    """
    pooled = totals.sum(axis=1, keepdims=True) / units.sum(axis=1, keepdims=True)
    deviations = np.maximum(0.0, squares - totals * totals / units)
    freedom = (units - 1.0).sum(axis=1, keepdims=True)
    variance = deviations.sum(axis=1, keepdims=True) / freedom
    worth = 1.0 + units
    location = (pooled + totals) / worth
    spread = variance + deviations + units / worth * (totals / units - pooled) ** 2
    return StudentTable(location, np.sqrt(spread) / worth, worth)
