"""The world: a shop, its customers, what its offers do, and how all of it drifts. Values only, frozen.

Everything a customer is (segment, need, price sensitivity, budget, basket, offers seen) has a law on
finitely many values, so that the truth of every metric is a finite sum (`truth.py`). The model in formulas
stands in docs/worlds.md.
"""

import math
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from sim.worlds.digest import digest_of
from sim.worlds.errors import InvalidWorld, demand, within
from sim.worlds.grid import Grid, is_law
from sim.worlds.offers import Basket, Effect, Product, Reaction
from sim.worlds.people import Segment
from sim.worlds.season import STEADY, Season, Shock
from sim.worlds.timing import DELAYS, REPEATS, Delay, Delays, Repeats

WHOLE = Grid((1.0,), (1.0,))

__all__ = [
    "Basket",
    "Delay",
    "Delays",
    "Effect",
    "Grid",
    "InvalidWorld",
    "Noise",
    "Product",
    "Reaction",
    "Repeats",
    "Season",
    "Segment",
    "Session",
    "Shock",
    "Stage",
    "World",
]


@dataclass(frozen=True, slots=True)
class Stage:
    """A touchpoint of a session before its order, and what else the shop shows there.

    Of the sessions `reach` pass it, and see all `offers` of it; the experiment's own is not counted.
    """

    touchpoint: str
    reach: float = 1.0
    offers: int = 0

    def __post_init__(self) -> None:
        within("reach", self.reach, 0, 1)
        within("offers", self.offers, 0, 100)


@dataclass(frozen=True, slots=True)
class Session:
    """The touchpoints in their order, and the chance that a customer sees the experiment's slot."""

    stages: tuple[Stage, ...] = (Stage("checkout"),)
    seeing: float = 0.9

    def __post_init__(self) -> None:
        places = [stage.touchpoint for stage in self.stages]
        demand(len(set(places)) == len(places), "stages", "no touchpoint may stand twice")
        within("seeing", self.seeing, 0, 1)


@dataclass(frozen=True, slots=True)
class Noise:
    """What is not customers, and what goes wrong on the way of events.

    Bots are assigned like everybody, see the slot with chance `bots_see`, click with `bots_click`, leave no
    cart and never order. An event is sent twice with chance `duplicates`, and late with chance `late`: by up
    to `late_h_max` hours, evenly.
    """

    bots: float = 0.0
    bots_see: float = 0.9
    bots_click: float = 0.5
    duplicates: float = 0.0
    late: float = 0.0
    late_h_max: float = 24.0

    def __post_init__(self) -> None:
        demand(0 <= self.bots < 1, "bots", "it must be from 0 to less than 1")
        for name in ("bots_see", "bots_click", "duplicates", "late"):
            within(name, getattr(self, name), 0, 1)
        demand(0 < self.late_h_max < math.inf, "late_h_max", "it must be above 0")


@dataclass(frozen=True)
class World:
    """A shop and one experiment's variants in it, `effects` in the order of the arms.

    An order's value is what the basket costs times a factor that is the customer's own: log-normal of mean 1
    and coefficient of variation `order_value_cv`, independent of all else.
    """

    currency: str
    start: date
    customers_per_day: float
    touchpoint: str
    products: tuple[Product, ...]
    baskets: tuple[Basket, ...]
    segments: tuple[Segment, ...]
    effects: tuple[Effect, ...]
    session: Session = Session()
    season: Season = STEADY
    delays: Delays = DELAYS
    repeats: Repeats = REPEATS
    noise: Noise = Noise()
    order_value_cv: float = 0.5
    recovered: float = 0.8  # part of the cost of goods that a refund brings back
    refunded_part: Grid = WHOLE  # of the order's value, and so of its goods, that a refund gives back

    def __post_init__(self) -> None:
        demand(len(self.currency) == 3 and self.currency.isupper(), "currency", "three letters as EUR")
        demand(0 < self.customers_per_day < math.inf, "customers_per_day", "it must be above 0")
        places = [stage.touchpoint for stage in self.session.stages]
        demand(self.touchpoint in places, "touchpoint", f"no stage of the session: {', '.join(places)}")
        within("order_value_cv", self.order_value_cv, 0, 10)
        within("recovered", self.recovered, 0, 1)
        parts = self.refunded_part.values
        demand(all(0 < part <= 1 for part in parts), "refunded_part", "each must be above 0 and at most 1")
        skus = _keys("products", [product.sku for product in self.products])
        prices = {product.sku: product.price_minor for product in self.products}
        for index, basket in enumerate(self.baskets):
            unknown = set(basket.skus) - skus
            demand(not unknown, f"baskets[{index}].skus", f"no product {', '.join(sorted(unknown))}")
            demand(sum(prices[sku] for sku in basket.skus) > 0, f"baskets[{index}].skus", "it costs nothing")
        is_law(tuple(basket.share for basket in self.baskets), "baskets: share")
        segments = _keys("segments", [segment.key for segment in self.segments])
        is_law(tuple(segment.share for segment in self.segments), "segments: share")
        _keys("effects", [effect.variant for effect in self.effects])
        for index, effect in enumerate(self.effects):
            unknown = set(effect.by_segment) - segments
            demand(not unknown, f"effects[{index}].by_segment", f"no segment {', '.join(sorted(unknown))}")
            known = effect.replaces is None or effect.replaces in skus
            demand(known, f"effects[{index}].replaces", f"no product {effect.replaces}")
        for index, shock in enumerate(self.season.shocks):
            unknown = set(shock.mix) - segments
            where = f"season.shocks[{index}].mix"
            demand(not unknown, where, f"no segment {', '.join(sorted(unknown))}")
            left = any(s.share * shock.mix.get(s.key, 1.0) > 0 for s in self.segments)
            demand(left, where, "nobody would be left")

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that tell this world from any other."""
        return digest_of(self)

    def __hash__(self) -> int:
        """Of the digest: equal in every process, and had at once the second time."""
        return int.from_bytes(self.digest[:8])

    def arm(self, variant: str) -> int:
        """The index of a variant; KeyError when there is none of that key."""
        for index, effect in enumerate(self.effects):
            if effect.variant == variant:
                return index
        raise KeyError(variant)

    def segment_index(self, segment: str) -> int:
        """The index of a segment; KeyError when there is none of that key."""
        for index, one in enumerate(self.segments):
            if one.key == segment:
                return index
        raise KeyError(segment)

    @property
    def arrives(self) -> dict[str, int]:
        """The variants that are added in mid-run, and on which day."""
        return {effect.variant: effect.arrives for effect in self.effects if effect.arrives}


def _keys(field: str, keys: list[str]) -> set[str]:
    demand(len(keys) > 0, field, "there must be at least one")
    demand(len(set(keys)) == len(keys), field, "each key may stand once")
    return set(keys)
