"""Levels: where a truth lies in its posterior, P(parameter <= truth), and what is told of many of them.

A posterior that is right has uniform levels over truths drawn from its prior (Talts et al. 2018); an interval
with equal tails holds a truth whose level lies between .025 and .975. Ranks among draws are levels too:
(rank + 1/2) / (draws + 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.posteriors.protocol import FloatArray, Posterior
from sim.calibration.part import Step, nothing
from sim.calibration.ranked import BINS

DRAWS = 199
"""Of which ranks 5 to 194 are 95 %."""


@dataclass(frozen=True, slots=True)
class World:
    """`simulate(rng, is_planted)` draws truth and data, and gives the level of each quantity's truth.

    Planted, the data have a fault, `fault` in words. `expected` has the coverage due to the 95 % interval of
    each quantity, None where nothing is promised; of a generative posterior all levels are to be uniform.
    """

    simulate: Callable[[np.random.Generator, bool], Mapping[str, float]]
    fault: str
    expected: Mapping[str, float | None]
    is_generative: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Of one quantity: coverage of the 95 % interval and chi-square of levels, without and with the fault."""

    world: str
    quantity: str
    runs: int
    expected: float | None
    coverage: float
    chi_square: float
    planted_coverage: float
    planted_chi_square: float
    is_generative: bool


def measured(name: str, world: World, *, runs: int, seed: int, step: Step = nothing) -> list[Row]:
    """So many runs of a world, each without and with the fault, from the same seeds."""
    found: dict[str, list[tuple[float, float]]] = {quantity: [] for quantity in world.expected}
    for run in range(runs):
        right, planted = (
            world.simulate(np.random.default_rng([seed, run]), fault) for fault in (False, True)
        )
        for quantity, pairs in found.items():
            pairs.append((right[quantity], planted[quantity]))
        step()
    rows: list[Row] = []
    for quantity, pairs in found.items():
        right, planted = np.array(pairs).T
        figures = coverage(right), chi_square(right), coverage(planted), chi_square(planted)
        rows.append(Row(name, quantity, runs, world.expected[quantity], *figures, world.is_generative))
    return rows


def coverage(levels: FloatArray) -> float:
    """Which part of the 95 % intervals holds its truth.

    >>> coverage(np.array([0.01, 0.025, 0.5, 0.99]))
    0.5
    """
    return float(np.mean((levels >= 0.025) & (levels <= 0.975)))


def chi_square(levels: FloatArray) -> float:
    """Of levels in `BINS` equal bins against uniform.

    >>> chi_square((np.arange(40) + 0.5) / 40)
    0.0
    """
    counts = np.bincount(np.minimum(BINS - 1, (levels * BINS).astype(np.int64)), minlength=BINS)
    each = len(levels) / BINS
    return float(((counts - each) ** 2 / each).sum())


def level(posterior: Posterior, truth: float) -> float:
    """P(parameter <= truth)."""
    return float(posterior.cdf(truth))


def rank_level(draws: Sequence[float] | FloatArray, truth: float) -> float:
    """The level of a truth by its rank among draws.

    >>> rank_level([0.1, 0.2, 0.3], 0.25)
    0.625
    """
    return (int((np.asarray(draws) < truth).sum()) + 0.5) / (len(draws) + 1)
