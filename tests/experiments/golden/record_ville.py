"""Record what the package ville says of given counts and streams, for test_sequential.py to be held against.

Run in an environment that has it: `pip install ville==0.1.0 && python record_ville.py > ville.json`.
"""

import json
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

PRIOR_UNITS = 500.0
TUNED_UNITS = 50_000
RATES = [0.001, 0.01, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 0.99]
COUNTS = [(200, 0), (200, 3), (2_000, 60), (2_000, 1_000), (40_000, 1_200), (40_000, 39_900)]


def main(ville: Any) -> dict[str, Any]:
    """Everything that is recorded."""
    rng = np.random.default_rng(2026)
    money = np.where(rng.random(6_000) < 0.3, np.rint(rng.exponential(5_000, 6_000)), 0.0)
    treated = (rng.random(6_000) < 0.5).astype(float)
    return {
        "package": "ville",
        "version": version("ville"),
        "prior_units": PRIOR_UNITS,
        "rates": [{"units": n, "successes": s, "log_e": log_e(ville, n, s)} for n, s in COUNTS],
        "mean": [mean(ville, money[:n]) for n in (1_000, 3_000, 6_000)],
        "lift": lift(ville, money, treated),
        "multiplier": [multiplier(ville, t) for t in (500, 10_000, 1_000_000)],
    }


def log_e(ville: Any, units: int, successes: int) -> list[list[float]]:
    """The log e-value against each rate, the mixing law centred at the rate."""
    stream = np.repeat([1.0, 0.0], [successes, units - successes])
    found: list[list[float]] = []
    for rate in RATES:
        test = ville.BernoulliTest(rate, prior=(PRIOR_UNITS * rate, PRIOR_UNITS * (1.0 - rate)))
        found.append([rate, float(test.fit(stream).log_e_values_[-1])])
    return found


def mean(ville: Any, stream: np.ndarray) -> dict[str, Any]:
    """The asymptotic sequence of a mean, of the sums that we keep."""
    low, high = ville.AsymptoticCS(t_opt=TUNED_UNITS).fit(stream).interval()
    return {"units": len(stream), "sums": sums(stream), "interval": [float(low), float(high)]}


def lift(ville: Any, stream: np.ndarray, treated: np.ndarray) -> dict[str, Any]:
    """The asymptotic sequence of a lift under even shares, by pseudo outcomes in their order."""
    low, high = ville.AsymptoticABTest(t_opt=TUNED_UNITS).fit(stream, treated).interval()
    arms = {key: stream[treated == flag] for key, flag in (("treatment", 1.0), ("control", 0.0))}
    return {key: {"units": len(x), "sums": sums(x)} for key, x in arms.items()} | {
        "interval": [float(low), float(high)]
    }


def multiplier(ville: Any, units: int) -> list[float]:
    """The half-width in standard errors at so many units of variance 1."""
    rho = ville.best_rho(TUNED_UNITS, 0.05)
    return [units, float(ville.normal_mixture(units, 0.05, rho)) / units**0.5]


def sums(x: np.ndarray) -> list[int]:
    """Of x and of its squares."""
    return [int(x.sum()), int((x * x).sum())]


if __name__ == "__main__":
    json.dump(main(import_module("ville")), sys.stdout, indent=1)
