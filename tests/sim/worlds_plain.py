"""The model of docs/worlds.md once more, one customer at a time in plain Python: the oracle of the tests.

It shares no formula with `sim/worlds`, only the descriptions.
"""

import math
import random
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from sim.worlds.truth import truth
from sim.worlds.world import Delay, Effect, Grid, Segment, World

DAY_S = 86_400.0


def plain_features(
    world: World, effect: Effect, day: int, n: int, window: timedelta
) -> dict[str, NDArray[np.float64]]:
    """The matured features of n customers of a day who are all shown the effect."""
    loop = PlainLoop(world, effect, day, window.total_seconds(), random.Random(f"{effect.variant} {day}"))
    rows = [loop.customer() for _ in range(n)]
    names = truth(world)[effect.variant].features
    return {name: np.array([row.get(name, 0.0) for row in rows]) for name in names}


@dataclass
class Order:
    """What was decided about a customer by the time of the order."""

    segment: Segment
    saw_offer: bool
    takes: bool
    chance: float
    amount: float
    cost: float
    plain_amount: float
    plain_cost: float


@dataclass
class PlainLoop:
    """Customers one after the other, by the words of the model."""

    world: World
    effect: Effect
    day: int
    window_s: float
    rng: random.Random

    def customer(self) -> dict[str, float]:
        world, rng = self.world, self.rng
        if rng.random() < world.noise.bots:
            sees = rng.random() < world.noise.bots_see
            clicks = sees and self.effect.is_offer and rng.random() < world.noise.bots_click
            return {"units": 1.0, "exposed": float(sees), "clicked": float(clicks)}
        row, order = self._decided()
        if rng.random() >= order.chance:
            change = self.effect.reaction_of(order.segment.key).abandonment if order.saw_offer else 0.0
            leaves = rng.random() < order.segment.abandonment * (1 + change)
            return row | {"carts": float(leaves), "abandoned": float(leaves)}
        return row | self._bought(order)

    def _decided(self) -> tuple[dict[str, float], Order]:
        world, effect, rng = self.world, self.effect, self.rng
        factors = world.season.factors(world.start, self.day)
        shares = [one.share * factors.mix.get(one.key, 1.0) for one in world.segments]
        segment = rng.choices(world.segments, shares)[0]
        need, sensitivity = self._of(segment.need), self._of(segment.sensitivity)
        budget = self._of(segment.budget) if segment.budget else math.inf
        skus = rng.choices(world.baskets, [basket.share for basket in world.baskets])[0].skus
        others = sum(stage.offers for stage in world.session.stages if rng.random() < stage.reach)
        price, cost, with_price, with_cost = self._prices(skus)
        size = segment.order_value * factors.order_value
        react, fresh = effect.reaction_of(segment.key), 1.0
        if effect.novelty_days is not None:
            fresh = 2 ** (-max(0, self.day - effect.arrives) / effect.novelty_days)
        sees, takes = rng.random() < world.session.seeing, False
        if effect.sku is not None and effect.sku not in skus:
            fits = effect.replaces is None or effect.replaces in skus
            affordable = round(with_price * size) <= budget or with_price <= price
            wants = react.appeal * fresh * need * math.exp(-sensitivity * (with_price / price - 1))
            takes = sees and fits and affordable and rng.random() < wants
        saw_offer = sees and effect.is_offer
        chance = min(1.0, segment.conversion * factors.conversion)
        chance *= (1 - segment.fatigue) ** max(0, others + (effect.offers if saw_offer else 0) - 1)
        if round((with_price if takes else price) * size) > budget:
            chance *= segment.over_budget
        if saw_offer:
            chance = min(1.0, chance * (1 - react.pressure * (1 - need)))
        if takes:
            chance += react.rescue * fresh * (1 - chance)
        row = {"units": 1.0, "exposed": float(sees), "took": float(takes)}
        row["clicked"] = float(saw_offer and (takes or rng.random() < react.clicks))
        spread = math.log(1 + world.order_value_cv**2)
        scale = math.exp(rng.gauss(-spread / 2, math.sqrt(spread)))
        if rng.random() < segment.history:
            row["pre_margin"] = segment.history_margin_minor * scale
        scale *= size
        amount, spent = (with_price, with_cost) if takes else (price, cost)
        money = (amount * scale, spent * scale, price * scale, cost * scale)
        return row, Order(segment, saw_offer, takes, chance, *money)

    def _prices(self, skus: tuple[str, ...]) -> tuple[float, float, float, float]:
        """Price and cost of the basket, as it is and with the offer."""
        effect = self.effect
        goods = {one.sku: one for one in self.world.products}
        kept = [goods[sku] for sku in skus if sku != effect.replaces]
        price = sum(goods[sku].price_minor for sku in skus)
        cost = sum(goods[sku].cost_minor for sku in skus)
        with_price = sum(one.price_minor for one in kept) * (1 - effect.discount) + effect.price_minor
        return price, cost, with_price, sum(one.cost_minor for one in kept) + effect.cost_minor

    def _bought(self, order: Order) -> dict[str, float]:
        world, rng, segment = self.world, self.rng, order.segment
        react = self.effect.reaction_of(segment.key)
        at_s = self._after(world.delays.order)
        refund = segment.refund * world.season.factors(world.start, self.day).refunds
        refunds = rng.random() < refund + (react.regret if order.takes else 0.0)
        margin = order.amount - order.cost
        if refunds:
            margin -= order.amount - world.recovered * order.cost
        again = segment.repeat + (react.repeat if order.takes else 0.0)
        point = rng.random()
        times = [
            at_s + (world.repeats.after_days + (period + point) * world.repeats.every_days) * DAY_S
            for period in range(world.repeats.times)
            if rng.random() < again
        ]
        inside, later = float(at_s < self.window_s), sum(time < self.window_s for time in times)
        later_margin = order.plain_amount - order.plain_cost
        row = {
            "carts": 1.0,
            "abandoned": float(at_s >= world.delays.abandonment_h * 3600),
            "converted": inside,
            "orders": inside + later,
            "revenue": inside * order.amount + later * order.plain_amount,
            "refunded_orders": inside * refunds,
            "refunded_value": inside * refunds * order.amount,
            "margin": inside * margin + later * later_margin,
            "buyer_90d": 1.0,
            "repeat_90d": float(any(time < 90 * DAY_S for time in times)),
        }
        for days in (30, 90, 180):
            row[f"ltv_{days}d"] = margin + later_margin * sum(time < days * DAY_S for time in times)
        if rng.random() < segment.rates and at_s + self._after(world.delays.rating) < self.window_s:
            shift = react.rating if order.saw_offer else 0.0
            whole = math.floor(shift)
            score = self._of(segment.rating) + whole + (rng.random() < shift - whole)
            score = min(10, max(0, score))
            row |= {"ratings": 1.0, "rating_sum": score / 10, "nps:count": 1.0}
            row["nps:sum"] = float(score >= 9) - float(score <= 6)
        return row

    def _of(self, grid: Grid) -> float:
        return self.rng.choices(grid.values, grid.weights)[0]

    def _after(self, delay: Delay) -> float:
        pieces = list(zip(delay.edges_s, delay.edges_s[1:], strict=False))
        return self.rng.uniform(*self.rng.choices(pieces, delay.weights)[0])
