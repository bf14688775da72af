"""Which share of the refunds of the orders placed by now has come, cohort by cohort, and how sure that is.

===========  ===================================================================  =============
symbol       meaning                                                              unit
===========  ===================================================================  =============
R(a), O(a)   delay curves of refunded orders and of orders, by age a since the    share
             anchor (`analysis.delay`), averaged over the cohort's day
Q_i          R / O: of the refunds that the orders placed by now will have, the   share
             share that has come; 1 once the refund window has closed
lambda_k     log(1 - r_k), the independent errors of a curve's 24 steps           1
D_ik         dQ_i / dlambda_k                                                     1
===========  ===================================================================  =============

Variants whose offers are of one category have one curve, those without a category together; between the
groups the curves are shrunk as far as they are alike. Units are taken as spread evenly over their day.
F(edge j) = product over k > j of (1 - r_k), so that dF_j / dlambda_k = F_j for k > j, and a mean of F over
ages is linear in F_1 ... F_24.

Assumed: an order's refund does not depend on how long after the anchor it was placed. Beyond the oldest
age seen in full no refund is expected (`seen_days`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from experiments.ages import BINS, REFUNDS, events_of
from experiments.analysis.delay import DelayFit, Outcomes, delay_fit
from experiments.analysis.maturity import closes_at, end_of_day
from experiments.model import Experiment
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell

ORDERS = "orders"
_EDGES = (np.arange(BINS + 1) / BINS) ** 3


@dataclass(frozen=True, slots=True, eq=False)
class RefundsCome:
    """Q of each (group, day), its gradient over all curves' steps, and the steps' variances.

    `share[group, day]` is (Q, D) with D of the shape of `variances`; `seen_days` is the oldest age that
    some cohort shows in full, in days since the anchor.
    """

    group_of: Mapping[str, str]
    share: Mapping[tuple[str, date], tuple[float, FloatArray]]
    variances: FloatArray
    seen_days: float
    horizon_days: float

    def of(self, variant: str, day: date) -> tuple[float, FloatArray]:
        """Q and D of a variant's units of a day."""
        return self.share[self.group_of[variant], day]


def refunds_come(
    experiment: Experiment, cells: Sequence[Cell], *, time_zone: str, now: datetime
) -> RefundsCome | None:
    """Q of every group and day; None where too few refunds have come to know how late they come."""
    group_of = {variant.key: variant.offer.category or "" for variant in experiment.variants}
    window, final = (
        experiment.attribution_window,
        experiment.attribution_window + experiment.refund_window,
    )
    refunds = _fit(cells, REFUNDS, group_of, final, time_zone, now)
    if refunds is None:
        return None
    orders = _fit(cells, ORDERS, group_of, window, time_zone, now)
    steps = _Steps([fit for fit in (refunds, orders) if fit is not None])
    zone = ZoneInfo(time_zone)
    share: dict[tuple[str, date], tuple[float, FloatArray]] = {}
    for group, day in {(group_of[cell.key.variant], cell.key.day) for cell in cells}:
        r, dr = steps.come(refunds, group, _ages(day, zone, now) / final.total_seconds())
        if closes_at(day, final, time_zone) <= now:
            share[group, day] = 1.0, np.zeros_like(steps.variances)
            continue
        o, do = 1.0, np.zeros_like(steps.variances)
        if orders is not None and closes_at(day, window, time_zone) > now:
            o, do = steps.come(orders, group, _ages(day, zone, now) / window.total_seconds())
        is_within = 0.0 < r < o
        share[group, day] = (
            (r / o, dr / o - r * do / o**2) if is_within else (float(r >= o), np.zeros_like(dr))
        )
    oldest = max((_ages(cell.key.day, zone, now)[0] for cell in cells), default=0.0)
    days = final.total_seconds() / 86400.0
    return RefundsCome(group_of, share, steps.variances, min(days, oldest / 86400.0), days)


