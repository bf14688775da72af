"""What was estimated: every parameter by name, with draws of its posterior, and what had to be assumed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sim.fitting.log import Floats
from sim.fitting.mapping import FitMapping

DRAWS = 500
"""Draws of the posterior of every parameter; the n-th of all belong together."""
PROB = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A parameter: its value, the limits of its 95 % credible interval, and the units it rests on."""

    name: str
    value: float
    low: float | None
    high: float | None
    units: int
    source: str  # data, assumed (a named default) or given (the mapping's `assume`)


@dataclass(slots=True)
class Found:
    """Collects parameters; `draws` holds those of the data alone, (DRAWS,) each."""

    mapping: FitMapping
    rng: np.random.Generator
    estimates: dict[str, Estimate] = field(default_factory=dict[str, Estimate])
    draws: dict[str, Floats] = field(default_factory=dict[str, Floats])
    notes: list[str] = field(default_factory=list[str])
    lognormal_gain: float | None = None  # of order values within baskets and segments, over a gamma law

    def data(self, name: str, value: float, draws: Floats, units: float) -> None:
        """An estimate from the data."""
        low, high = np.quantile(draws, [(1 - PROB) / 2, (1 + PROB) / 2])
        self.draws[name] = draws
        self.estimates[name] = Estimate(name, float(value), float(low), float(high), round(units), "data")

    def many(self, names: Sequence[str], values: Floats, draws: Floats, units: Floats) -> None:
        """Several at once; `draws`: (DRAWS, len(names))."""
        for place, name in enumerate(names):
            self.data(name, float(values[place]), draws[:, place], float(units[place]))

    def assumed(self, name: str, default: str, *, scale: float = 1.0) -> None:
        """What the data cannot tell: the mapping's `assume`, or the default of that name."""
        source = "given" if default in self.mapping.assume else "assumed"
        self.estimates[name] = Estimate(name, self.mapping.assumed(default) * scale, None, None, 0, source)

    def fixed(self, name: str, value: float) -> None:
        """A default of the world itself; draws there are from what it follows stay."""
        self.estimates[name] = Estimate(name, value, None, None, 0, "assumed")

    def copied(self, name: str, of: str) -> None:
        """A parameter that is another one."""
        self.estimates[name] = replace(self.estimates[of], name=name)
        if of in self.draws:
            self.draws[name] = self.draws[of]

    def value(self, name: str, draw: int | None = None) -> float:
        """The estimate, or its value in a draw of the posterior."""
        if draw is None or name not in self.draws:
            return self.estimates[name].value
        return float(self.draws[name][draw])
