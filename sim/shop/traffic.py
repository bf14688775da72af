"""Live traffic: shoppers arrive, ask, see, answer, buy and return goods, one step of time after another."""

import heapq
import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from sim.shop.api import Api, Json, ServiceRefused
from sim.shop.journey import Event, events_of
from sim.shop.world import Shop, Shopper, draw_shoppers

# Visitors per hour of the day, relative: a quiet night, a busy evening.
HOURLY = np.array([2, 1, 1, 1, 1, 2, 3, 5, 6, 7, 7, 8, 9, 8, 7, 7, 8, 9, 10, 12, 12, 10, 7, 4], float)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of traffic did."""

    now: datetime
    shoppers: int
    events: int


class Traffic:
    """A shop's day, hour by hour, against a running service with an external clock.

    An event is sent once the clock has passed the instant at which it happened, as a live shop would.
    """

    def __init__(
        self,
        api: Api,
        shop: Shop,
        document: Json,
        *,
        start: datetime,
        step: timedelta,
        per_day: float,
        rng: np.random.Generator,
    ) -> None:
        self.now = start
        self._api = api
        self._shop = shop
        self._touchpoint: str = document["touchpoint"]
        self._experiment: str = document["key"]
        self._control = next(v["key"] for v in document["variants"] if v.get("is_control"))
        self._step = step
        self._per_day = per_day
        self._rng = rng
        self._serial = itertools.count()
        self._due: list[tuple[datetime, int, Event]] = []

    def step(self) -> Step:
        """Let the shoppers of one step ask, move the clock, and send what has happened by then."""
        shoppers = self._arrivals()
        decisions = self._api.assign([self._request(shopper) for shopper in shoppers])
        for shopper, decision in zip(shoppers, decisions, strict=True):
            self._follow(shopper, decision)
        self.now += self._step
        self._api.set_clock(self.now)
        due: list[Event] = []
        while self._due and self._due[0][0] <= self.now:
            due.append(heapq.heappop(self._due)[2])
        return Step(self.now, len(shoppers), self._api.record(due) if due else 0)

    def _arrivals(self) -> list[Shopper]:
        hours = max(1, round(self._step / timedelta(hours=1)))
        busy = sum(HOURLY[(self.now.hour + hour) % 24] for hour in range(hours)) / HOURLY.sum()
        share = busy if self._step >= timedelta(hours=1) else busy * (self._step / timedelta(hours=1))
        n = int(self._rng.poisson(self._per_day * share))
        return draw_shoppers(self._shop, n, prefix=f"v{next(self._serial)}", rng=self._rng)

    def _request(self, shopper: Shopper) -> Json:
        cart = [
            {"sku": g.sku, "price": g.price_minor, "quantity": 1, "cost": g.cost_minor}
            for g in shopper.basket.products
        ]
        return {
            "touchpoint": self._touchpoint,
            "experiment": self._experiment,
            "unit_id": shopper.unit_id,
            "context": {"cart": cart, "device": shopper.device},
        }

    def _follow(self, shopper: Shopper, decision: Json) -> None:
        if "problem" in decision:
            raise ServiceRefused(f"no decision for {shopper.unit_id}: {decision['problem']}")
        # What is shown may be less than what is assigned: a killed variant's shoppers see no offer.
        shown = decision["variant"] if decision["offer"]["kind"] != "none" else self._control
        if shown not in self._shop.reactions:
            shown = self._control
        timeline = events_of(self._shop, shopper, shown, decision["decision_id"], self.now)
        for when, event in timeline:
            heapq.heappush(self._due, (when, next(self._serial), event))
