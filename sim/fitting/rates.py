"""Chances with uncertainty: Beta posteriors, laws on a few values, and effects shrunk toward none."""

import numpy as np

from sim.fitting.log import Floats, Ints

SPREADS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Standard deviations that effects (on the log scale) may have around none, all as likely beforehand.

None is so small that an effect would be taken for none before the log has said so.
"""


def beta(events: Floats, exposure: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Parameters (a, b) of the posterior of a chance; its mean is a / (a + b). Shapes as given.

        a = events + prior,  b = exposure - events + 1 - prior

    `exposure` is the number of trials, each counted by the part of its time that it has had, so it need not
    be whole; the prior counts as one trial with the mean `prior`. It is wrong (too narrow) where trials
    are not independent, as visits of one customer are.

    >>> a, b = beta(np.array([3.0]), np.array([10.0]), np.array([0.5]))
    >>> float(a[0]), float(b[0])
    (3.5, 7.5)
    """
    return events + prior, np.maximum(exposure - events, 0.0) + 1.0 - prior


def mean_of(a: Floats, b: Floats) -> Floats:
    """Mean of Beta distributions."""
    return a / (a + b)


def pooled(events: Floats, exposure: Floats) -> Floats:
    """The chance over all groups, within (0, 1), for each of them: the mean of their priors."""
    rate = (events.sum() + 0.5) / (exposure.sum() + 1.0)
    return np.full(len(events), min(max(rate, 1e-9), 1 - 1e-9))


def law(counts: Floats, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
    """Shares of a law with these counts, (k,), and draws of its Dirichlet posterior, (draws, k).

    >>> law(np.array([1.0, 3.0]), np.random.default_rng(0), 2)[0].tolist()
    [0.25, 0.75]
    """
    shares = counts / counts.sum()
    return shares, rng.dirichlet(counts + 1.0 / len(counts), draws)


def shrunk(effects: Floats, errors: Floats, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
    """Posterior means of effects and their draws: (k,) and (draws, k).

        g_k ~ N(e_k, s_k^2),  e_k ~ N(0, t^2),  t in SPREADS with equal chances

    Given t the posterior of e is N(g t^2 / (t^2 + s^2), 1 / (1/t^2 + 1/s^2)); that of t is in proportion to
    the product of N(g_k; 0, t^2 + s_k^2). One effect far from none is hardly moved, many near none are.
    Source: Gelman et al., Bayesian Data Analysis (2013), 5.4, with t on a grid.

    >>> mean, _ = shrunk(np.array([0.8]), np.array([0.1]), np.random.default_rng(0), 10)
    >>> bool(0.7 < mean[0] < 0.8)
    True
    """
    spreads = np.array(SPREADS)[:, np.newaxis]
    total = spreads**2 + errors**2
    logs = -0.5 * (np.log(total) + effects**2 / total).sum(axis=1)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    kept = spreads**2 / total
    means, sds = kept * effects, np.sqrt(kept) * errors
    chosen: Ints = rng.choice(len(SPREADS), draws, p=weights)
    return weights @ means, means[chosen] + sds[chosen] * rng.standard_normal((draws, len(effects)))
