"""Whether order values are more like a log-normal law, which a world's are, or like a gamma law."""

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from sim.fitting.log import Floats

ORDERS_MIN = 30


def lognormal_gain(values: Floats) -> float | None:
    """Log-likelihood of the log-normal law less that of the gamma law, both at their best, of values above 0.

    None where there are too few or they are all alike. Gamma: Newton steps in 1 / shape from the usual start
    (Minka 2002, Estimating a Gamma distribution, eq. 11).

    >>> values = np.exp(np.random.default_rng(1).standard_normal(400))
    >>> lognormal_gain(values) > 5
    True
    """
    if len(values) < ORDERS_MIN or values.std() < 1e-9 * values.mean():
        return None
    n, logs, mean = len(values), np.log(values), values.mean()
    normal = -logs.sum() - n * (np.log(logs.std()) + 0.5 * np.log(2 * np.pi * np.e))
    gap = np.log(mean) - logs.mean()
    shape = 0.5 / gap
    for _ in range(20):
        excess = logs.mean() - np.log(mean) + np.log(shape) - digamma(shape)
        shape = 1 / (1 / shape + excess / (shape**2 * (1 / shape - polygamma(1, shape))))
    scale = mean / shape
    gamma = ((shape - 1) * logs - values / scale).sum() - n * (gammaln(shape) + shape * np.log(scale))
    return float(normal - gamma)
