"""Shared helpers of statistical tests: tolerances from Monte-Carlo error, calibration, planted bugs."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SBC_PRIOR_DRAWS = 1000
SBC_POSTERIOR_DRAWS = 99
SBC_BINS = 20
SBC_LIMIT = 43.8
"""The 99.9 % point of chi-square with 19 degrees of freedom."""

STANDARD_ERRORS = 5.0


def standard_errors_off(draws: FloatArray, truth: float) -> float:
    """Distance of the mean of independent draws from the truth, in standard errors of that mean."""
    return abs(float(draws.mean()) - truth) / (float(draws.std(ddof=1)) / np.sqrt(len(draws)))


def share_errors_off(count: int, n: int, probability: float) -> float:
    """Distance of a count of n from its expectation, in binomial standard errors."""
    return abs(count - n * probability) / np.sqrt(n * probability * (1 - probability))


def sbc_chi_square(
    simulate: Callable[[np.random.Generator], tuple[float, FloatArray]], *, seed: int
) -> float:
    """Simulation-based calibration (Talts et al. 2018): chi-square of the rank of the truth.

    `simulate(rng)` draws a truth from the prior, data from it, and returns the truth with
    SBC_POSTERIOR_DRAWS draws of the posterior. Ranks are uniform when the posterior is right. Use an
    asymmetric prior: with a symmetric one swapped parameters pass.
    """
    rng = np.random.default_rng(seed)
    ranks: list[int] = []
    for _ in range(SBC_PRIOR_DRAWS):
        truth, draws = simulate(rng)
        assert len(draws) == SBC_POSTERIOR_DRAWS
        ranks.append(int((draws < truth).sum()))
    counts = np.bincount(np.array(ranks) * SBC_BINS // (SBC_POSTERIOR_DRAWS + 1), minlength=SBC_BINS)
    expected = SBC_PRIOR_DRAWS / SBC_BINS
    return float(((counts - expected) ** 2 / expected).sum())
