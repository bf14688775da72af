"""A named scenario: a world, the experiment a shop would run in it, and a claim that can be false."""

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.model import Experiment, Offer, OfferKind, Variant
from sim.worlds.errors import demand
from sim.worlds.offers import Effect
from sim.worlds.world import World


@dataclass(frozen=True)
class Scenario:
    """`claim` is one sentence about what the experiment does in this world; `ground_truth` is what is so."""

    key: str
    title: str
    claim: str
    ground_truth: str
    world: World
    experiment: Experiment
    days: int

    def __post_init__(self) -> None:
        offered = [_sold(variant) for variant in variants_of(self.world.effects, self.experiment.control.key)]
        found = [_sold(variant) for variant in self.experiment.variants]
        says = "key, kind, sku, price and cost must be those of the world's effects, in their order"
        demand(found == offered, "experiment.variants", says)
        demand(self.experiment.currency == self.world.currency, "experiment.currency", "it is the world's")
        demand(
            self.experiment.touchpoint == self.world.touchpoint, "experiment.touchpoint", "it is the world's"
        )
        demand(self.days > 0, "days", "there must be at least one")
        latest = max(effect.arrives for effect in self.world.effects)
        demand(latest < self.days, "world.effects.arrives", "a variant must arrive before the end")

    @property
    def customers_per_day(self) -> float:
        """How many customers come on a usual day unless the caller says otherwise."""
        return self.world.customers_per_day

    @property
    def arrives(self) -> Mapping[str, int]:
        """The variants that are added in mid-run, and on which day; all others are there from the start."""
        return self.world.arrives


def _sold(variant: Variant) -> tuple[str, OfferKind, str | None, int, int]:
    """What of a variant must be as in the world; what it says to the shopper is the document's own."""
    offer = variant.offer
    return variant.key, offer.kind, offer.sku, offer.price_minor or 0, offer.cost_minor or 0


def variants_of(effects: tuple[Effect, ...], control: str) -> list[Variant]:
    """The variants of an experiment that offers what the effects say."""
    return [Variant(effect.variant, _offer(effect), effect.variant == control) for effect in effects]


def _offer(effect: Effect) -> Offer:
    if effect.kind is OfferKind.NONE:
        return Offer(OfferKind.NONE)
    return Offer(
        kind=effect.kind,
        sku=effect.sku,
        price_minor=effect.price_minor,
        cost_minor=effect.cost_minor,
        category=effect.category,
    )