def come_by_day(
    cells: Sequence[Cell], feature: str | None, window: timedelta, *, time_zone: str, now: datetime
) -> dict[date, float]:
    """Which share of a feature's events within the window has come of the units of each day, variants alike.

    1 for days whose window has closed. Of others by the delay curve where one is known, else 0: what has
    not had its time is not missed.
    """
    group_of = {cell.key.variant: "" for cell in cells}
    fit = None if feature is None else _fit(cells, feature, group_of, window, time_zone, now)
    zone = ZoneInfo(time_zone)
    found: dict[date, float] = {}
    for day in {cell.key.day for cell in cells}:
        if closes_at(day, window, time_zone) <= now:
            found[day] = 1.0
        elif fit is None:
            found[day] = 0.0
        else:
            weights = _mean_weights(*(_ages(day, zone, now) / window.total_seconds()))
            found[day] = float(weights @ fit.reached(""))
    return found


class _Steps:
    """The steps of all curves in one row, each curve at its own place; a common curve stands there once."""

    def __init__(self, fits: Sequence[DelayFit]) -> None:
        self._start: dict[tuple[int, str], int] = {}
        found: list[FloatArray] = []
        for fit in fits:
            for key in fit.keys:
                if fit.is_common and key != fit.keys[0]:
                    self._start[id(fit), key] = self._start[id(fit), fit.keys[0]]
                else:
                    self._start[id(fit), key] = BINS * len(found)
                    found.append(fit.log_variances(key))
        self.variances = np.concatenate(found)

    def come(self, fit: DelayFit, group: str, ages: FloatArray) -> tuple[float, FloatArray]:
        """Mean of F over ages (low, high) in horizons, and its gradient over all steps."""
        terms = _mean_weights(*ages) * fit.reached(group)
        gradient = np.zeros_like(self.variances)
        start = self._start[id(fit), group]
        gradient[start : start + BINS] = np.cumsum(terms)[:BINS]
        return float(terms.sum()), gradient


def _fit(
    cells: Sequence[Cell],
    feature: str,
    group_of: Mapping[str, str],
    horizon: timedelta,
    time_zone: str,
    now: datetime,
) -> DelayFit | None:
    counts: dict[tuple[str, date], list[int]] = {}
    for cell in cells:
        total = counts.setdefault((group_of[cell.key.variant], cell.key.day), [0] * BINS)
        if cell.moments.sum(feature):
            for number, events in enumerate(events_of(cell.histograms, feature)):
                total[number] += events
    cohorts: dict[str, list[Outcomes]] = {}
    for (group, day), found in counts.items():
        youngest = max(0.0, (now - end_of_day(day, time_zone)) / horizon)
        seen = min(BINS, int(BINS * youngest ** (1 / 3) + 1e-9))
        cohorts.setdefault(group, []).append(Outcomes(found, seen))
    return delay_fit(cohorts)


def _ages(day: date, zone: ZoneInfo, now: datetime) -> FloatArray:
    """Seconds since the end and since the start of the day, never below 0."""
    start, end = (
        datetime.combine(day + timedelta(days=step), time(), tzinfo=zone).astimezone(UTC) for step in (0, 1)
    )
    return np.array([max(0.0, (now - end).total_seconds()), max(0.0, (now - start).total_seconds())])


def _mean_weights(low: float, high: float) -> FloatArray:
    """Weights of F at the edges 0 ... 24 in the mean of F over ages between two, in horizons; sum 1.

    >>> weights = _mean_weights(0.25, 0.5)  # of F(age) = age the mean is .375
    >>> round(float(weights @ _EDGES), 12), round(float(weights.sum()), 12)
    (0.375, 1.0)
    """
    if high <= low:  # a day that has just begun, or an hour that the clock leaves out
        high = low + 1e-9
    return (_hat_areas(high) - _hat_areas(low)) / (high - low)


def _hat_areas(age: float) -> FloatArray:
    """Integrals from 0 to an age of the 25 hat functions: 1 at one edge, 0 at the others, linear between."""
    widths = np.diff(_EDGES)
    inside = np.clip((age - _EDGES[:-1]) / widths, 0.0, 1.0)
    falling, rising = widths * (inside - inside**2 / 2.0), widths * inside**2 / 2.0
    areas = np.zeros(BINS + 1)
    areas[:-1] += falling
    areas[1:] += rising
    areas[-1] += max(0.0, age - 1.0)
    return areas
