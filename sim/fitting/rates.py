"""Chances with uncertainty: Beta posteriors, laws on a few values, and effects shrunk toward none."""

import numpy as np

from sim.fitting.log import Floats, Ints

SPREADS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Standard deviations that effects (on the log scale) may have around none, all as likely beforehand.

None is so small that an effect would be taken for none before the log has said so.
"""


def beta(events: Floats, exposure: Floats) -> tuple[Floats, Floats]:
    """Parameters (a, b) of the posterior of a chance; its mean is a / (a + b). Shapes as given.

        a = events + 1/2,  b = exposure - events + 1/2

    `exposure` is the number of trials, each counted by the part of its time that it has had, so it need not
    be whole; the prior is Jeffreys', which covers as it says in a single group. (A prior around the mean of
    all groups, a trial strong, says of no event in 300 trials that the chance is below 2e-11.) It is wrong
    (too narrow) where trials are not independent, as visits of one customer are.

    >>> a, b = beta(np.array([3.0]), np.array([10.0]))
    >>> float(a[0]), float(b[0])
    (3.5, 7.5)
    """
    return events + 0.5, np.maximum(exposure - events, 0.0) + 0.5


def mean_of(a: Floats, b: Floats) -> Floats:
    """Mean of Beta distributions."""
    return a / (a + b)


def law(counts: Floats, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
    """Shares of a law with these counts, (k,), and draws of its Dirichlet posterior, (draws, k).

    >>> law(np.array([1.0, 3.0]), np.random.default_rng(0), 2)[0].tolist()
    [0.25, 0.75]
    """
    shares = counts / counts.sum()
    return shares, rng.dirichlet(counts + 1.0 / len(counts), draws)


def parted(effects: Floats, errors: Floats, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
    """By how much each group differs from what `common` says of all, shrunk toward nothing: (k,), (draws, k).

        d_k = g_k - g,  Var(d_k) = s_k^2 - Var(g)

    d_k is independent of g, so its draws may be added to draws of g.

    >>> mean, _ = parted(np.array([0.0, 0.5]), np.array([0.05, 0.05]), np.random.default_rng(0), 10)
    >>> bool(-0.25 < mean[0] < -0.2 and 0.2 < mean[1] < 0.25)
    True
    """
    whole, error = common(effects, errors)
    # of a group that is nearly all of them nothing is left to differ
    own = np.sqrt(np.maximum(errors**2 - error**2, 1e-6 * errors**2))
    return shrunk(effects - whole, own, rng, draws)


def common(effects: Floats, errors: Floats) -> tuple[float, float]:
    """Mean of the groups by their precision, g, and its standard error.

        g = sum(w_k g_k) / sum(w_k),  w_k = 1 / s_k^2,  Var(g) = 1 / sum(w_k)

    >>> common(np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    (1.6, 0.8944271909999159)
    """
    weights = 1 / errors**2
    return float(weights @ effects / weights.sum()), float(1 / np.sqrt(weights.sum()))


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
