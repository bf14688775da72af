"""Sums of open cohorts, corrected for what of their outcomes has not come yet (`policy.delay: model`).

===========  ===================================================================  =============
symbol       meaning                                                              unit
===========  ===================================================================  =============
F_i          mean over the units of cell i of their variant's delay curve at      share
             their age now (`analysis.delay`), for the metric's numerator
D_i          F_i over the same of the denominator (1 for units), at most 1        share
n_i D_i      units counted: n_eff = sum n_i D_i, failures = n_eff - successes     units
Q_i          share of the refunds of the orders placed by now that has come:      share
             the refunds' curve over the orders'
rho          money lost to refunds in the end, over booked revenue                share
b_i          revenue of cell i that may still be refunded, revenue_i (1 - Q_i)    minor units
===========  ===================================================================  =============

E[x_i] = (share of outcomes come) x (units) x (rate), so sum x_i / sum n_i D_i estimates the rate of closed
windows whatever the ages: an arm with young units is not taken for a bad one. (In reserving: the Cape Cod
method, Buehlmann and Straub 1983.) Spread and units shrink with it, since a unit whose outcome has not had
the time to come has told nothing yet.

A refund comes on top of an order that counts already, so money net of refunds carries the refunds to be
expected instead: x_i - rho b_i. rho_v of variant v is refunds so far over the revenue that has had its
time, sum revenue_i Q_i, shrunk to that of all variants by empirical Bayes (DerSimonian and Laird 1986): with
s_v^2 its sampling variance and tau^2 the variance between variants, weight tau^2 / (tau^2 + s_v^2).

The losses that teach rho_v are the same that x has had, so the two err together: a unit with total x, revenue
r and loss l in cell i stands in the spread with

    x - rho_v (1 - Q_i) r - g (l - lambda_v Q_i r),    g = a_v sum b_i

a_v by how much rho_v grows with the variant's own losses, lambda_v their share of its revenue. (Linearised;
taken for independent of x, rho_v gave money spreads 8 to 16 % too small.) What is left of V_v, the part of
the other variants, widens the posterior by (sum b_i)^2 V'_v.

Limits. n_eff units are taken for binomial, with spread p (1 - p) / n_eff; given F it is p (1 - p Fbar) /
n_eff, Fbar = sum n_i F_i^2 / sum n_i F_i. At p = 10 % that is nothing, at 60 % with half of the units young
an interval of 95 % holds 92 to 94 % (docs/calibration.md). The curves' own errors are left out: they move all
variants alike, so differences, which decide shares, hardly feel them, but a single figure of money holds 93
to 94 % while refunds are young.

Units are placed by the hour of their anchor and spread evenly within it. Assumed: sizes do not go with
delays; a refund takes as much early as late. Refunds beyond both windows are expected of nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import inf
from zoneinfo import ZoneInfo

from experiments.ages import BINS, HOURS, REFUNDS, events_of
from experiments.analysis.delay import DelayCurve, Outcomes, delay_curves
from experiments.analysis.maturity import closes_at
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.sums import products_of
from experiments.model import DelayHandling, Experiment, MetricKind
from experiments.statistics import Cell, custom_features

_ORDERS = "orders"
_OUTCOMES: Mapping[str, tuple[str, str | None]] = {
    "conversion_rate": ("converted", None),
    "take_rate": ("took", "exposed"),
    "click_through_rate": ("clicked", "exposed"),
    "revenue_per_unit": (_ORDERS, None),
    "margin_per_unit": (_ORDERS, None),
    "orders_per_unit": (_ORDERS, None),
    "aov": (_ORDERS, _ORDERS),
    "aov_net": (_ORDERS, _ORDERS),
    "refund_rate": (REFUNDS, _ORDERS),
    "refund_value_rate": (REFUNDS, _ORDERS),
}
"""Metric -> the outcomes its numerator and its denominator grow with; None: units, there from the start."""
_LOSS = {"revenue_per_unit": "refunded_value", "aov_net": "refunded_value", "margin_per_unit": "refund_loss"}


@dataclass(frozen=True, slots=True)
class LossShare:
    """rho of one variant with a and V' of the text above, sum b_i over all its cells, and lambda."""

    rate: float
    influence: float
    variance: float
    open_revenue: float
    own_rate: float


