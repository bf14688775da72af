"""Posteriors that are a model of their data: truths drawn from the prior itself, which leans to one side.

The other conjugate ones (Beta, Normal-inverse-gamma, linear) are held by tests of their own, the pooled
model's stages by the part `sbc`. The fault is one unit too many: a sale, a success in each context.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import special, stats

from experiments.posteriors.hurdle import Hurdle, LogSizes
from experiments.posteriors.logistic import Trials, coupled_logistic
from experiments.posteriors.normal import NormalInverseGamma
from experiments.posteriors.protocol import FloatArray
from sim.calibration.levels import DRAWS, World, level, rank_level

HURDLE = Hurdle(
    (12.0, 4.0, 1.5), NormalInverseGamma(8.0, 4.0, 20.0, 0.5), NormalInverseGamma(7.5, 6.0, 20.0, 0.25)
)
"""Of 60 units some 14 sell and 5 lose, of 200 some 46 and 17."""

MEANS = np.array([[-1.6, 0.3, -0.2, 0.2], [-1.3, 0.1, 0.0, 0.3]])
VARIANCE = np.array([0.3, 0.1, 0.1, 0.1])
CONTEXTS = np.array([[1.0, a, b == 1, b == 2] for a in (0, 1) for b in (0, 1, 2)], dtype=np.float64)
TRIALS = 150
SETS = 2


def hurdle(units: int, rng: np.random.Generator, *, is_planted: bool) -> Mapping[str, float]:
    """Levels of the mean among exact draws and in the matched marginal.

    One sale too many: of twice the mean size, counted in signs and sizes.
    """
    assert HURDLE.negative is not None
    q = rng.dirichlet(HURDLE.signs)
    _, sales, losses = (int(count) for count in rng.multinomial(units, q))
    (mu_up, s_up), (mu_down, s_down) = HURDLE.positive.draw(1, rng=rng), HURDLE.negative.draw(1, rng=rng)
    up = rng.normal(mu_up[0], np.sqrt(s_up[0]), sales)
    down = rng.normal(mu_down[0], np.sqrt(s_down[0]), losses)
    truth = float(q[1] * np.exp(mu_up[0] + s_up[0] / 2) - q[2] * np.exp(mu_down[0] + s_down[0] / 2))
    if is_planted:
        up = np.append(up, mu_up[0] + s_up[0] / 2 + np.log(2.0))
    posterior = HURDLE.updated(units, sizes(up), sizes(down))
    return {
        "mean per unit, draws": rank_level(posterior.draw(DRAWS, rng=rng), truth),
        "mean per unit, marginal": level(posterior.marginal_mean(), truth),
    }


def sizes(logs: FloatArray) -> LogSizes:
    """The sums over sizes with these logarithms."""
    return LogSizes(len(logs), float(logs.sum()), float((logs**2).sum()), float(np.exp(logs).sum()))


def logistic(rng: np.random.Generator, *, is_planted: bool) -> Mapping[str, float]:
    """Levels of log-odds of two arms in six contexts and two candidate sets, 150 units in each.

    One success too many in each context of each arm and set.
    """
    arms, width = MEANS.shape
    theta = rng.normal(MEANS, np.sqrt(VARIANCE))
    effects = np.array([0.0, rng.normal(0.0, np.sqrt(VARIANCE[0]))])
    arm, effect, context = (
        axis.ravel() for axis in np.meshgrid(range(arms), range(SETS), range(len(CONTEXTS)), indexing="ij")
    )
    x = CONTEXTS[context]
    odds = np.einsum("rp,rp->r", x, theta[arm]) + effects[effect]
    wins = rng.binomial(TRIALS, special.expit(odds)).astype(np.float64)
    if is_planted:
        wins = np.minimum(wins + 1, TRIALS)
    data = Trials(arm, effect, x, np.full(len(x), float(TRIALS)), wins)
    found = coupled_logistic(MEANS, VARIANCE, data, effects=SETS - 1)
    covariance = found.covariance()[:width, :width]

    def of(columns: FloatArray) -> float:
        error = np.sqrt(columns @ covariance @ columns)
        return float(stats.norm.cdf(columns @ theta[0], columns @ found.mean[0], error))

    return {"a context's rate": of(CONTEXTS[0]), "all contexts' mean log-odds": of(CONTEXTS.mean(axis=0))}


GENERATIVE: Mapping[str, World] = {
    **{
        f"hurdle, {units} units": World(
            lambda rng, is_planted, units=units: hurdle(units, rng, is_planted=is_planted),
            "one sale too many, of twice the mean size",
            {"mean per unit, draws": 0.95, "mean per unit, marginal": expected},
            is_generative=True,
        )
        for units, expected in ((60, None), (200, 0.95))  # the marginal is promised from 20 sales
    },
    "logistic": World(
        lambda rng, is_planted: logistic(rng, is_planted=is_planted),
        "one success too many in each context",
        {"a context's rate": 0.95, "all contexts' mean log-odds": 0.95},
        is_generative=True,
    ),
}
