"""Laws on finitely many values: what makes the truth of a world a finite sum."""

import math
from dataclasses import dataclass

from sim.worlds.errors import demand

TOLERANCE = 1e-9
"""By how much probabilities that should sum to 1 may be off."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A law on finitely many values, each with its probability."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        demand(len(self.values) > 0, "values", "there must be at least one")
        demand(all(map(math.isfinite, self.values)), "values", "they must be finite")
        demand(len(self.weights) == len(self.values), "weights", "there must be one for each value")
        is_law(self.weights, "weights")

    @property
    def mean(self) -> float:
        """The expected value.

        >>> Grid((0.0, 1.0), (0.25, 0.75)).mean
        0.75
        """
        return math.fsum(value * weight for value, weight in zip(self.values, self.weights, strict=True))


def is_law(weights: tuple[float, ...], field: str) -> None:
    """Refuse weights that are not probabilities which sum to 1."""
    demand(all(0 <= weight <= 1 for weight in weights), field, "each must be from 0 to 1")
    total = math.fsum(weights)
    demand(abs(total - 1) <= TOLERANCE, field, f"they must sum to 1, not to {total:.9g}")
