"""The model of docs/worlds.md once more, as sums over plain loops: the oracle of the tests.

It shares no formula with `sim/worlds/laws.py` and `truth.py`. Delays come from `horizons.py`, which is held
to draws by itself.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from sim.worlds.horizons import both_within, periods_within
from sim.worlds.season import Factors
from sim.worlds.timing import Delays, Repeats
from sim.worlds.world import Effect, Segment, World

DAY_S = 86_400.0


@dataclass(frozen=True)
class Person:
    """A kind of customer, and how likely it is within the segment."""

    likely: float
    need: float
    sensitivity: float
    budget: float
    skus: tuple[str, ...]
    others: int  # offers the session shows besides


@dataclass
class PlainSums:
    """Expected features of a customer of one segment on a day under one effect."""

    world: World
    effect: Effect
    day: int
    window_s: float

    def features(self, segment: Segment) -> dict[str, float]:
        world, noise = self.world, self.world.noise
        sums: dict[str, float] = defaultdict(float)
        sums["units"] = 1.0
        sums["exposed"] = noise.bots * noise.bots_see
        sums["clicked"] = noise.bots * noise.bots_see * noise.bots_click * self.effect.is_offer
        sums["pre_margin"] = (1 - noise.bots) * segment.history * segment.history_margin_minor
        for one in _people(world, segment):
            likely, see = (1 - noise.bots) * one.likely, world.session.seeing
            take = self._take(segment, one)
            sums["exposed"] += likely * see
            sums["took"] += likely * see * take
            clicks = self.effect.reaction_of(segment.key).clicks
            sums["clicked"] += likely * see * (take + (1 - take) * clicks) * self.effect.is_offer
            self._ordered(sums, segment, one, likely * (1 - see), sees=False, takes=False)
            self._ordered(sums, segment, one, likely * see * (1 - take), sees=True, takes=False)
            self._ordered(sums, segment, one, likely * see * take, sees=True, takes=True)
        return dict(sums)

    def _money(self, segment: Segment, skus: tuple[str, ...], *, takes: bool) -> tuple[int, int, float]:
        """Amount and cost of an order in whole minor units, and its list price."""
        goods = {product.sku: product for product in self.world.products}
        price = sum(goods[sku].price_minor for sku in skus)
        cost = sum(goods[sku].cost_minor for sku in skus)
        if takes:
            kept = [goods[sku] for sku in skus if sku != self.effect.replaces]
            price = (
                sum(one.price_minor for one in kept) * (1 - self.effect.discount) + self.effect.price_minor
            )
            cost = sum(one.cost_minor for one in kept) + self.effect.cost_minor
        size = segment.order_value * self._factors().order_value
        return round(price * size), round(cost * size), price

    def _take(self, segment: Segment, one: Person) -> float:
        effect = self.effect
        lacks = effect.replaces is not None and effect.replaces not in one.skus
        if effect.sku is None or effect.sku in one.skus or lacks:
            return 0.0
        with_amount, _, with_price = self._money(segment, one.skus, takes=True)
        amount, _, price = self._money(segment, one.skus, takes=False)
        if with_amount > amount and with_amount > one.budget:
            return 0.0
        appeal = effect.reaction_of(segment.key).appeal * self._fresh()
        return min(1.0, appeal * one.need * math.exp(-one.sensitivity * (with_price - price) / price))

    def _ordered(
        self, sums: dict[str, float], segment: Segment, one: Person, likely: float, *, sees: bool, takes: bool
    ) -> None:
        react, factors, saw = (
            self.effect.reaction_of(segment.key),
            self._factors(),
            sees and self.effect.is_offer,
        )
        amount, cost, _ = self._money(segment, one.skus, takes=takes)
        seen = one.others + (self.effect.offers if saw else 0)
        chance = min(1.0, segment.conversion * factors.conversion) * (1 - segment.fatigue) ** max(0, seen - 1)
        chance *= segment.over_budget if amount > one.budget else 1.0
        if saw:
            chance = min(1.0, chance * (1 - react.pressure * (1 - one.need)))
        if takes:
            lost = 1 - chance
            chance += lost * react.rescue * self._fresh()
        leaves = min(1.0, segment.abandonment * (1 + (react.abandonment if saw else 0.0)))
        left, ordered = likely * (1 - chance) * leaves, likely * chance
        refund = min(1.0, max(0.0, segment.refund * factors.refunds + (react.regret if takes else 0.0)))
        law = self.world.refunded_part
        part = sum(value * weight for value, weight in zip(law.values, law.weights, strict=True))
        margin = amount - cost - refund * part * (amount - round(self.world.recovered * cost))
        again = min(1.0, max(0.0, segment.repeat + (react.repeat if takes else 0.0)))
        plain_amount, plain_cost, _ = self._money(segment, one.skus, takes=False)
        inside = ordered * self._before(self.window_s)
        later = ordered * again * self._periods(self.window_s)
        sums["carts"] += ordered + left
        sums["abandoned"] += left + ordered * (1 - self._before(self.world.delays.abandonment_h * 3600))
        sums["converted"] += inside
        sums["orders"] += inside + later
        sums["revenue"] += inside * amount + later * plain_amount
        sums["refunded_orders"] += inside * refund
        sums["refunded_value"] += inside * refund * part * amount
        sums["margin"] += inside * margin + later * (plain_amount - plain_cost)
        sums["buyer_90d"] += ordered * self._before(90 * DAY_S)
        times = self._law(90 * DAY_S)
        sums["repeat_90d"] += ordered * sum(p * (1 - (1 - again) ** k) for k, p in enumerate(times))
        for days in (30, 90, 180):
            first = ordered * self._before(days * DAY_S) * margin
            back = ordered * again * self._periods(days * DAY_S) * (plain_amount - plain_cost)
            sums[f"ltv_{days}d"] += first + back
        self._rated(sums, segment, ordered * segment.rates, react.rating if saw else 0.0)

    def _rated(self, sums: dict[str, float], segment: Segment, likely: float, shift: float) -> None:
        likely *= _rated_within(self.world.delays, self.window_s)
        up = shift - math.floor(shift)
        sums["ratings"] += likely
        sums["nps:count"] += likely
        for score, weight in zip(segment.rating.values, segment.rating.weights, strict=True):
            for step, part in ((0, 1 - up), (1, up)):
                moved = min(10.0, max(0.0, score + math.floor(shift) + step))
                sums["rating_sum"] += likely * weight * part * moved / 10
                sums["nps:sum"] += likely * weight * part * ((moved >= 9) - (moved <= 6))

    def _factors(self) -> Factors:
        return self.world.season.factors(self.world.start, self.day)

    def _fresh(self) -> float:
        half = self.effect.novelty_days
        return 1.0 if half is None else 2 ** (-max(0, self.day - self.effect.arrives) / half)

    def _before(self, seconds: float) -> float:
        return _ordered_within(self.world.delays, seconds)

    def _law(self, horizon_s: float) -> tuple[float, ...]:
        return _periods(self.world.delays, self.world.repeats, horizon_s)

    def _periods(self, horizon_s: float) -> float:
        return sum(k * p for k, p in enumerate(self._law(horizon_s)))


@cache
def _ordered_within(delays: Delays, seconds: float) -> float:
    return float(delays.order.below(np.array([seconds]))[0])


@cache
def _rated_within(delays: Delays, seconds: float) -> float:
    return both_within(delays.order, delays.rating, seconds)


@cache
def _periods(delays: Delays, repeats: Repeats, horizon_s: float) -> tuple[float, ...]:
    return tuple(periods_within(delays.order, repeats, horizon_s).tolist())


def _people(world: World, segment: Segment) -> Iterator[Person]:
    budgets = [(math.inf, 1.0)]
    if segment.budget is not None:
        budgets = list(zip(segment.budget.values, segment.budget.weights, strict=True))
    needs = zip(segment.need.values, segment.need.weights, strict=True)
    sensitivities = zip(segment.sensitivity.values, segment.sensitivity.weights, strict=True)
    stages = [[(one.offers, one.reach), (0, 1 - one.reach)] for one in world.session.stages]
    kinds = itertools.product(needs, sensitivities, budgets, world.baskets, itertools.product(*stages))
    for (need, a), (sensitivity, b), (most, c), basket, passed in kinds:
        likely = a * b * c * basket.share * math.prod(chance for _, chance in passed)
        yield Person(likely, need, sensitivity, most, basket.skus, sum(offers for offers, _ in passed))
