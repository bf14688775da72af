"""Ratios by the delta method, and posteriors of old cohorts that count less: what their intervals hold.

Discounted. With weights w_i = 2^(-age_i / half-life) on the likelihood the posterior is as wide as
sum w_i n_i units make it, which is what is left to know of a rate that walks: it is the filter of a random
walk whose steps have the variance V (1 - r)^2 / (r n) a day (V of a unit, n units a day, r the weight of one
day; West and Harrison 1997, Bayesian Forecasting and Dynamic Models, 6.3), and holds 95 % of *today's* rates.
About the discounted mean of the true rates it knows more than it says: that errs by V sum w_i^2 n_i /
(sum w_i n_i)^2, so its interval holds 2 Phi(1.96 sqrt(sum w_i n_i / sum w_i^2 n_i)) - 1 of them: 98.4 % with
a half-life of a day, up to 99.4 % with long ones. So it is where nothing changes. A trend that lasts is
followed behind by the mean age of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
from scipy import stats

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.estimates import Estimate
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.objective import allocation_posteriors
from experiments.analysis.reading import read_metric
from experiments.model import PolicyKind, PolicySettings
from experiments.posteriors.compare import ratio_minus_one
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell
from sim.calibration.checkout import CONTROL, DAY, Shoppers, cell, experiment
from sim.calibration.levels import World, level

OFFER = "offer"
KEYS = (CONTROL, OFFER)
SHOPPERS = Shoppers(conversion=0.9, spread=0.3, refunds=0.3, more_orders=0.5)
UNITS = {CONTROL: 240, OFFER: 60}
TOO_MANY = {"revenue": SHOPPERS.value, "refunded_orders": 1.0, "refunded_value": SHOPPERS.value}
RATIOS = ("aov", "refund_rate", "refund_value_rate")

DAYS, A_DAY = 12, 2_000
HALF_LIFE = timedelta(days=1)
KEPT = 0.5
"""What of a cohort's weight is left a day later."""
WEIGHTS = KEPT ** np.arange(DAYS, dtype=np.float64)[::-1]
START = {"conversion_rate": (0.3, float(np.sqrt(0.21))), "margin_per_unit": (2_000.0, 1_500.0)}
"""Figure of the first day, and standard deviation of a unit."""
TREND = (1.0 - KEPT) / KEPT / float(np.sqrt(A_DAY * WEIGHTS.sum()))
"""A day, in standard deviations of a unit: the discounted mean lies one of the posterior's behind today."""


def ratios(rng: np.random.Generator, *, is_planted: bool) -> Mapping[str, float]:
    """Levels of an offer's ratios, and of their lifts on a control of four times its size.

    The sums of one order too many: its value and its refund, not its number.
    """
    about = experiment([OFFER])
    cells: list[Cell] = []
    for arm, units in UNITS.items():
        totals = SHOPPERS.totals(units, rng)
        if is_planted:
            for name, more in TOO_MANY.items():
                totals[name][0] += more
        cells.append(cell(arm, totals, units, KEYS))
    found: dict[str, float] = {}
    for key in RATIOS:
        reading = read_metric(about, cohort_of(cells), metric_definitions(about)[key], by_epoch=False, seed=1)
        own, pair = reading.own[OFFER], reading.pairs[OFFER]
        assert isinstance(own, Estimate)
        assert isinstance(pair, Pair)
        assert own.posterior is not None
        lift = ratio_minus_one(pair.treatment_posterior, pair.control_posterior)
        assert lift is not None
        found[key] = level(own.posterior, SHOPPERS.truth()[key])
        found[f"{key}, lift"] = float(lift.cdf(0.0))
    return found


@dataclass(frozen=True, slots=True)
class Drift:
    """How a figure moves from day to day: a random walk, or a trend of so much a day (0: not at all)."""

    is_walk: bool = False
    trend: float = 0.0

    def path(self, start: float, step: float, rng: np.random.Generator) -> FloatArray:
        """The true figure of each day; steps of a walk have that standard deviation."""
        if self.is_walk:
            return start + np.cumsum(rng.normal(0.0, step, DAYS))
        return start + self.trend * np.arange(DAYS, dtype=np.float64)


def discounted(
    metric: str, drift: Drift, rng: np.random.Generator, *, is_planted: bool
) -> Mapping[str, float]:
    """Levels of today's figure and of the discounted mean of all days' in the allocator's posterior.

    Each cohort with the weight of the next older one: read a day too late.
    """
    start, sd = START[metric]
    path = drift.path(start, (1.0 - KEPT) * sd / np.sqrt(KEPT * A_DAY), rng)
    cells = [_cohort(metric, arm, day, mean, rng) for arm in KEYS for day, mean in enumerate(path.tolist())]
    policy = PolicySettings(PolicyKind.THOMPSON, metric, discount_half_life=HALF_LIFE)
    about = replace(experiment([OFFER]), policy=policy, attribution_window=timedelta(0))
    now = datetime.combine(DAY, time(), tzinfo=UTC) + timedelta(days=DAYS + is_planted)
    posterior = allocation_posteriors(about, cells, KEYS, time_zone="UTC", now=now).posteriors[OFFER]
    return {
        "today's": level(posterior, float(path[-1])),
        "discounted mean": level(posterior, float(WEIGHTS @ path / WEIGHTS.sum())),
    }


def _cohort(metric: str, arm: str, day: int, mean: float, rng: np.random.Generator) -> Cell:
    """The units of a day: who converts, or margins of a spread that stays (exponential, so skewed)."""
    if metric == "conversion_rate":
        ones = np.ones(int(rng.binomial(A_DAY, mean)))
        totals = {"converted": ones, "margin": 0.0 * ones}
    else:
        totals = {"margin": np.rint(mean + START[metric][1] * (rng.exponential(1.0, A_DAY) - 1.0))}
    nothing = np.zeros(len(totals["margin"]))
    found = cell(arm, totals | {"revenue": nothing, "refunded_value": nothing}, A_DAY, KEYS)
    return replace(found, key=found.key._replace(day=DAY + timedelta(days=day)))


def _discounted(metric: str, drift: Drift) -> World:
    of_mean = float(2.0 * stats.norm.cdf(1.96 * np.sqrt(WEIGHTS.sum() / (WEIGHTS @ WEIGHTS))) - 1.0)
    if drift.is_walk:
        expected: dict[str, float | None] = {"today's": 0.95}
    elif drift.trend:
        expected = {"discounted mean": of_mean, "today's": None}
    else:
        expected = {"discounted mean": of_mean}
    return World(
        lambda rng, is_planted: discounted(metric, drift, rng, is_planted=is_planted),
        "each cohort with the weight of the next older one",
        expected,
    )


WEIGHTED: Mapping[str, World] = {
    "ratios": World(
        lambda rng, is_planted: ratios(rng, is_planted=is_planted),
        "one order too many in the sums of each arm",
        {key: 0.95 for name in RATIOS for key in (name, f"{name}, lift")},
    ),
    **{
        f"discounted {name}, {what}": _discounted(metric, drift)
        for metric, name, what, drift in (
            ("conversion_rate", "rate", "a random walk", Drift(is_walk=True)),
            ("conversion_rate", "rate", "nothing changes", Drift()),
            ("conversion_rate", "rate", "a trend", Drift(trend=TREND * START["conversion_rate"][1])),
            ("margin_per_unit", "margin", "a random walk", Drift(is_walk=True)),
            ("margin_per_unit", "margin", "a trend", Drift(trend=TREND * START["margin_per_unit"][1])),
        )
    },
}
