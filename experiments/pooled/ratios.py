"""Ratios of exact sums, partially pooled: what an order's margin is to its value, a refund to its order.

    ratio_j ~ Normal(truth_j, error_j^2)     truth_j ~ Normal(mu, tau^2)     mu flat, tau ~ Half-Normal(scale)

with errors from joint moments (delta method). Given tau everything is Normal, and tau is one-dimensional: its
posterior is laid on a grid, so that draws are independent and need no Markov chain.

Source: Gelman et al., Bayesian Data Analysis (2013), 5.4. Wrong where a ratio rests on a handful of units,
whose error is not known: those are given no weight and take the others' mean.
"""

import math
from collections.abc import Sequence

import numpy as np

from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Moments

UNITS_MIN = 10
"""Fewer units say nothing of their own error."""
_GRID = np.geomspace(1e-3, 10.0, 200)


def pooled_ratios(
    ratios: FloatArray, errors: FloatArray, scale: float, count: int, rng: np.random.Generator
) -> FloatArray:
    """Draws of the true ratios, shape (count, ratios); an infinite error marks a ratio that is not known.

    >>> ratios, errors = np.array([0.30, 0.40, 9.0]), np.array([0.001, 0.001, np.inf])
    >>> draws = pooled_ratios(ratios, errors, 0.1, 4000, np.random.default_rng(1))
    >>> [round(float(value), 2) for value in draws.mean(axis=0)]
    [0.3, 0.4, 0.35]
    """
    known = np.isfinite(errors)
    y = ratios[known]
    floor = 1e-9 * max(1e-9, float(np.abs(y).max()))
    variance = np.maximum(errors[known], floor) ** 2
    tau = scale * _GRID
    weights = 1.0 / (variance + tau[:, None] ** 2)  # (grid, known)
    total = weights.sum(axis=1)
    mu = (weights * y).sum(axis=1) / total
    log_posterior = (
        0.5 * np.log(weights).sum(axis=1)
        - 0.5 * np.log(total)
        - 0.5 * (weights * (y - mu[:, None]) ** 2).sum(axis=1)
        - 0.5 * (tau / scale) ** 2
        + np.log(tau)  # the grid is even in log tau
    )
    mass = np.exp(log_posterior - log_posterior.max())
    chosen = rng.choice(len(tau), size=count, p=mass / mass.sum())
    centre = mu[chosen] + rng.standard_normal(count) / np.sqrt(total[chosen])
    all_variance = np.full(len(ratios), np.inf)
    all_variance[known] = variance
    own = 1.0 / all_variance
    own_part = np.where(known, ratios, 0.0) * own
    precision = own + 1.0 / tau[chosen, None] ** 2
    mean = (own_part + centre[:, None] / tau[chosen, None] ** 2) / precision
    return mean + rng.standard_normal(mean.shape) / np.sqrt(precision)


def loss_share(cells: Sequence[Moments]) -> float:
    """What a refunded amount costs of margin, as a share of it: 1 where no cost is recovered.

    The slope of unit margin on refunded value, booked value held fixed, over the units that bought; their
    covariances are exact in integers. 1 where refunds are too few or too alike to tell.

    >>> cell = Moments()
    >>> for value, back in ((100, 0), (200, 0), (300, 300), (150, 150), (120, 60)) * 8:
    ...     unit = {"units": 1, "converted": 1, "revenue": value, "margin": int(value * 0.4 - 0.7 * back)}
    ...     cell.add_unit(unit | ({"refunded_value": back, "refunded_orders": 1} if back else {}))
    >>> round(loss_share([cell]), 3)
    0.7
    """
    if sum(cell.sum("refunded_orders") for cell in cells) < UNITS_MIN:
        return 1.0
    names = ("revenue", "refunded_value", "margin")
    spread = np.zeros((3, 3))
    for cell in cells:
        n = cell.sum("converted")
        if n:
            spread += [
                [(n * cell.product(a, b) - cell.sum(a) * cell.sum(b)) / n for b in names] for a in names
            ]
    determinant = spread[0, 0] * spread[1, 1] - spread[0, 1] ** 2
    if determinant <= 1e-9 * spread[0, 0] * spread[1, 1]:
        return 1.0
    slope = (spread[0, 0] * spread[1, 2] - spread[0, 1] * spread[0, 2]) / determinant
    return float(np.clip(-slope, 0.0, 1.0))


def margin_rate(cells: Sequence[Moments], loss: float) -> tuple[float, float]:
    """Margin before refunds as a share of booked value, and its standard error (infinite when unknown).

    (margin + loss x refunded value) / booked value over units; the error from the joint moments of both.
    """
    n, top, bottom = (
        sum(cell.sum("converted") for cell in cells),
        sum(cell.sum("margin") + loss * cell.sum("refunded_value") for cell in cells),
        sum(cell.sum("revenue") for cell in cells),
    )
    if n < UNITS_MIN or bottom <= 0:
        return 0.0, math.inf
    ratio = top / bottom
    terms = (("margin", 1.0), ("refunded_value", loss), ("revenue", -ratio))
    squares = math.fsum(
        f * g * cell.product(a, b) for cell in cells for a, f in terms for b, g in terms
    )  # the residuals have mean 0
    return ratio, math.sqrt(max(0.0, squares)) / bottom


def refund_size(cells: Sequence[Moments], refunded: float, buyers: float) -> tuple[float, float]:
    """Refunded value of a unit with a refund over the mean booked value of a buyer, and its standard error.

    >>> cell = Moments()
    >>> for _ in range(10):
    ...     cell.add_unit({"revenue": 100, "refunded_value": 50})
    >>> refund_size([cell], 10.0, 10.0)
    (0.5, 0.0)
    """
    if refunded < UNITS_MIN:
        return 1.0, math.inf
    total = float(sum(cell.sum("refunded_value") for cell in cells))
    squares = float(sum(cell.product("refunded_value", "refunded_value") for cell in cells))
    booked = sum(cell.sum("revenue") for cell in cells) / buyers
    spread = max(0.0, squares - total * total / refunded) / (refunded - 1.0)
    return total / refunded / booked, math.sqrt(spread / refunded) / booked