class Development:
    """How far the cells of one metric have come at `now`; made by `development_of`."""

    def __init__(
        self,
        experiment: Experiment,
        cells: Sequence[Cell],
        definition: MetricDefinition,
        *,
        time_zone: str,
        now: datetime,
    ) -> None:
        self._zone = ZoneInfo(time_zone)
        self._now = now
        self._day_starts: dict[date, datetime] = {}
        self._means: dict[tuple[str, str, date, int], float] = {}
        self._kind = definition.kind
        self._top, self._bottom = outcomes_of(experiment, definition)
        final = experiment.attribution_window + experiment.refund_window
        self._horizons: dict[str, timedelta] = {REFUNDS: final}
        self._default = definition.horizon
        features = {self._top, self._bottom} if self._top != self._bottom else set[str | None]()
        self._loss = loss = _LOSS.get(definition.key)
        x, y = definition.winsorised.numerator, definition.denominator
        r, lost = {"revenue": 1}, {loss or "": 1}
        crossed = ((x, r), (x, lost), (r, lost), (r, r), (lost, lost), (r, y), (lost, y))
        self._crossed = tuple(products_of(a, b) for a, b in crossed)
        self._closed: dict[tuple[date, timedelta], bool] = {}
        if loss is not None:
            features |= {REFUNDS, _ORDERS}
        self._curves = {feature: self._fitted(cells, feature) for feature in features if feature is not None}
        has_refunds = loss is not None and self._curves[REFUNDS] is not None
        self._losses = self._loss_shares(cells, loss) if loss is not None and has_refunds else {}

    @property
    def is_known(self) -> bool:
        """Whether the metric's own curves could be fitted; without them only closed cells can be read."""
        return self._top == self._bottom or self._curves[self._top] is not None

    def adjusted(self, cell: Cell, sums: Sequence[int]) -> list[float] | None:
        """The cell's (n, x, y, xx, xy, yy) as they count now; None where its ages are not known."""
        share = self._share(cell)
        if share is None:
            return None
        n, x, y, xx, xy, yy = map(float, sums)
        found = self._losses.get(cell.key.variant)
        if found is not None and self._loss is not None:
            still_open = self._open_revenue(cell)
            x -= found.rate * still_open
            more_xx, more_xy = self._spread(cell, found, still_open)
            xx, xy = xx + more_xx, xy + more_xy
        return [n * share, x, y * share, xx, xy, yy * share]

    def _spread(self, cell: Cell, found: LossShare, still_open: float) -> tuple[float, float]:
        """What is added to (xx, xy) when each unit's x becomes x - c r - g l, and for V'."""
        revenue = cell.moments.sum("revenue")
        part = still_open / revenue if revenue else 0.0
        g = found.influence * found.open_revenue
        c = found.rate * part - g * found.own_rate * (1.0 - part)
        product = cell.moments.products.get
        x_r, x_lost, r_lost, r_r, lost_lost, r_y, lost_y = [
            sum([factor * product(name, 0) for name, factor in terms]) for terms in self._crossed
        ]
        xx = -2.0 * (c * x_r + g * x_lost) + 2.0 * c * g * r_lost
        xx += c * c * r_r + g * g * lost_lost
        xy = -c * r_y - g * lost_y
        return xx + still_open * found.open_revenue * found.variance, xy

    def _share(self, cell: Cell) -> float | None:
        """D_i."""
        if self._top == self._bottom:
            return 1.0
        top = self._come(cell, self._top)
        bottom = 1.0 if self._bottom is None else self._come(cell, self._bottom)
        if top is None or bottom is None:
            return None
        return min(1.0, top / bottom) if bottom > 0.0 else 0.0

    def _come(self, cell: Cell, feature: str) -> float | None:
        """Mean share of the feature's events that has come by now, over the cell's units."""
        curves = self._curves[feature]
        day, horizon = cell.key.day, self._horizon(feature)
        if (is_closed := self._closed.get((day, horizon))) is None:
            is_closed = closes_at(day, horizon, self._zone.key) <= self._now
            self._closed[day, horizon] = is_closed
        if is_closed:
            return 1.0
        hours = cell.histograms.get(HOURS)
        if curves is None or not hours:
            return None
        curve = curves[cell.key.variant]
        total = sum(
            units * self._mean(curve, cell.key.variant, feature, day, h) for h, units in hours.items()
        )
        return total / sum(hours.values())

    def _mean(self, curve: DelayCurve, variant: str, feature: str, day: date, hour: int) -> float:
        key = variant, feature, day, hour
        if key not in self._means:
            self._means[key] = curve.mean_over(max(0.0, self._age(day, hour)), self._age(day, hour - 1))
        return self._means[key]

    def _age(self, day: date, hours: int) -> float:
        """Seconds from so many hours after the day's midnight until now."""
        if day not in self._day_starts:
            self._day_starts[day] = datetime.combine(day, time(), tzinfo=self._zone).astimezone(UTC)
        return (self._now - self._day_starts[day]).total_seconds() - 3600.0 * hours

    def _horizon(self, feature: str) -> timedelta:
        return self._horizons.get(feature, self._default)

    def _fitted(self, cells: Sequence[Cell], feature: str) -> Mapping[str, DelayCurve] | None:
        horizon_s = self._horizon(feature).total_seconds()
        cohorts: dict[str, list[Outcomes]] = {}
        for cell in cells:
            hours = cell.histograms.get(HOURS)
            youngest = self._age(cell.key.day, max(hours)) if hours else -inf
            seen = min(BINS, int(BINS * (max(0.0, youngest) / horizon_s) ** (1 / 3) + 1e-9))
            found = Outcomes(events_of(cell.histograms, feature) if hours else [0] * BINS, seen)
            cohorts.setdefault(cell.key.variant, []).append(found)
        return delay_curves(cohorts, horizon_s) if cohorts else None

    def _open_revenue(self, cell: Cell) -> float:
        """b_i; orders count as placed in full where their own curve is not known."""
        refunds, orders = self._come(cell, REFUNDS), self._come(cell, _ORDERS)
        if refunds is None or not orders:
            return 0.0
        return cell.moments.sum("revenue") * (1.0 - min(1.0, refunds / orders))

    def _loss_shares(self, cells: Sequence[Cell], loss: str) -> dict[str, LossShare]:
        lost: dict[str, float] = {}
        squares: dict[str, float] = {}
        seen: dict[str, float] = {}
        still_open: dict[str, float] = {}
        for cell in cells:
            key, moments = cell.key.variant, cell.moments
            revenue_open = self._open_revenue(cell)
            lost[key] = lost.get(key, 0.0) + moments.sum(loss)
            squares[key] = squares.get(key, 0.0) + moments.product(loss, loss)
            seen[key] = seen.get(key, 0.0) + moments.sum("revenue") - revenue_open
            still_open[key] = still_open.get(key, 0.0) + revenue_open
        shrunk = shrunk_rates(lost, squares, seen)
        return {
            key: LossShare(*found, still_open[key], lost[key] / seen[key] if seen[key] > 0.0 else found[0])
            for key, found in shrunk.items()
        }


