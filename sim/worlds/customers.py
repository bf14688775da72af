"""Customers of a day, drawn before anything is offered: what they are, and every chance of theirs.

So what the same customer does under every variant is settled in advance (potential outcomes), and
`outcomes.py` needs no randomness of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.worlds.cells import Floats, Ints, cell_shares, cells_of
from sim.worlds.laws import BLIND, laws_of
from sim.worlds.timing import DAY_US
from sim.worlds.world import World


class Row:
    """The rows of `Customers.u`: which chance decides what."""

    CELL, ALIAS, ARRIVAL, SEE, CLICK, TAKE, BUY, CART = range(8)
    ORDER_AFTER, REFUND, REFUND_AFTER, RATE, SCORE, SHIFT, RATE_AFTER = range(8, 15)
    HISTORY, AGAIN_AT, NOISE, AGAIN = range(15, 19)  # from AGAIN on one for each period of repeats


@dataclass(frozen=True, slots=True, eq=False)
class Customers:
    """n customers of one day; arrays of shape (n,), `u` of (rows, n), uniform on [0, 1).

    What the cells stand for is in `cells_of(world)`: `cells_of(world).need[customers.cell]` and so on.
    """

    day: int
    cell: Ints
    segment: Ints
    basket: Ints
    is_bot: NDArray[np.bool_]
    arrival_us: Ints  # since the day's midnight
    cart_minor: Ints  # what is in the basket, before any offer
    pre_margin_minor: Ints  # of orders in the 30 days before
    multiplier: Floats  # the customer's own factor of order values, of mean 1
    u: Floats

    def __len__(self) -> int:
        return len(self.cell)


def draw_customers(world: World, day: int, n: int, *, rng: np.random.Generator) -> Customers:
    """Draw n customers of a day: segments as of that day, everything else independent between customers."""
    u = rng.random((Row.AGAIN + world.repeats.times, n))
    cells, laws = cells_of(world), laws_of(world, day)
    table = _alias_table(world, cell_shares(world, day).tobytes())
    place = (u[Row.CELL] * len(table.keep)).astype(np.int64)
    cell = np.where(u[Row.ALIAS] < table.keep[place], place, table.other[place])
    cv = world.order_value_cv
    variance = np.log1p(cv * cv)
    multiplier = np.ones(n)
    if cv:
        multiplier = np.exp(np.sqrt(variance) * rng.standard_normal(n) - variance / 2)
    segment, is_bot = cells.segment[cell], cells.is_bot[cell]
    chance, margin = _history(world)
    had = (u[Row.HISTORY] < chance[segment]) & ~is_bot
    hours = np.concatenate([[0.0], np.cumsum(world.season.hourly)])
    arrival = np.interp(u[Row.ARRIVAL], hours / hours[-1], np.arange(25) / 24)
    return Customers(
        day=day,
        cell=cell,
        segment=segment,
        basket=cells.basket[cell],
        is_bot=is_bot,
        arrival_us=(arrival * DAY_US).astype(np.int64),
        cart_minor=np.rint(laws.amount[BLIND, 0][cell] * multiplier).astype(np.int64),
        pre_margin_minor=np.rint(had * margin[segment] * multiplier).astype(np.int64),
        multiplier=multiplier,
        u=u,
    )


def joined(parts: Sequence[Customers]) -> Customers:
    """Customers of one day drawn apart (by replication, say) as one, in the order given."""
    first = parts[0]
    if any(part.day != first.day for part in parts):
        raise ValueError("customers of different days cannot be joined")
    names = [name for name in Customers.__slots__ if name != "day"]
    return Customers(
        first.day, **{name: np.concatenate([getattr(part, name) for part in parts], -1) for name in names}
    )


def visitors(world: World, day: int, per_day: float | None = None) -> float:
    """Expected number of customers at the touchpoint on a day: the usual number times the day's factor."""
    usual = world.customers_per_day if per_day is None else per_day
    return usual * world.season.factors(world.start, day).traffic


class AliasTable(NamedTuple):
    """Of a cell drawn evenly, the chance to keep it, and the one to take otherwise; (n_cells,) each."""

    keep: Floats
    other: Ints


def alias_table(shares: Floats) -> AliasTable:
    """Draws from a finite law at the cost of two chances (Walker 1977; Vose 1991).

    >>> alias_table(np.array([0.25, 0.75]))
    AliasTable(keep=array([0.5, 1. ]), other=array([1, 1]))
    """
    n = len(shares)
    keep, other = shares * n, np.arange(n)
    small = [index for index in range(n) if keep[index] < 1]
    large = [index for index in range(n) if keep[index] >= 1]
    while small and large:
        poor, rich = small.pop(), large[-1]
        other[poor] = rich
        keep[rich] -= 1 - keep[poor]
        if keep[rich] < 1:
            small.append(large.pop())
    keep[small + large] = 1.0  # what rounding left over
    return AliasTable(keep, other)


@lru_cache(maxsize=64)
def _alias_table(world: World, shares: bytes) -> AliasTable:
    return alias_table(np.frombuffer(shares).copy())


@lru_cache(maxsize=32)
def _history(world: World) -> tuple[Floats, Floats]:
    return (
        np.array([segment.history for segment in world.segments]),
        np.array([segment.history_margin_minor for segment in world.segments], float),
    )
