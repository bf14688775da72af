"""Sample two small models with PyMC: `python -m tests.experiments.pymc_sampler < data.json > figures.json`.

A program of its own, so that PyMC's import, warnings and compiled code stay out of the test process. Models
see sufficient statistics only. Numba compiles them: PyMC 5 would crawl without a C++ compiler otherwise.
Every figure goes out as [estimate, Monte-Carlo standard error], the error from its effective sample size.
"""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

warnings.simplefilter("ignore")  # of PyMC and ArviZ, about their own future
logging.disable(logging.WARNING)

import arviz as az  # noqa: E402
import pymc as pm  # noqa: E402

CHAINS, TUNE, DRAWS = 4, 1000, 2500
SEED = 20261122


def main() -> None:
    """Read the data of every model, write its figures."""
    data = json.load(sys.stdin)
    json.dump({name: dict(_figures(MODELS[name](data[name]))) for name in data}, sys.stdout)


def proportions(arms: dict[str, Any]) -> np.ndarray:
    """Draws of the success rate of each arm, shape (chains, draws, arms)."""
    with pm.Model():
        theta = pm.Beta("theta", alpha=np.array(arms["alpha"]), beta=np.array(arms["beta"]))
        pm.Binomial("successes", n=np.array(arms["n"]), p=theta, observed=np.array(arms["successes"]))
        return _sampled("theta")


def means(arms: dict[str, Any]) -> np.ndarray:
    """Draws of the mean of each arm, its variance unknown, shape (chains, draws, arms).

    The sample mean is Normal(theta, variance / n) and, apart from it, the sum of squared deviations is
    variance x chi-square(n - 1), a Gamma of shape (n - 1) / 2 and rate 1 / (2 variance).
    """
    n, mean, squares = (np.array(arms[key], dtype=float) for key in ("n", "mean", "squares"))
    location, kappa, nu, scale = (arms["prior"][key] for key in ("mean", "kappa", "nu", "scale"))
    with pm.Model():
        variance = pm.InverseGamma("variance", alpha=nu / 2, beta=nu * scale / 2, shape=n.shape)
        theta = pm.Normal("theta", mu=location, sigma=pm.math.sqrt(variance / kappa))
        pm.Normal("mean", mu=theta, sigma=pm.math.sqrt(variance / n), observed=mean)
        pm.Gamma("squares", alpha=(n - 1) / 2, beta=1 / (2 * variance), observed=squares)
        return _sampled("theta")


MODELS = {"proportions": proportions, "means": means}


def _sampled(name: str) -> np.ndarray:
    result = pm.sample(
        draws=DRAWS,
        tune=TUNE,
        chains=CHAINS,
        cores=1,
        target_accept=0.95,
        random_seed=SEED,
        progressbar=False,
        compute_convergence_checks=False,
        compile_kwargs={"mode": "NUMBA"},
    )
    return result.posterior[name].values


def _figures(draws: np.ndarray) -> Iterator[tuple[str, list[float]]]:
    best = draws.argmax(axis=2)
    loss = draws.max(axis=2, keepdims=True) - draws
    for k in range(draws.shape[2]):
        arm = draws[:, :, k]
        yield f"mean {k}", _mean(arm)
        for name, q in (("low", 0.025), ("high", 0.975)):
            error = float(az.mcse(arm, method="quantile", prob=q))
            yield f"{name} {k}", [float(np.quantile(arm, q)), error]
        yield f"prob_best {k}", _mean(best == k)
        yield f"expected_loss {k}", _mean(loss[:, :, k])
    yield "prob_greater", _mean(draws[:, :, 1] > draws[:, :, 0])
    yield "r_hat", [max(float(az.rhat(draws[:, :, k])) for k in range(draws.shape[2])), 0.0]
    yield "ess", [min(float(az.ess(draws[:, :, k])) for k in range(draws.shape[2])), 0.0]


def _mean(values: np.ndarray) -> list[float]:
    values = values.astype(float)
    ess = float(az.ess(values, method="mean"))
    return [float(values.mean()), float(values.std(ddof=1)) / ess**0.5]


if __name__ == "__main__":
    main()
