"""How much of what comes later falls within a window: exact, since densities are piecewise constant."""

import math
from collections.abc import Callable

import numpy as np

from sim.worlds.cells import Floats
from sim.worlds.timing import DAY_S, Delay, Repeats


def expected(delay: Delay, function: Callable[[Floats], Floats], breaks: Floats) -> Floats:
    """E[function(D)] of a function that is linear between `breaks` (and constant or linear beyond them).

    Within a piece of constant density and linear function the mean is the value in its middle.
    `function`: (n,) -> (..., n); the last axis is summed over.

    >>> float(expected(Delay((0, 4), (1.0,)), lambda d: np.minimum(d, 2.0), np.array([2.0])))
    1.5
    """
    edges = np.asarray(delay.edges_s, float)
    inner = breaks[(breaks > edges[0]) & (breaks < edges[-1])]
    points = np.unique(np.concatenate([edges, inner]))
    masses = np.diff(delay.below(points))
    return function((points[:-1] + points[1:]) / 2) @ masses


def both_within(first: Delay, then: Delay, window_s: float) -> float:
    """P(first + then < window) of two independent delays.

    >>> both_within(Delay((0, 1), (1.0,)), Delay((0, 1), (1.0,)), 1.0)
    0.5
    """
    breaks = window_s - np.asarray(then.edges_s, float)
    return float(expected(first, lambda delay: then.below(window_s - delay), breaks))


def periods_within(order: Delay, repeats: Repeats, horizon_s: float) -> Floats:
    """Law of the number of periods whose order would come before the horizon: (times + 1,) probabilities.

    The order of period j = 1, 2 ... comes at D + after + (j - 1 + U) every, U uniform and common to all. With
    x = (horizon - D - after) / every, ceil(x - U) of them come in time: floor(x) + 1 with probability
    x - floor(x), else floor(x).

    >>> periods_within(Delay((0, 1e-9), (1.0,)), Repeats(0, 28, 6), 35 * DAY_S).round(6).tolist()
    [0.0, 0.75, 0.25, 0.0, 0.0, 0.0, 0.0]
    """
    after_s, every_s = repeats.after_days * DAY_S, repeats.every_days * DAY_S
    counts = np.arange(repeats.times + 1)[:, np.newaxis]

    def law(delay: Floats) -> Floats:
        x = np.clip((horizon_s - delay - after_s) / every_s, 0, repeats.times)
        whole = np.floor(x)
        part = x - whole
        return np.where(counts == whole, 1 - part, np.where(counts == whole + 1, part, 0.0))

    most = math.ceil(horizon_s / every_s)
    breaks = horizon_s - after_s - np.arange(-1, most + 1, dtype=float) * every_s
    return expected(order, law, breaks)
