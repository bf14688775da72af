"""Customers by segment: what they need, what they can pay, what annoys them, how they come back."""

from dataclasses import dataclass

from sim.worlds.errors import demand, within
from sim.worlds.grid import Grid

RATING_SCALE = 10
"""Scores are whole numbers from 0 to 10, as the NPS has them."""

_RATES = ("conversion", "fatigue", "over_budget", "abandonment", "refund", "repeat", "rates", "history")

NEED = Grid((0.1, 0.4, 0.8), (0.4, 0.4, 0.2))
SENSITIVITY = Grid((0.5, 1.5), (0.5, 0.5))
RATING = Grid((6.0, 8.0, 9.0, 10.0), (0.1, 0.3, 0.35, 0.25))


@dataclass(frozen=True, slots=True)
class Segment:
    """One kind of customers; every chance is in [0, 1].

    `need` in [0, 1] is how much a customer wants what is offered, `sensitivity` >= 0 how much its price
    puts them off, `budget` (minor units) what an order may cost: None is no limit.
    """

    key: str
    share: float  # of the customers at the touchpoint, before shocks of the mix
    conversion: float  # chance to order, nothing offered and no fatigue
    need: Grid = NEED
    sensitivity: Grid = SENSITIVITY
    budget: Grid | None = None
    over_budget: float = 0.5  # chance to order what is above the budget, relative to what is not
    fatigue: float = 0.02  # part of the chance to order that every offer beyond the first one seen takes
    abandonment: float = 1.0  # chance that one who does not order leaves a cart behind
    order_value: float = 1.0  # factor of prices and costs: so much more goes into a basket
    refund: float = 0.05  # chance that an order comes back
    repeat: float = 0.1  # chance of a later order in each period of `Repeats`
    rates: float = 0.1  # chance that one who ordered leaves a rating
    rating: Grid = RATING
    history: float = 0.2  # chance of an order in the 30 days before
    history_margin_minor: int = 2000  # mean margin of that order

    def __post_init__(self) -> None:
        demand(bool(self.key), "key", "it must not be empty")
        within("share", self.share, 0, 1)
        for name in _RATES:
            within(name, getattr(self, name), 0, 1)
        demand(all(0 <= need <= 1 for need in self.need.values), "need", "each must be from 0 to 1")
        demand(all(z >= 0 for z in self.sensitivity.values), "sensitivity", "none may be below 0")
        demand(self.budget is None or min(self.budget.values) > 0, "budget", "each must be above 0")
        demand(0 < self.order_value < 1e6, "order_value", "it must be above 0")
        scores = all(score == int(score) and 0 <= score <= RATING_SCALE for score in self.rating.values)
        demand(scores, "rating", f"scores are whole numbers from 0 to {RATING_SCALE}")
        within("history_margin_minor", self.history_margin_minor, 0, 10**12)
