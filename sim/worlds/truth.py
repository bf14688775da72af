"""What every variant is really worth in a world: expected values in closed form, as finite sums.

The expectation of every feature of a unit's vector (`experiments/statistics.py`) is a sum over cells and
states; metrics are made of features by the report's own definitions. All figures are those of matured units:
the attribution window is over, and every refund has come.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from experiments.analysis.metrics import metric_definitions
from experiments.fold import HORIZONS_US
from experiments.model import CustomMetric, Experiment, MetricKind
from experiments.statistics import FIXED_POINT
from sim.worlds.cells import Cells, Floats, cells_of, segment_mix
from sim.worlds.customers import visitors
from sim.worlds.horizons import both_within, periods_within
from sim.worlds.laws import SEEN, STATES, TAKEN, Laws, laws_of
from sim.worlds.people import RATING_SCALE
from sim.worlds.timing import DAY_S, SECOND_US
from sim.worlds.world import World

WINDOW = timedelta(days=7)
NPS = CustomMetric("nps", MetricKind.NPS, event="rating")
_DEFINITIONS = metric_definitions(Experiment("truth", "any", "EUR", (), metrics=(NPS,)))
_OFFER_ONLY = frozenset(key for key, definition in _DEFINITIONS.items() if definition.needs_offer)


@dataclass(frozen=True, slots=True)
class VariantTruth:
    """Expected values of one variant; money in minor units.

    `features` are per unit, by their names in `experiments/statistics.py`, ratings as a share of the scale.
    `metrics` has every metric of the report and `nps`, by its key; one that cannot be had (the take rate
    where nothing is offered, any ratio over nothing) is missing.
    """

    variant: str
    features: Mapping[str, float]
    metrics: Mapping[str, float]

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]


@dataclass(frozen=True, slots=True)
class TrueLift:
    """By how much a variant's metric differs from the control's; `relative` None where that is 0."""

    absolute: float
    relative: float | None


def truth(
    world: World,
    *,
    day: int = 0,
    segment: str | None = None,
    window: timedelta = WINDOW,
    humans_only: bool = False,
) -> dict[str, VariantTruth]:
    """The true metrics of every variant for customers who come on a day, all or of one segment.

    Bots are assigned, so they are units and count in every rate per unit, unless `humans_only`.
    """
    return truth_of_period(
        world, range(day, day + 1), segment=segment, window=window, humans_only=humans_only
    )


def truth_of_period(
    world: World,
    days: Iterable[int],
    *,
    segment: str | None = None,
    window: timedelta = WINDOW,
    humans_only: bool = False,
) -> dict[str, VariantTruth]:
    """The true metrics over all customers who come on these days: every day weighs as much as its traffic."""
    cells = cells_of(world)
    chosen = np.ones(len(cells.part)) if segment is None else cells.segment == world.segment_index(segment)
    counts = chosen * (~cells.is_bot if humans_only else 1.0)
    sums: dict[str, Floats] = {}
    for day in days:
        weights = visitors(world, day) * segment_mix(world, day)[cells.segment] * cells.part * counts
        for name, table in _features(world, laws_of(world, day), cells, window).items():
            sums[name] = sums.get(name, 0.0) + table @ weights
    units = sums["units"]
    if not units.all():
        raise ValueError(f"nobody of segment {segment} comes on these days")
    return {
        effect.variant: _variant(
            effect.variant, {name: float(sums[name][arm] / units[arm]) for name in sums}, effect.is_offer
        )
        for arm, effect in enumerate(world.effects)
    }


def true_lifts(
    values: Mapping[str, VariantTruth], control: str, metric: str = "margin_per_unit"
) -> dict[str, TrueLift]:
    """The effect of every variant but the control on one metric, where both have it."""
    base = values[control].metrics.get(metric)
    if base is None:
        return {}
    return {
        key: TrueLift(value[metric] - base, value[metric] / base - 1 if base else None)
        for key, value in values.items()
        if key != control and metric in value.metrics
    }


def _variant(variant: str, features: Mapping[str, float], is_offer: bool) -> VariantTruth:
    metrics: dict[str, float] = {}
    for key, definition in _DEFINITIONS.items():
        # Features are in plain numbers here, so the scale is without the fixed point
        scale = definition.scale * FIXED_POINT if key == "rating_mean" else definition.scale
        over = sum(factor * features.get(name, 0.0) for name, factor in definition.numerator.items())
        under = sum(factor * features[name] for name, factor in definition.denominator.items())
        if under and (is_offer or key not in _OFFER_ONLY):
            metrics[key] = scale * over / under
    return VariantTruth(variant, features, metrics)


def _features(world: World, laws: Laws, cells: Cells, window: timedelta) -> dict[str, Floats]:
    """Expected features of a unit of each cell under each variant: (n_arms, n_cells) each."""
    window_s, delays = window.total_seconds(), world.delays
    saw = laws.see * (1 - laws.take)
    took = laws.see * laws.take
    states = np.stack([np.broadcast_to(1 - laws.see, took.shape), saw, took])
    buys, leaves = states * laws.buy, states * (1 - laws.buy) * laws.cart
    ordered = float(delays.order.below(np.array([window_s]))[0])
    in_time = float(delays.order.below(np.array([delays.abandonment_h * 3600]))[0])
    part = world.refunded_part.mean
    first = laws.amount - laws.cost - laws.refund * part * (laws.amount - laws.recovered)
    later = laws.amount[0] - laws.cost[0]
    again = np.einsum("sac,sac->ac", buys, laws.repeat)  # expected orders in each period
    repeats = again * _mean_periods(world, window_s)
    total = buys.sum(axis=0)
    features = {
        "units": np.ones_like(took),
        "exposed": saw + took,
        "clicked": took + saw * laws.click,
        "took": took,
        "converted": ordered * total,
        "orders": ordered * total + repeats,
        "revenue": ordered * _over_states(buys, laws.amount) + repeats * laws.amount[0],
        "refunded_orders": ordered * _over_states(buys, laws.refund),
        "refunded_value": ordered * _over_states(buys, laws.refund * part * laws.amount),
        "margin": ordered * _over_states(buys, first) + repeats * later,
        "carts": total + leaves.sum(axis=0),
        "abandoned": (1 - in_time) * total + leaves.sum(axis=0),
        "pre_margin": np.broadcast_to(_pre_margin(world, cells), took.shape),
        "buyer_90d": total * float(delays.order.below(np.array([90 * DAY_S]))[0]),
        "repeat_90d": _over_states(buys, _comes_again(world, laws.repeat)),
    }
    for name, horizon_us in HORIZONS_US.items():
        horizon_s = horizon_us / SECOND_US
        before = float(delays.order.below(np.array([horizon_s]))[0])
        features[name] = before * _over_states(buys, first) + again * later * _mean_periods(world, horizon_s)
    return features | _rating_features(world, laws, cells, buys, window_s)


def _over_states(chances: Floats, values: Floats) -> Floats:
    return np.einsum("sac,sac->ac", chances, values)


def _mean_periods(world: World, horizon_s: float) -> float:
    law = periods_within(world.delays.order, world.repeats, horizon_s)
    return float(np.arange(len(law)) @ law)


def _comes_again(world: World, repeat: Floats) -> Floats:
    """P(a second order within 90 days | the first): 1 - (1 - chance)^(periods in time), averaged."""
    law = periods_within(world.delays.order, world.repeats, 90 * DAY_S)
    none = np.zeros_like(repeat)
    for periods, likely in enumerate(law.tolist()):
        none += likely * (1 - repeat) ** periods
    return 1 - none


def _pre_margin(world: World, cells: Cells) -> Floats:
    means = np.array([segment.history * segment.history_margin_minor for segment in world.segments])
    return means[cells.segment] * ~cells.is_bot


def _rating_features(
    world: World, laws: Laws, cells: Cells, buys: Floats, window_s: float
) -> dict[str, Floats]:
    """Ratings, their sum as a share of the scale, and promoters less detractors (9 and 10, 6 and less)."""
    within = both_within(world.delays.order, world.delays.rating, window_s)
    rates = np.array([segment.rates for segment in world.segments]) * within
    shift = np.zeros((STATES, *laws.rating_shift.shape))
    shift[SEEN] = shift[TAKEN] = laws.rating_shift
    mean, nps = np.zeros_like(shift), np.zeros_like(shift)
    whole = np.floor(shift)
    for index, segment in enumerate(world.segments):
        for score, weight in zip(segment.rating.values, segment.rating.weights, strict=True):
            for step, part in ((0, 1 - (shift - whole)), (1, shift - whole)):
                moved = np.clip(score + whole + step, 0, RATING_SCALE)[..., index]
                likely = (weight * part)[..., index]
                mean[..., index] += likely * moved / RATING_SCALE
                nps[..., index] += likely * ((moved >= 9).astype(float) - (moved <= 6))
    given = buys * rates[cells.segment]
    count = given.sum(axis=0)
    promoters = _over_states(given, nps[..., cells.segment])
    return {
        "ratings": count,
        "rating_sum": _over_states(given, mean[..., cells.segment]),
        "nps:count": count,
        "nps:sum": promoters,
    }
