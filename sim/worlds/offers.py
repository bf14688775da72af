"""What is for sale, and what each variant of the experiment offers and does to those who see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from experiments.model import OfferKind
from sim.worlds.errors import demand, within


@dataclass(frozen=True, slots=True)
class Product:
    """Something for sale; price and cost in minor units."""

    sku: str
    price_minor: int
    cost_minor: int
    category: str | None = None

    def __post_init__(self) -> None:
        demand(bool(self.sku), "sku", "it must not be empty")
        demand(self.price_minor >= 0, "price_minor", "it must not be below 0")
        demand(self.cost_minor >= 0, "cost_minor", "it must not be below 0")


@dataclass(frozen=True, slots=True)
class Basket:
    """What stands in the cart, by sku, and how often."""

    skus: tuple[str, ...]
    share: float

    def __post_init__(self) -> None:
        demand(len(self.skus) > 0, "skus", "there must be at least one")
        demand(len(set(self.skus)) == len(self.skus), "skus", "none may stand twice")
        within("share", self.share, 0, 1)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What seeing or taking an offer does to a customer of need n and price sensitivity z.

    A customer who sees it takes it with chance min(1, appeal n exp(-z r)), r = what it adds to the order's
    price, relative. Seeing it multiplies the chance to order by 1 - pressure (1 - n).
    """

    appeal: float = 0.0
    pressure: float = 0.0  # below 0 it helps to decide
    rescue: float = 0.0  # chance that a taken offer saves a sale otherwise lost
    regret: float = 0.0  # added to the chance of a refund of an order that took it
    rating: float = 0.0  # added to the score of an order of one who saw it
    repeat: float = 0.0  # added to the chance of a later order in a period, for one who took it
    abandonment: float = 0.0  # relative change of the chance to leave a cart behind, for one who saw it
    clicks: float = 0.0  # chance to click without taking it

    def __post_init__(self) -> None:
        within("appeal", self.appeal, 0, 100)
        within("pressure", self.pressure, -10, 1)
        within("rescue", self.rescue, 0, 1)
        for name in ("regret", "repeat"):
            within(name, getattr(self, name), -1, 1)
        within("rating", self.rating, -10, 10)
        within("abandonment", self.abandonment, -1, 100)
        within("clicks", self.clicks, 0, 1)


@dataclass(frozen=True, slots=True)
class Effect:
    """A variant: what is offered, and how customers react, all of them or a segment by itself.

    Taking it puts `sku` beside the basket, or in the place of `replaces`, and lowers the price of what was
    in the basket by `discount`. Appeal and rescue fade by half in every `novelty_days` from day `arrives`.
    """

    variant: str
    kind: OfferKind = OfferKind.NONE
    sku: str | None = None
    price_minor: int = 0
    cost_minor: int = 0
    category: str | None = None
    replaces: str | None = None
    discount: float = 0.0
    offers: int = 1  # how many are shown at once: a wall of them tires
    reaction: Reaction = Reaction()
    by_segment: Mapping[str, Reaction] = field(
        default_factory=dict[str, Reaction]
    )  # in the place of `reaction`
    novelty_days: float | None = None
    arrives: int = 0  # the day from which on the variant exists

    def __post_init__(self) -> None:
        demand(bool(self.variant), "variant", "it must not be empty")
        demand(self.price_minor >= 0, "price_minor", "it must not be below 0")
        demand(self.cost_minor >= 0, "cost_minor", "it must not be below 0")
        demand(0 <= self.discount < 1, "discount", "it must be from 0 to less than 1")
        within("offers", self.offers, 1, 100)
        demand(self.novelty_days is None or self.novelty_days > 0, "novelty_days", "it must be above 0")
        demand(self.arrives >= 0, "arrives", "it must not be below 0")
        if self.kind is OfferKind.NONE:
            demand(self._is_bare(), "kind", "what offers nothing has no goods, no reaction and no novelty")
        else:
            demand(self.sku is not None, "sku", "an offer names what it sells; a discount has a sku too")

    def _is_bare(self) -> bool:
        goods = (self.sku, self.price_minor, self.cost_minor, self.category, self.replaces, self.discount)
        reacts = self.reaction != Reaction() or self.by_segment or self.offers != 1
        return not any(goods) and not reacts and self.novelty_days is None

    @property
    def is_offer(self) -> bool:
        """Whether there is anything to take."""
        return self.kind is not OfferKind.NONE

    def reaction_of(self, segment: str) -> Reaction:
        """How a segment reacts."""
        return self.by_segment.get(segment, self.reaction)

    def novelty(self, day: int) -> float:
        """What is left of appeal and rescue on a day: 2^(-age / novelty_days), 1 where nothing fades.

        >>> Effect("a", OfferKind.BUNDLE, "S", 1, novelty_days=10, arrives=5).novelty(25)
        0.25
        """
        return 1.0 if self.novelty_days is None else 0.5 ** (max(0, day - self.arrives) / self.novelty_days)
