"""When things happen: delays with a piecewise constant density, and repeat orders in periods."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.worlds.errors import demand, within
from sim.worlds.grid import is_law

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True)
class Delay:
    """A delay: uniform between edges, `weights[i]` between `edges_s[i]` and `edges_s[i + 1]` (seconds)."""

    edges_s: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        demand(len(self.edges_s) >= 2, "edges_s", "there must be at least two")
        within("edges_s", self.edges_s[0], 0, float("inf"))
        rises = all(a < b for a, b in zip(self.edges_s, self.edges_s[1:], strict=False))
        demand(rises and self.edges_s[-1] < float("inf"), "edges_s", "they must rise, and be finite")
        demand(
            len(self.weights) == len(self.edges_s) - 1, "weights", "one for each pair of neighbouring edges"
        )
        is_law(self.weights, "weights")

    def at(self, u: NDArray[np.float64]) -> NDArray[np.int64]:
        """The delay in microseconds of each chance u in [0, 1): the inverse of the distribution function."""
        seconds = np.interp(u, self._cumulated(), self.edges_s)
        return (seconds * SECOND_US).astype(np.int64)

    def below(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(delay < seconds), shape as given.

        >>> Delay((0, 10, 30), (0.5, 0.5)).below(np.array([5.0, 20.0, 99.0])).tolist()
        [0.25, 0.75, 1.0]
        """
        return np.interp(seconds, self.edges_s, self._cumulated(), left=0.0, right=1.0)

    def _cumulated(self) -> NDArray[np.float64]:
        cumulated = np.concatenate([[0.0], np.cumsum(self.weights)])
        return cumulated / cumulated[-1]


HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Delays:
    """How long after the arrival an order comes, and after the order its refund and its rating."""

    order: Delay = Delay((60, 600, HOUR_S, 6 * HOUR_S), (0.5, 0.3, 0.2))
    refund: Delay = Delay((DAY_S, 4 * DAY_S, 10 * DAY_S, 20 * DAY_S), (0.35, 0.45, 0.2))
    rating: Delay = Delay((DAY_S, 3 * DAY_S, 6 * DAY_S), (0.6, 0.4))
    abandonment_h: float = 24.0  # a cart without an order for so long is abandoned: the store's setting

    def __post_init__(self) -> None:
        demand(0 < self.abandonment_h < float("inf"), "abandonment_h", "it must be above 0")


@dataclass(frozen=True, slots=True)
class Repeats:
    """Later orders of one who bought: at most one in each of `times` periods of `every_days` days.

    They begin `after_days` after the first order. A customer comes back at the same point of every period.
    """

    after_days: float = 14.0
    every_days: float = 28.0
    times: int = 6

    def __post_init__(self) -> None:
        within("after_days", self.after_days, 0, 1e4)
        demand(0 < self.every_days <= 1e4, "every_days", "it must be above 0 and at most 10,000")
        within("times", self.times, 0, 52)


DELAYS = Delays()
REPEATS = Repeats()
