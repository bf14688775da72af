"""What a policy gives away while it learns, and what publishing its shares rarely adds to that.

The job on which the Python bandit libraries were measured: ten Bernoulli arms, rates from 5 % to 12 %.
Decisions are made by the sampled evaluation of the policies (`experiments.allocation.sampled`), rewards
come at once, and posteriors are looked at only every so many decisions, as a version that is published.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.sampled import BetaTable, choices
from experiments.model import PolicyKind

FloatArray = NDArray[np.float64]

RATES = np.linspace(0.05, 0.12, 10)
REFERENCE = {1_000: (26.22, 0.09), 10_000: (123.13, 1.00)}
"""Regret of exact Beta(1, 1) Thompson sampling on RATES by decisions, and its standard error: written by
hand on NumPy, 1,000 replications, before this code and apart from it."""


@dataclass(frozen=True, slots=True)
class Regret:
    """Regret of a job in successes given away; `curve` is its mean after each decision, (horizon,)."""

    totals: FloatArray
    curve: FloatArray

    @property
    def mean(self) -> float:
        """Mean over replications."""
        return float(self.totals.mean())

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return float(self.totals.std(ddof=1) / np.sqrt(len(self.totals)))

    def errors_off(self, truth: float, truth_error: float) -> float:
        """Distance from a reference, in standard errors of the difference."""
        return abs(self.mean - truth) / float(np.hypot(self.error, truth_error))


def regret(
    rates: FloatArray,
    horizon: int,
    replications: int,
    *,
    every: int = 1,
    kind: PolicyKind = PolicyKind.THOMPSON,
    control_share: float = 0.0,
    floor: float = 0.0,
    rng: np.random.Generator,
) -> Regret:
    """Run a job: Beta(1, 1) priors, `every` decisions under one version, then the next; arm 0 is the control.

    Regret is the sum of (greatest rate - rate of the arm chosen), without the noise of the rewards.
    """
    gaps = rates.max() - rates
    shape = replications, len(rates)
    successes, failures = np.zeros(shape), np.zeros(shape)
    totals, curve = np.zeros(replications), np.zeros(horizon)
    for start in range(0, horizon, every):
        n = min(every, horizon - start)
        table = BetaTable(1.0 + successes, 1.0 + failures)
        arms = choices(kind, table, n, control_share=control_share, floor=floor, rng=rng)
        lost = gaps[arms]
        totals += lost.sum(axis=1)
        curve[start : start + n] = lost.mean(axis=0)
        places = (np.arange(replications)[:, None] * len(rates) + arms).ravel()
        won = (rng.random(arms.shape) < rates[arms]).ravel()
        chosen = np.bincount(places, minlength=successes.size).reshape(shape)
        gained = np.bincount(places[won], minlength=successes.size).reshape(shape)
        successes += gained
        failures += chosen - gained
    return Regret(totals, np.cumsum(curve))
