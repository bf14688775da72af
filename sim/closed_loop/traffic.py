"""Who comes in which step and what they send when: a function of the seed and of the service's answers."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from sim.closed_loop.settings import DAY, DriveSettings, beginning
from sim.runner.settings import streams
from sim.worlds.customers import Customers, draw_customers
from sim.worlds.events import events_of, history_of
from sim.worlds.outcomes import outcomes
from sim.worlds.scenario import Scenario

Event = dict[str, Any]

HOLDING = 0.02
"""Part of the customers whose cart holds the goods of an offer already: it cannot be made to them."""
RETURNING = 0.05
"""Who asks again, as a part of those who ask in a step; some of them within the same step."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A customer's first ask; `holds` is the sku of an offer that the cart holds already."""

    unit_id: str
    segment: str
    holds: str | None
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The customers of a step and their asks, in the same order."""

    customers: Customers
    visits: list[Visit]


class Traffic:
    """The shop's customers, step by step, and the events that are still to be sent."""

    def __init__(self, settings: DriveSettings, scenario: Scenario, experiment: str) -> None:
        self._seed, self._step = settings.seed, settings.step
        self._scenario, self._experiment = scenario, experiment
        self._rng = streams(settings.seed, 0).customers
        self._whims = np.random.default_rng([settings.seed, 6])
        self._counts = self._planned(settings.number_of(scenario))
        self._serial = itertools.count()
        self._place = itertools.count()
        self._due: list[tuple[datetime, int, Event]] = []
        products = {product.sku: product for product in scenario.world.products}
        self._carts = [[_line(products[sku]) for sku in basket.skus] for basket in scenario.world.baskets]
        self._skus = sorted({effect.sku for effect in scenario.world.effects if effect.sku is not None})
        self._asked: list[str] = []

    @property
    def steps(self) -> int:
        """In how many steps customers come."""
        return len(self._counts)

    def arrivals(self, step: int) -> Arrivals:
        """Draw the customers of a step; they all come at its beginning."""
        day = int(step * self._step // DAY)
        world = self._scenario.world
        customers = draw_customers(world, day, int(self._counts[step]), rng=self._rng)
        holds = self._whims.random(len(customers)) < (HOLDING if self._skus else 0.0)
        which = self._whims.integers(max(1, len(self._skus)), size=len(customers))
        visits = [
            self._visit(customers, i, self._skus[which[i]] if holds[i] else None)
            for i in range(len(customers))
        ]
        return Arrivals(customers, visits)

    def returning(self, arrivals: Arrivals) -> list[str]:
        """Who asks again in this step, of all who have asked before or in it."""
        self._asked += [visit.unit_id for visit in arrivals.visits]
        n = round(RETURNING * len(arrivals.visits))
        return [self._asked[i] for i in self._whims.integers(len(self._asked), size=n)] if self._asked else []

    def request_of(self, unit_id: str) -> dict[str, Any]:
        """An ask of somebody who comes back with an empty cart."""
        where = {"touchpoint": self._scenario.world.touchpoint, "experiment": self._experiment}
        return {**where, "unit_id": unit_id}

    def follow(
        self,
        arrivals: Arrivals,
        shown: list[int],
        decision_ids: list[str | None],
        at: datetime,
    ) -> None:
        """Plan what these customers do, given the index of the variant that each was shown."""
        world, customers = self._scenario.world, arrivals.customers
        what = outcomes(world, customers, np.array(shown, np.int64))
        for i, visit in enumerate(arrivals.visits):
            timeline = events_of(
                world, customers, what, i, unit_id=visit.unit_id, decision_id=decision_ids[i], at=at
            )
            for when, event in (*history_of(world, customers, i, unit_id=visit.unit_id, at=at), *timeline):
                heapq.heappush(self._due, (when, next(self._place), event))

    def due(self, now: datetime) -> list[Event]:
        """The events whose time to be sent has come, in that order."""
        found: list[Event] = []
        while self._due and self._due[0][0] <= now:
            found.append(heapq.heappop(self._due)[2])
        return found

    def _planned(self, number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """How many customers come in each step: `number` in all, by season and hour."""
        season, start = self._scenario.world.season, beginning(self._scenario)
        hours = np.concatenate([[0.0], np.cumsum(season.hourly)]) / sum(season.hourly)
        edges = np.interp(
            np.arange(0, DAY / self._step + 1) * (self._step / timedelta(hours=1)), np.arange(25), hours
        )
        parts = [
            season.factors(start.date(), day).traffic * np.diff(edges) for day in range(self._scenario.days)
        ]
        weights = np.concatenate(parts)
        return self._rng.multinomial(number, weights / weights.sum())

    def _visit(self, customers: Customers, i: int, holds: str | None) -> Visit:
        unit_id = f"s{self._seed}-{next(self._serial)}"
        segment = self._scenario.world.segments[customers.segment[i]].key
        cart = self._carts[customers.basket[i]]
        if holds is not None:
            cart = [*cart, {"sku": holds, "price": 1, "quantity": 1}]
        request = {**self.request_of(unit_id), "context": {"cart": cart, "segment": segment}}
        return Visit(unit_id, segment, holds, request)


def _line(product: Any) -> dict[str, Any]:
    return {"sku": product.sku, "price": product.price_minor, "quantity": 1, "cost": product.cost_minor}
