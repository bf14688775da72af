"""A small world whose every value is known: four contexts, three actions, takes and no takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.off_policy.estimators import Estimator, Settings, estimate
from experiments.off_policy.terms import FloatArray, Log, terms

MIX = np.array([0.4, 0.3, 0.2, 0.1])
LOGGING = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
CANDIDATE = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]])
RATES = np.array([[0.30, 0.50, 0.10], [0.20, 0.60, 0.40], [0.70, 0.20, 0.30], [0.10, 0.30, 0.50]])
TRUTH = float(MIX @ (CANDIDATE * RATES).sum(axis=1))
SETTINGS = Settings(clip=1.5, switch=2.0, shrink=2.0)
WRONG_MODEL = 0.7 + 0.0 * RATES
"""One rate for everything."""
WRONG_PROPENSITY = np.full_like(LOGGING, 1 / 3)
"""As if the log had been even."""


def drawn(n: int, rng: np.random.Generator, propensity: FloatArray = LOGGING) -> tuple[Log, FloatArray]:
    """A log of n rows that states these propensities, and each row's context."""
    contexts = rng.choice(4, size=n, p=MIX)
    actions = (rng.random((n, 1)) > LOGGING[contexts].cumsum(axis=1)).sum(axis=1).clip(max=2)
    rewards = (rng.random(n) < RATES[contexts, actions]).astype(np.float64)
    return Log(actions, propensity[contexts, actions], rewards, 3), contexts


def replications(
    runs: int, n: int, seed: int, *, propensity: FloatArray = LOGGING, model: FloatArray = RATES
) -> dict[Estimator, FloatArray]:
    """Value and standard error of every estimator in each run, (runs, 2)."""
    rng = np.random.default_rng(seed)
    names = [name for name in Estimator if name is not Estimator.REPLAY]
    found = {name: np.empty((runs, 2)) for name in names}
    for run in range(runs):
        log, contexts = drawn(n, rng, propensity)
        rows = terms(log, CANDIDATE[contexts], model[contexts])
        for name in names:
            one = estimate(name, rows, SETTINGS)
            found[name][run] = one.value, one.standard_error
    return found


def expected(name: Estimator, model: FloatArray) -> float:
    """What an estimator with true propensities tends to: its definition summed over contexts and actions."""
    w = CANDIDATE / LOGGING
    used = {
        Estimator.CLIPPED_IPS: np.minimum(w, SETTINGS.clip),
        Estimator.SWITCH_DR: w * (w <= SETTINGS.switch),
        Estimator.DROS: SETTINGS.shrink * w / (w**2 + SETTINGS.shrink),
    }[name]
    if name is Estimator.CLIPPED_IPS:
        return float(MIX @ (LOGGING * used * RATES).sum(axis=1))
    return float(MIX @ (CANDIDATE * model + LOGGING * used * (RATES - model)).sum(axis=1))


def by_units(units: int, rows_each: int, rng: np.random.Generator) -> Log:
    """A log in which the rows of a unit share a tendency to take, and one action."""
    tendency = rng.choice([0.0, 0.4], size=units)
    actions = np.repeat(rng.integers(2, size=units), rows_each)
    of = np.repeat(np.arange(units), rows_each)
    rewards = (rng.random(len(of)) < 0.1 + tendency[of] + 0.2 * actions).astype(np.float64)
    return replace(Log(actions, np.full(len(of), 0.5), rewards, 2), units=of)
