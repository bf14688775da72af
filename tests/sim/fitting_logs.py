"""Logs of known worlds as CSV files, one row an event, and the mapping that reads them."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from experiments.model import OfferKind
from sim.fitting.mapping import FitMapping
from sim.fitting.mapping_reader import parse_mapping
from sim.worlds.customers import draw_customers, visitors
from sim.worlds.outcomes import NEVER, outcomes
from sim.worlds.timing import DAY_S
from sim.worlds.world import (
    Basket,
    Delay,
    Delays,
    Effect,
    Grid,
    Product,
    Reaction,
    Repeats,
    Season,
    Segment,
    World,
)

DAYS = 42
EXPERIMENT = {
    "key": "socks-test",
    "touchpoint": "checkout",
    "currency": "EUR",
    "attribution_window": "7d",
    "policy": {"kind": "fixed"},
    "variants": [
        {"key": "none", "is_control": True, "offer": {"kind": "none"}},
        {"key": "socks", "offer": {"kind": "cross_sell", "sku": "SOCK", "price": 1290, "cost": 410}},
    ],
}
MAPPING: dict[str, Any] = {
    "currency": "EUR",
    "time": {"column": "at"},
    "zone": "Europe/Rome",
    "unit": "customer",
    "segment": "segment",
    "variant": {"column": "variant"},
    "arrivals": {"from": "2026-03-02", "to": "2026-04-12"},
    "until": "2026-04-13T00:00:00",
    "rows": [
        {"kind": "visit", "when": "what == visit"},
        {"kind": "exposure", "when": "what == exposure"},
        {"kind": "take", "when": "what == accept"},
        {
            **{"kind": "order", "when": "what == order", "order": "order", "sku": "sku"},
            **{"amount": "amount", "cost": "cost"},
        },
        {
            "kind": "refund",
            "when": "what == refund",
            "order": "order",
            "amount": "amount",
            "recovered": "cost",
        },
    ],
    "repeats": {"after": "7d", "every": "14d", "times": 2},
    "assume": {"history": 0.2},
    "experiment": EXPERIMENT,
}
HEADER = ("at", "what", "customer", "segment", "variant", "order", "sku", "amount", "cost")

WORLD = World(
    currency="EUR",
    start=date(2026, 3, 2),
    customers_per_day=120,
    touchpoint="checkout",
    products=(Product("SHOE", 8900, 5340), Product("BOTTLE", 1500, 900)),
    baskets=(Basket(("SHOE",), 0.7), Basket(("BOTTLE",), 0.3)),
    segments=(
        Segment("new", 0.6, 0.35, order_value=0.8, refund=0.2, repeat=0.05, history=0.0, rates=0.0),
        Segment("loyal", 0.4, 0.6, refund=0.08, repeat=0.25, order_value=1.175, history=0.0, rates=0.0),
    ),
    effects=(
        Effect("none"),
        Effect(
            "socks",
            OfferKind.CROSS_SELL,
            "SOCK",
            1290,
            410,
            reaction=Reaction(appeal=0.8, pressure=0.15, regret=0.15),
        ),
    ),
    season=Season(
        weekday_traffic=(1, 0.9, 0.9, 1, 1.1, 1.3, 0.8), weekday_conversion=(1, 1, 1, 1, 1.1, 0.9, 1)
    ),
    delays=Delays(
        order=Delay((60, 1800, 6 * 3600), (0.7, 0.3)),
        refund=Delay((DAY_S, 6 * DAY_S, 25 * DAY_S), (0.4, 0.6)),
    ),
    repeats=Repeats(7, 14, 2),
    order_value_cv=0.6,
)

APART = replace(
    WORLD,
    effects=(
        WORLD.effects[0],
        replace(
            WORLD.effects[1],
            by_segment={
                "new": Reaction(appeal=0.5, pressure=0.4, regret=0.1),
                "loyal": Reaction(appeal=1.2, pressure=-0.1, regret=0.2),
            },
        ),
    ),
    refunded_part=Grid((0.3, 1.0), (0.4, 0.6)),
)
"""Segments that react apart, and refunds of a part."""

Row = tuple[Any, ...]


def mapping(**changes: Any) -> FitMapping:
    """The mapping of these logs; a change to None takes a part away."""
    document = {key: value for key, value in (MAPPING | changes).items() if value is not None}
    return parse_mapping(document, name="made")


def write_log(path: Path, rows: list[Row]) -> Path:
    """A CSV file of these rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows)
    return path


def rows_of(world: World, seed: int, *, days: int = DAYS, ends: bool = True) -> list[Row]:
    """What a world leaves behind in its first days; without `ends` the future stands there too."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for day in range(days):
        rows += _day(world, day, rng)
    midnight = datetime.combine(world.start + timedelta(days=days), time()).isoformat()
    return [row for row in rows if row[0] < midnight] if ends else rows


def _day(world: World, day: int, rng: np.random.Generator) -> Iterator[Row]:
    customers = draw_customers(world, day, int(rng.poisson(visitors(world, day))), rng=rng)
    shown = rng.integers(0, len(world.effects), len(customers))
    found = outcomes(world, customers, shown)
    midnight = datetime.combine(world.start + timedelta(days=day), time())

    for i in range(len(customers)):
        start = midnight + timedelta(microseconds=int(customers.arrival_us[i]))

        def at(after: int, start: datetime = start) -> str:
            return (start + timedelta(microseconds=after)).isoformat()

        who = f"c{day}-{i}", world.segments[customers.segment[i]].key, world.effects[shown[i]].variant
        sku = world.baskets[customers.basket[i]].skus[0]
        yield (at(0), "visit", *who, "", "", "", "")
        if found.exposed_us[i] != NEVER:
            yield (at(int(found.exposed_us[i])), "exposure", *who, "", "", "", "")
        if found.took_us[i] != NEVER:
            yield (at(int(found.took_us[i])), "accept", *who, "", "", "", "")
        if found.order_us[i] == NEVER:
            continue
        number = f"o{day}-{i}"
        money = _major(found.amount_minor[i]), _major(found.cost_minor[i])
        yield (at(int(found.order_us[i])), "order", *who, number, sku, *money)
        if found.refund_us[i] != NEVER:
            back = _major(found.refunded_minor[i]), _major(found.recovered_minor[i])
            yield (at(int(found.refund_us[i])), "refund", *who, number, "", *back)
        money = _major(found.repeat_amount_minor[i]), _major(found.repeat_cost_minor[i])
        for period, after in enumerate(found.repeat_us[:, i].tolist()):
            if after != NEVER:
                yield (at(after), "order", *who, f"{number}-{period}", sku, *money)


def _major(minor: int) -> str:
    return f"{int(minor) / 100:.2f}"


def in_utc(text: str) -> datetime:
    """A row's time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def without_end(world: World) -> World:
    """The world whose refunds come at once, so that none is cut off."""
    return replace(world, delays=replace(world.delays, refund=Delay((0, 60), (1.0,))))
