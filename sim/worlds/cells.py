"""The kinds of customers a world knows: every combination of what they are, and how likely it is.

A cell is a segment with a need, a price sensitivity, a budget, a basket and a number of offers seen besides
the experiment's; one more cell of each segment holds its bots. All laws are tables over cells, so a customer
is one draw of a cell, and the truth a sum over them.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sim.worlds.grid import Grid
from sim.worlds.world import Session, World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NO_BUDGET = Grid((float(2**62),), (1.0,))


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What the customers of each cell are; arrays of shape (n_cells,).

    `part` is the probability of the cell within its segment: those of a segment sum to 1.
    """

    segment: Ints
    need: Floats
    sensitivity: Floats
    budget_minor: Floats  # 2^62 where there is none
    basket: Ints
    before: Ints  # offers of other touchpoints and places that the session shows
    is_bot: NDArray[np.bool_]
    part: Floats


@lru_cache(maxsize=32)
def cells_of(world: World) -> Cells:
    """All cells of a world, by segment in its order, the bots of a segment last."""
    rows: list[tuple[float, ...]] = []
    baskets = [(float(index), basket.share) for index, basket in enumerate(world.baskets)]
    for index, segment in enumerate(world.segments):
        budget = segment.budget or _NO_BUDGET
        grids = [_pairs(segment.need), _pairs(segment.sensitivity), _pairs(budget), baskets]
        for combination in product(*grids, offers_seen(world.session)):
            values = [value for value, _ in combination]
            part = float(np.prod([weight for _, weight in combination]))
            rows.append((index, *values, 0.0, part * (1 - world.noise.bots)))
        if world.noise.bots:
            rows.append((index, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, world.noise.bots))
    columns = np.array(rows, float).T
    segments, need, sensitivity, limit, basket, before, is_bot, part = columns
    return Cells(
        segment=segments.astype(np.int64),
        need=need.copy(),
        sensitivity=sensitivity.copy(),
        budget_minor=limit.copy(),
        basket=basket.astype(np.int64),
        before=before.astype(np.int64),
        is_bot=is_bot > 0,
        part=part.copy(),
    )


def offers_seen(session: Session) -> list[tuple[float, float]]:
    """How many offers a session shows besides the experiment's: (number, probability), rising.

    >>> from sim.worlds.world import Stage
    >>> offers_seen(Session((Stage("cart", 0.5, 2), Stage("checkout", 1.0, 1))))
    [(1.0, 0.5), (3.0, 0.5)]
    """
    law = {0: 1.0}
    for stage in session.stages:
        following: dict[int, float] = {}
        for seen, likely in law.items():
            for more, chance in ((stage.offers, stage.reach), (0, 1 - stage.reach)):
                if chance:
                    following[seen + more] = following.get(seen + more, 0.0) + likely * chance
        law = following
    return [(float(seen), law[seen]) for seen in sorted(law)]


def segment_mix(world: World, day: int) -> Floats:
    """Shares of the segments among the customers of a day, shape (n_segments,); they sum to 1."""
    factors = world.season.factors(world.start, day).mix
    shares = np.array([segment.share * factors.get(segment.key, 1.0) for segment in world.segments])
    return shares / shares.sum()


def cell_shares(world: World, day: int) -> Floats:
    """Probability of each cell among the customers of a day, shape (n_cells,)."""
    cells = cells_of(world)
    return segment_mix(world, day)[cells.segment] * cells.part


def _pairs(grid: Grid) -> list[tuple[float, float]]:
    return list(zip(grid.values, grid.weights, strict=True))