def development_of(
    experiment: Experiment,
    cells: Sequence[Cell],
    definition: MetricDefinition,
    *,
    time_zone: str,
    now: datetime,
) -> Development | None:
    """How open cohorts count for a metric; None where they do not: by settings, or nothing is known yet."""
    if experiment.policy.delay is not DelayHandling.MODEL or not outcomes_of(experiment, definition)[0]:
        return None
    found = Development(experiment, cells, definition, time_zone=time_zone, now=now)
    return found if found.is_known else None


def outcomes_of(experiment: Experiment, definition: MetricDefinition) -> tuple[str, str | None]:
    """The outcomes by age of a metric's numerator and denominator; the first empty where none are kept."""
    for metric in experiment.metrics:
        if metric.key == definition.key and metric.kind is MetricKind.NPS:
            return "", None  # the ages of ratings are not kept
        if metric.key == definition.key:
            had, count, _ = custom_features(metric.key)
            top = had if metric.kind is MetricKind.PROPORTION else count
            return top, count if metric.kind is MetricKind.RATIO else None
    return _OUTCOMES.get(definition.key, ("", None))


def shrunk_rates(
    lost: Mapping[str, float], squares: Mapping[str, float], seen: Mapping[str, float]
) -> dict[str, tuple[float, float, float]]:
    """Loss per revenue seen by variant, shrunk to the pooled rate by empirical Bayes.

    (rate, its growth with the variant's own losses, its variance but for what these bring in).

    `squares` are sums over units of squared losses: losses of a compound Poisson law have that variance. It
    is pooled as a dispersion per revenue, so that a variant without a refund yet is not thought to be sure.

    >>> shrunk_rates({"a": 20.0, "b": 20.0}, {"a": 200.0, "b": 200.0}, {"a": 100.0, "b": 100.0})
    {'a': (0.2, 0.005, 0.005), 'b': (0.2, 0.005, 0.005)}
    """
    total = sum(seen.values())
    if total <= 0.0:
        return {}
    pooled, dispersion = sum(lost.values()) / total, sum(squares.values()) / total
    informed = {key: dispersion / revenue for key, revenue in seen.items() if revenue > 0.0}
    if dispersion <= 0.0:
        return {key: (pooled, 1.0 / total, 0.0) for key in seen}
    weights = {key: 1.0 / variance for key, variance in informed.items()}
    heavy = sum(weights.values())
    q = sum(weight * (lost[key] / seen[key] - pooled) ** 2 for key, weight in weights.items())
    room = heavy - sum(weight * weight for weight in weights.values()) / heavy
    between = max(0.0, (q - (len(weights) - 1)) / room) if room > 0.0 else 0.0
    found: dict[str, tuple[float, float, float]] = {}
    for key in seen:
        own = informed.get(key, inf)
        weight = between / (between + own)
        rate = pooled if key not in informed else weight * lost[key] / seen[key] + (1.0 - weight) * pooled
        variance = weight * own + (1.0 - weight) / heavy if key in informed else between + 1.0 / heavy
        growth = (weight / seen[key] if key in informed else 0.0) + (1.0 - weight) / total
        found[key] = rate, growth, max(0.0, variance - growth * growth * dispersion * max(0.0, seen[key]))
    return found
