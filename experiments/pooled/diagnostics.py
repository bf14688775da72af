"""Whether chains have mixed: R-hat and effective sample sizes, from draws alone.

Kept here and not taken from ArviZ, whose interface differs between the versions of Python 3.11 and 3.12.
Source: Vehtari, Gelman, Simpson, Carpenter, Buerkner, Rank-normalization, folding, and localization: an
improved R-hat for assessing convergence of MCMC (2021), sections 3 and 4.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from experiments.posteriors.protocol import FloatArray


@dataclass(frozen=True, slots=True)
class Mixing:
    """The worst over all parameters of a stage, and which parameter that is."""

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    worst: str


def mixing(values: Mapping[str, FloatArray], divergences: int) -> Mixing:
    """Judge every element of every parameter; arrays are (chains, draws, ...)."""
    found: dict[str, tuple[float, float, float]] = {}
    for name, draws in values.items():
        flat = draws.reshape(*draws.shape[:2], -1)
        for number in range(flat.shape[2]):
            one = flat[:, :, number]
            found[f"{name}[{number}]"] = r_hat(one), ess_bulk(one), ess_tail(one)
    figures = np.array(list(found.values()))
    # What cannot be judged, because nothing moved, counts as the worst.
    worst = list(found)[int(np.nanargmax(np.where(np.isnan(figures[:, 0]), math.inf, figures[:, 0])))]
    return Mixing(
        float(np.max(figures[:, 0])),
        float(np.min(figures[:, 1])),
        float(np.min(figures[:, 2])),
        divergences,
        worst,
    )


def r_hat(draws: FloatArray) -> float:
    """Rank-normalised split R-hat of one parameter, the larger of bulk and folded; draws: (chains, draws).

    nan when nothing moves.

    >>> stuck = np.random.default_rng(0).normal(size=(4, 500)) + np.arange(4)[:, None]
    >>> r_hat(stuck) > 1.5, 0.99 < r_hat(np.random.default_rng(1).normal(size=(4, 500))) < 1.01
    (True, True)
    """
    split = _split(draws)
    folded = np.abs(split - np.median(split))
    return float(np.max([_plain_r_hat(_ranks(split)), _plain_r_hat(_ranks(folded))]))


def ess_bulk(draws: FloatArray) -> float:
    """Effective sample size for the middle of the distribution."""
    return _ess(_ranks(_split(draws)))


def ess_tail(draws: FloatArray) -> float:
    """The smaller of the effective sample sizes of the 5 % and the 95 % quantile."""
    split = _split(draws)
    low, high = np.quantile(split, [0.05, 0.95])
    return float(np.min([_ess((split <= low).astype(float)), _ess((split <= high).astype(float))]))


def _split(draws: FloatArray) -> FloatArray:
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, draws.shape[1] - half :]])


def _ranks(split: FloatArray) -> FloatArray:
    """Normal scores of the ranks over all chains (Blom)."""
    ranks = stats.rankdata(split, method="average").reshape(split.shape)
    return special.ndtri((ranks - 0.375) / (split.size + 0.25))


def _plain_r_hat(chains: FloatArray) -> float:
    n = chains.shape[1]
    within = chains.var(axis=1, ddof=1).mean()
    if within == 0.0:
        return math.nan
    between = n * chains.mean(axis=1).var(ddof=1)
    return math.sqrt(((n - 1) / n * within + between / n) / within)


def _ess(chains: FloatArray) -> float:
    """The n m draws over tau, by Geyer's initial monotone sequence; nan when nothing moves."""
    m, n = chains.shape
    centred = chains - chains.mean(axis=1, keepdims=True)
    length = 1 << (2 * n - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, length, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum, length, axis=1)[:, :n] / n
    within = covariance[:, 0].mean() * n / (n - 1)
    if within == 0.0:
        return math.nan
    total = within * (n - 1) / n + chains.mean(axis=1).var(ddof=1)
    rho = 1.0 - (within - covariance.mean(axis=0) * n / (n - 1)) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(-1, 2).sum(axis=1)
    positive = pairs > 0.0
    last = len(pairs) if positive.all() else int(np.argmin(positive))
    monotone = np.minimum.accumulate(pairs[:last])
    tau = -1.0 + 2.0 * monotone.sum()
    return m * n / max(tau, 1.0 / math.log10(m * n))
