"""The world of a fit, of its estimates or of one draw of its posterior, and the scenario file about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from experiments.document import parse_document, to_document
from experiments.model import Experiment, OfferKind
from sim.fitting.found import Found
from sim.fitting.goods import Goods
from sim.fitting.orders import part_name
from sim.fitting.season import WEEKDAYS
from sim.worlds.document import to_document as world_document
from sim.worlds.grid import Grid
from sim.worlds.offers import Effect, Reaction
from sim.worlds.people import Segment
from sim.worlds.season import Season
from sim.worlds.timing import Delay, Delays, Repeats
from sim.worlds.world import Session, Stage, World

Document = dict[str, Any]
REACTIONS = ("appeal", "pressure", "regret")
"""What of a reaction is fitted."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What of a fit is no parameter: its segments, goods, pieces of delays, periods and offers."""

    currency: str
    touchpoint: str
    segments: tuple[str, ...]
    goods: Goods
    order: Delay
    refund: Delay
    repeats: Repeats
    refunded_parts: tuple[float, ...]
    effects: tuple[Effect, ...]
    has_visits: bool  # whether the log shows customers who did not order
    start: date


def build(structure: Structure, found: Found, draw: int | None = None) -> World:
    """The world of the estimates, or of one draw of all parameters."""
    baskets = _shares(found, [f"basket[{'+'.join(b.skus)}]" for b in structure.goods.baskets], draw)
    shares = _shares(found, [f"share[{key}]" for key in structure.segments], draw)
    return World(
        currency=structure.currency,
        start=structure.start,
        customers_per_day=_per_day(structure, found, draw),
        touchpoint=structure.touchpoint,
        products=structure.goods.products,
        baskets=tuple(
            replace(basket, share=share)
            for basket, share in zip(structure.goods.baskets, baskets, strict=True)
        ),
        segments=tuple(
            _segment(key, share, found, draw) for key, share in zip(structure.segments, shares, strict=True)
        ),
        effects=tuple(_effect(effect, structure.segments, found, draw) for effect in structure.effects),
        session=Session((Stage(structure.touchpoint),), seeing=found.value("seeing", draw)),
        season=_season(found, draw),
        delays=Delays(
            order=_delay("order", structure.order, found, draw),
            refund=_delay("refund", structure.refund, found, draw),
        ),
        repeats=structure.repeats,
        order_value_cv=found.value("order_value_cv", draw),
        recovered=found.value("recovered", draw),
        refunded_part=Grid(
            structure.refunded_parts,
            _shares(found, [part_name(part) for part in structure.refunded_parts], draw),
        ),
    )


def _per_day(structure: Structure, found: Found, draw: int | None) -> float:
    """Customers at the touchpoint; where only orders are seen, as many as make them."""
    seen = max(found.value("customers_per_day", draw), 1e-3)
    if structure.has_visits:
        return seen
    rates = [found.value(f"conversion[{key}]", draw) for key in structure.segments]
    shares = _shares(found, [f"share[{key}]" for key in structure.segments], draw)
    return seen / float(np.dot(rates, shares))


def _segment(key: str, share: float, found: Found, draw: int | None) -> Segment:
    def of(name: str) -> float:
        return found.value(f"{name}[{key}]", draw)

    return Segment(
        key,
        share=share,
        conversion=of("conversion"),
        order_value=of("order_value"),
        refund=min(1.0, of("refund")),
        repeat=min(1.0, of("repeat")),
        history=min(1.0, of("history")),
        history_margin_minor=round(of("history_margin")),
    )


def _season(found: Found, draw: int | None) -> Season:
    def week(of: str) -> tuple[float, ...]:
        return tuple(_factor(found.value(f"weekday_{of}[{day}]", draw)) for day in WEEKDAYS)

    def year(of: str) -> tuple[float, ...]:
        return tuple(_factor(found.value(f"monthly_{of}[{month}]", draw)) for month in range(1, 13))

    return Season(
        weekday_traffic=week("traffic"),
        weekday_conversion=week("conversion"),
        monthly_traffic=year("traffic"),
        monthly_conversion=year("conversion"),
        hourly=tuple(found.value(f"hourly[{hour}]", draw) for hour in range(24)),
    )


def _factor(value: float) -> float:
    return min(max(value, 1e-4), 999.0)


def _effect(effect: Effect, segments: Sequence[str], found: Found, draw: int | None) -> Effect:
    if not effect.is_offer:
        return effect

    def reaction(segment: str | None = None) -> Reaction:
        names = {name: reaction_name(name, effect.variant, segment) for name in REACTIONS}
        return Reaction(**{name: found.value(named, draw) for name, named in names.items()})

    told = [
        key
        for key in segments
        if all(reaction_name(name, effect.variant, key) in found.estimates for name in REACTIONS)
    ]
    return replace(effect, reaction=reaction(), by_segment={key: reaction(key) for key in told})


def reaction_name(name: str, variant: str, segment: str | None) -> str:
    """What a parameter of a reaction is called, of a variant or of a segment of it."""
    return f"{name}[{variant}]" if segment is None else f"{name}[{variant}/{segment}]"


def _delay(name: str, delay: Delay, found: Found, draw: int | None) -> Delay:
    keys = [f"{name}_delay[{place}]" for place in range(len(delay.weights))]
    return Delay(delay.edges_s, _shares(found, keys, draw))


def _shares(found: Found, names: Sequence[str], draw: int | None) -> tuple[float, ...]:
    values = np.array([found.value(name, draw) for name in names])
    return tuple((values / values.sum()).tolist())


def scenario_document(world: World, experiment: Document, *, title: str, claim: str, days: int) -> Document:
    """What `rialto sim run FILE` takes: every field of the world explicit."""
    return {
        "title": title,
        "claim": claim,
        "days": days,
        "world": world_document(world),
        "experiment": experiment,
    }


def effects_of(experiment: Experiment, goods: Mapping[str, Any]) -> tuple[Effect, ...]:
    """The variants as effects, their reactions still to be found."""
    found: list[Effect] = []
    for variant in experiment.variants:
        offer = variant.offer
        if offer.kind is OfferKind.NONE:
            found.append(Effect(variant.key))
            continue
        extra = goods.get(variant.key)
        found.append(
            Effect(
                variant.key,
                offer.kind,
                offer.sku,
                offer.price_minor or 0,
                offer.cost_minor or 0,
                offer.category,
                replaces=None if extra is None else extra.replaces,
                discount=0.0 if extra is None else extra.discount,
            )
        )
    return tuple(found)


def usual_experiment(currency: str, order_value: float, cost_rate: float) -> tuple[Experiment, Document]:
    """What is tried where the mapping names no experiment: one offer of a tenth of a usual order."""
    price = max(1, round(order_value / 10))
    document: Document = {
        "key": "first-offer",
        "name": "A first offer",
        "hypothesis": "an offer at checkout earns more than it puts off",
        "touchpoint": "checkout",
        "currency": currency,
        "attribution_window": "7d",
        "policy": {"kind": "thompson", "control_share": 0.2, "floor": 0.05, "cadence": "1d"},
        "variants": [
            {"key": "none", "is_control": True, "offer": {"kind": "none"}},
            {
                "key": "offer",
                "offer": {
                    "kind": "cross_sell",
                    "sku": "OFFER",
                    "price": price,
                    "cost": round(price * cost_rate),
                },
            },
        ],
    }
    experiment = parse_document(document, currency_default=currency)
    return experiment, to_document(experiment)
