"""What customers of each cell do under each variant on a day, as tables: the model itself.

The states of a customer: 0 has not seen the slot, 1 has seen it and not taken the offer, 2 has taken it.
Tables by state have shape (3, n_arms, n_cells). Formulas: docs/worlds.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.worlds.cells import Cells, Floats, cells_of
from sim.worlds.offers import Effect, Reaction
from sim.worlds.people import Segment
from sim.worlds.world import World

BLIND, SEEN, TAKEN = 0, 1, 2
STATES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Laws:
    """The tables of one day. Money is in whole minor units, before the customer's own factor."""

    see: Floats  # (n_cells,)
    take: Floats  # (n_arms, n_cells), of those who see it
    click: Floats  # (n_arms, n_cells), of those who see it and do not take it
    buy: Floats  # by state, as all that follow
    cart: Floats  # chance of a cart, of those who do not order
    refund: Floats
    repeat: Floats  # in each period
    amount: Floats
    cost: Floats
    recovered: Floats
    rating_shift: Floats  # (n_arms, n_segments), for those who have seen it


def laws_of(world: World, day: int) -> Laws:
    """The tables of a day; days of equal factors share theirs."""
    factors = world.season.factors(world.start, day)
    novelty = tuple(effect.novelty(day) for effect in world.effects)
    return _laws(world, factors.conversion, factors.order_value, factors.refunds, novelty)


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """A segment's or reaction's numbers spread over cells, as far as the formulas need them."""

    conversion: Floats
    fatigue: Floats
    over_budget: Floats
    abandonment: Floats
    refund: Floats
    repeat: Floats
    order_value: Floats

    @classmethod
    def of(cls, world: World, cells: Cells) -> "_Columns":
        def spread(name: str) -> Floats:
            return np.array([getattr(segment, name) for segment in world.segments], float)[cells.segment]

        return cls(**{name: spread(name) for name in cls.__slots__})


@lru_cache(maxsize=64)  # days come in their order; the tables of many cells and arms take megabytes
def _laws(
    world: World, conversion: float, order_value: float, refunds: float, novelty: tuple[float, ...]
) -> Laws:
    cells, arms = cells_of(world), len(world.effects)
    of = _Columns.of(world, cells)
    human = ~cells.is_bot
    n_cells = len(cells.segment)
    tables = {name: np.zeros((STATES, arms, n_cells)) for name in ("buy", "cart", "refund", "repeat")}
    amount, cost = (np.zeros((STATES, arms, n_cells)) for _ in range(2))
    take, click = np.zeros((arms, n_cells)), np.zeros((arms, n_cells))
    size = of.order_value * order_value
    base = np.minimum(1.0, of.conversion * conversion)
    for arm, effect in enumerate(world.effects):
        react = _reactions(effect, world.segments, cells)
        for state in range(STATES):
            price, costs, _ = _goods(world, effect if state == TAKEN else None)
            amount[state, arm] = np.rint(price[cells.basket] * size)
            cost[state, arm] = np.rint(costs[cells.basket] * size)
        take[arm] = _take(world, effect, cells, react["appeal"] * novelty[arm], amount[:, arm])
        click[arm] = np.where(cells.is_bot, world.noise.bots_click * effect.is_offer, react["clicks"])
        annoyed = 1 - react["pressure"] * (1 - cells.need)
        for state in range(STATES):
            saw = effect.is_offer and state != BLIND
            seen = cells.before + effect.offers * saw
            chance = base * (1 - of.fatigue) ** np.maximum(0, seen - 1)
            chance *= np.where(amount[state, arm] > cells.budget_minor, of.over_budget, 1.0)
            chance = np.clip(chance * annoyed if saw else chance, 0, 1)
            if state == TAKEN:
                chance += react["rescue"] * novelty[arm] * (1 - chance)
            taken = float(state == TAKEN)
            tables["buy"][state, arm] = chance
            tables["cart"][state, arm] = of.abandonment * (1 + saw * react["abandonment"])
            tables["refund"][state, arm] = of.refund * refunds + taken * react["regret"]
            tables["repeat"][state, arm] = of.repeat + taken * react["repeat"]
    chances = {name: np.clip(table, 0, 1) * human for name, table in tables.items()}
    return Laws(
        see=np.where(cells.is_bot, world.noise.bots_see, world.session.seeing),
        take=take * human,
        click=click,
        amount=amount,
        cost=cost,
        recovered=np.rint(world.recovered * cost),
        rating_shift=_rating_shift(world),
        **chances,
    )


def _take(world: World, effect: Effect, cells: Cells, appeal: Floats, amount: Floats) -> Floats:
    """min(1, a n exp(-z r)), 0 where it does not fit the basket or the budget; shape (n_cells,).

    r = what taking it adds to the list price of the basket, relative (below 0 for what is cheaper).
    """
    if not effect.is_offer:
        return np.zeros(len(cells.need))
    before, _, _ = _goods(world, None)
    after, _, fits = _goods(world, effect)
    added = (after / before - 1)[cells.basket]
    chance = np.minimum(1.0, appeal * cells.need * np.exp(-cells.sensitivity * added))
    too_dear = (amount[TAKEN] > cells.budget_minor) & (amount[TAKEN] > amount[SEEN])
    return np.where(fits[cells.basket] & ~too_dear, chance, 0.0)


def _goods(world: World, taken: Effect | None) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """List price and cost of each basket, with the offer if taken, and whether it fits: (n_baskets,) each."""
    products = {product.sku: product for product in world.products}
    prices, costs, fits = [], [], []
    for basket in world.baskets:
        goods = [products[sku] for sku in basket.skus]
        fit = taken is not None and _fits(taken, basket.skus)
        if taken is not None and fit:
            goods = [product for product in goods if product.sku != taken.replaces]
        price, cost = sum(p.price_minor for p in goods), sum(p.cost_minor for p in goods)
        if taken is not None and fit:
            price = price * (1 - taken.discount) + taken.price_minor
            cost += taken.cost_minor
        prices.append(price)
        costs.append(cost)
        fits.append(fit)
    return np.array(prices, float), np.array(costs, float), np.array(fits)


def _fits(offer: Effect, skus: Sequence[str]) -> bool:
    """Whether the basket lacks what is offered and holds what it would replace."""
    return offer.sku not in skus and (offer.replaces is None or offer.replaces in skus)


def _reactions(effect: Effect, segments: tuple[Segment, ...], cells: Cells) -> dict[str, Floats]:
    """The reaction of each cell's segment, by field; shape (n_cells,) each."""
    of = [effect.reaction_of(segment.key) for segment in segments]
    return {
        name: np.array([getattr(reaction, name) for reaction in of], float)[cells.segment]
        for name in Reaction.__slots__
    }


def _rating_shift(world: World) -> Floats:
    return np.array([[effect.reaction_of(s.key).rating for s in world.segments] for effect in world.effects])
