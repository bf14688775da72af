"""Who comes on a day of a replication."""

from dataclasses import replace

import numpy as np

from sim.runner.settings import RunSettings, Streams
from sim.worlds.cells import Ints
from sim.worlds.customers import Customers, draw_customers, visitors


def arrivals(settings: RunSettings, streams: Streams, day: int) -> Customers:
    """The customers of a day in the order in which they come; Poisson about what the world expects."""
    world = settings.scenario.world
    expected = visitors(world, day, settings.per_day())
    drawn = draw_customers(world, day, int(streams.customers.poisson(expected)), rng=streams.customers)
    return rows_of(drawn, np.argsort(drawn.arrival_us, kind="stable"))


def rows_of(customers: Customers, rows: Ints | slice) -> Customers:
    """Some of the customers."""
    names = [name for name in Customers.__slots__ if name != "day"]
    return replace(customers, **{name: getattr(customers, name)[..., rows] for name in names})
