"""How often the drift alarm is raised without drift, and how soon with it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from experiments.allocation.drift import DriftState, drift_of
from experiments.model import Experiment, Offer, OfferKind, PolicyKind, PolicySettings, Variant
from experiments.statistics import Cell, CellKey

START = date(2026, 3, 2)
KEYS = ("none", "a", "b")
_VECTORS = ({"assigned": 1, "units": 1, "converted": 1}, {"assigned": 1, "units": 1})


@dataclass(frozen=True, slots=True)
class Shop:
    """Conversion by arm before and from day `changes` on; Sundays sell `sunday` times as well.

    Shares wander like a bandit's: each week they are drawn anew, at least a tenth for each arm.
    """

    before: tuple[float, ...] = (0.05, 0.055, 0.06)
    after: tuple[float, ...] = (0.05, 0.055, 0.06)
    changes: int = 10_000
    per_day: int = 3000
    days: int = 104
    sunday: float = 1.5


def first_alarm(shop: Shop, rng: np.random.Generator) -> int | None:
    """The day of the first alarm, one look a day; None where there was none."""
    experiment = Experiment(
        key="study",
        touchpoint="checkout",
        currency="EUR",
        variants=tuple(Variant(key, Offer(OfferKind.CROSS_SELL), key == KEYS[0]) for key in KEYS),
        attribution_window=timedelta(seconds=1),
        policy=PolicySettings(kind=PolicyKind.THOMPSON, objective="conversion_rate"),
    )
    cells: list[Cell] = []
    state: str | None = None
    shares = np.full(len(KEYS), 1 / len(KEYS))
    for day in range(shop.days):
        if day % 7 == 0:
            shares = 0.1 + 0.7 * rng.dirichlet(np.ones(len(KEYS)))
        rates = np.array(shop.after if day >= shop.changes else shop.before)
        rates = rates * (shop.sunday if day % 7 == 6 else 1.0)
        for key, n, rate in zip(KEYS, rng.multinomial(shop.per_day, shares), rates, strict=True):
            cell = Cell(CellKey(key, "", 1, START + timedelta(days=day), day // 7), frozenset(KEYS))
            hits = int(rng.binomial(n, rate))
            cell.moments.add_units(_VECTORS, [hits, int(n) - hits])
            cells.append(cell)
        if day < 13:
            continue
        now = datetime.combine(START, datetime.min.time(), tzinfo=UTC) + timedelta(days=day + 1, seconds=1)
        state = drift_of(experiment, cells, state, time_zone="UTC", now=now).state.value
        if state == DriftState.DRIFTING:
            return day
    return None


def alarms(shop: Shop, *, runs: int, seed: int) -> list[int | None]:
    """The first alarm of many shops."""
    return [first_alarm(shop, np.random.default_rng([seed, run])) for run in range(runs)]
