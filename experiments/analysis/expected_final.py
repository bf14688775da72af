"""Money once all refunds have come: what is still to be refunded of young orders, and how sure that is.

===========  ===================================================================  =============
symbol       meaning                                                              unit
===========  ===================================================================  =============
x, y         numerator and denominator of a unit's figure, refunds so far in it   minor units ...
c            what may be refunded of a unit: booked revenue, or orders            as x
a            what has been refunded of it by now                                  as x
Q_i          share of the refunds of cohort i that has come (`refund_curve`)      share
rho          sum a / sum Q c, what is refunded in the end, per c of the variant   share
s, W_s       strata and their weights, as of the figure (`analysis.strata`)       share
sigma        -1 where refunds take from x, +1 where x counts refunds              1
b, eta       what of y has been refunded by now, and sum b / sum Q c: 0 where     as y
             refunds leave y as it is (of `margin_rate` they take from it)
===========  ===================================================================  =============

    final = X / Y,  X = sum_s W_s mean_s(x + sigma rho (1 - Q) c),  Y = sum_s W_s mean_s(y - eta (1 - Q) c)

With one stratum a variant's refunds in the end are those seen over the share seen, sum a sum c / sum Q c.
To first order a unit moves the figure by, k = sigma rho + final eta,

    e = [W_s / n_s (x - final y + k (1 - Q) c) + beta / B (sigma a + final b - k Q c)] / Y,
    beta = sum_s W_s mean_s((1 - Q) c),  B = sum Q c,

so that its variance is that of sum e within strata, from the cells' cross-products; and the curve's steps
(errors uncorrelated with each other and, given the counts they rest on, with sum a) add sum_k G_k^2 var_k,
G_k = sum_i (dfinal / dQ_i) D_ik. A lift has the difference of the two G: variants with one curve share its
error. This is the development-factor method of reserving with Mack's error of the factors (Mack 1993), and
the delta method for the rest.

Limits. The Normal needs counts: below ten refunded orders of a variant, or twenty in all, there is no figure.
No refund is expected beyond the refund window, nor beyond the oldest age that a cohort shows in full. A large
refund is taken to come no later than a small one, and a variant's refunds no later than its category's.
Cost: one pass over the cells, 21 products each.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from experiments.analysis.cohorts import Cohort
from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import Terms
from experiments.analysis.reading import Reading, Reason
from experiments.analysis.refund_curve import RefundsCome
from experiments.analysis.report import CI_PROB, FinalFigures, Interval
from experiments.analysis.strata import Stratum, Table, epoch_strata, set_strata
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell, product_name

FEATURES = ("units", "orders", "revenue", "refunded_orders", "refunded_value", "margin", "refund_loss")

MIN_REFUNDED = 10
"""Refunded orders of a variant below which it has no expected figure."""

_Z = float(special.ndtri((1.0 + CI_PROB) / 2.0))


@dataclass(frozen=True, slots=True)
class _Refunds:
    """What may be refunded (c), what has been (a), and whether the metric counts refunds (+1) or not (-1).

    `below` is what has been refunded of the denominator (b), None where refunds leave it as it is.
    """

    base: str
    come: str
    sigma: float
    below: str | None = None


REFUNDED: Mapping[str, _Refunds] = {
    "aov_net": _Refunds("revenue", "refunded_value", -1.0),
    "revenue_per_unit": _Refunds("revenue", "refunded_value", -1.0),
    "margin_per_unit": _Refunds("revenue", "refund_loss", -1.0),
    "margin_rate": _Refunds("revenue", "refund_loss", -1.0, below="refunded_value"),
    "refund_rate": _Refunds("orders", "refunded_orders", 1.0),
    "refund_value_rate": _Refunds("revenue", "refunded_value", 1.0),
}
"""The metrics that refunds still to come will change."""

_BOOKED_MARGIN: Terms = {"margin": 1, "refund_loss": 1}
BOOKED: Mapping[str, Mapping[str, Terms]] = {
    "aov_net": {"numerator": {"revenue": 1}},
    "revenue_per_unit": {"numerator": {"revenue": 1}},
    "margin_per_unit": {"numerator": _BOOKED_MARGIN},
    "margin_rate": {"numerator": _BOOKED_MARGIN, "denominator": {"revenue": 1}},
}
"""Numerators (and denominators) before any refund; of the rates of refunds the figure is what has come."""


class ExpectedFinal:
    """The cells of a cohort, ready for every metric of `REFUNDED`."""

    def __init__(self, cohort: Cohort, come: RefundsCome) -> None:
        self._come = come
        self._cells: dict[str, list[int]] = {}
        for place, cell in enumerate(cohort.cells):
            self._cells.setdefault(cell.key.variant, []).append(place)
        self._places = [(cell.key.candidate_set, cell.key.epoch) for cell in cohort.cells]
        self._sums = np.array([[float(c.moments.sum(f)) for f in FEATURES] for c in cohort.cells])
        self._products = np.array([_products(cell) for cell in cohort.cells])
        shares = [come.of(cell.key.variant, cell.key.day) for cell in cohort.cells]
        self._q = np.array([share for share, _ in shares])
        self._gradients = np.array([gradient for _, gradient in shares])

    def figures(self, reading: Reading, variant: str, *, by_epoch: bool) -> FinalFigures:
        """The variant's figure with all refunds, and its lift over control."""
        own = reading.own[variant]
        if isinstance(own, Reason):
            return _missing(own)
        table, refunds = reading.table, REFUNDED[reading.definition.key]
        mine = self._arm(table, refunds, variant, _own_strata(table, variant, by_epoch=by_epoch))
        if mine is None:
            return _missing(Reason.INSUFFICIENT_DATA)
        low, high = reading.definition.support
        half = _Z * math.sqrt(mine.variance + self._curves(mine.gradient))
        lift_abs, lift_rel, beats = self._lifts(reading, variant, by_epoch=by_epoch)
        return FinalFigures(
            value=min(high, max(low, mine.figure)),
            ci_low=max(low, mine.figure - half),
            ci_high=min(high, mine.figure + half),
            lift_abs=lift_abs,
            lift_rel=lift_rel,
            prob_beats_control=beats,
            refunds_seen=mine.seen,
            method="refunds to come by the delay curve",
        )

    def _lifts(
        self, reading: Reading, variant: str, *, by_epoch: bool
    ) -> tuple[Interval, Interval, float | None]:
        if variant == reading.control:
            return _no_lift(Reason.IS_CONTROL)
        pair = reading.pairs[variant]
        if not isinstance(pair, Pair):
            return _no_lift(pair)
        arms = (variant, reading.control)
        strata = (epoch_strata if by_epoch else set_strata)(reading.table, arms)
        refunds = REFUNDED[reading.definition.key]
        mine, control = (self._arm(reading.table, refunds, arm, strata) for arm in arms)
        if mine is None or control is None:
            return _no_lift(Reason.INSUFFICIENT_DATA)
        lift = mine.figure - control.figure
        sd = math.sqrt(mine.variance + control.variance + self._curves(mine.gradient - control.gradient))
        beats = float(special.ndtr(reading.definition.sign * lift / sd))
        absolute = Interval(lift, lift - _Z * sd, lift + _Z * sd)
        own = math.sqrt(control.variance + self._curves(control.gradient))
        if control.figure <= 3.0 * own:
            return absolute, Interval(reason=Reason.CONTROL_NEAR_ZERO.value), beats
        ratio = mine.figure / control.figure
        spread = mine.variance + ratio**2 * control.variance
        spread += self._curves(mine.gradient - ratio * control.gradient)
        half = _Z * math.sqrt(spread) / control.figure
        return absolute, Interval(ratio - 1.0, ratio - 1.0 - half, ratio - 1.0 + half), beats

    def _curves(self, gradient: FloatArray) -> float:
        return float(gradient**2 @ self._come.variances)

    def _arm(self, table: Table, refunds: _Refunds, variant: str, strata: Sequence[Stratum]) -> "_Arm | None":
        """One arm over the strata; None below `MIN_REFUNDED`, and for a rate of nothing."""
        stratum_of = {place: number for number, one in enumerate(strata) for place in one.places}
        chosen = [i for i in self._cells.get(variant, ()) if self._places[i] in stratum_of]
        where = np.array([stratum_of[self._places[i]] for i in chosen], dtype=np.int64)
        sums, q = self._sums[chosen], self._q[chosen]
        if sums[:, _AT["refunded_orders"]].sum() < MIN_REFUNDED:
            return None
        units = np.bincount(where, sums[:, 0], len(strata))
        if units.min() < 2.0:
            return None
        weight = np.array([stratum.weight for stratum in strata]) / units
        c, a = sums[:, _AT[refunds.base]], sums[:, _AT[refunds.come]]
        seen = float(q @ c)
        rho = float(a.sum()) / seen
        x, y = (
            sum(factor * sums[:, _AT[name]] for name, factor in terms.items())
            for terms in (table.definition.numerator, table.definition.denominator)
        )
        each = weight[where]
        to_come = float(each @ ((1.0 - q) * c))
        lost = 0.0 if refunds.below is None else float(sums[:, _AT[refunds.below]].sum()) / seen
        mean_y = float(each @ y) - lost * to_come
        if mean_y <= 0.0:  # everything is expected back: nothing is left to be a rate of
            return None
        figure = float(each @ x + refunds.sigma * rho * to_come) / mean_y
        per_base = refunds.sigma * rho + figure * lost
        effects = np.zeros((len(chosen), len(FEATURES)))
        for name, factor in table.definition.numerator.items():
            effects[:, _AT[name]] += each * factor
        for name, factor in table.definition.denominator.items():
            effects[:, _AT[name]] -= each * figure * factor
        effects[:, _AT[refunds.base]] += per_base * (each * (1.0 - q) - to_come / seen * q)
        effects[:, _AT[refunds.come]] += refunds.sigma * to_come / seen
        if refunds.below is not None:
            effects[:, _AT[refunds.below]] += figure * to_come / seen
        effects /= mean_y
        by_q = -per_base * c * (each + to_come / seen) / mean_y
        first = np.bincount(where, np.einsum("if,if->i", effects, sums), len(strata))
        squares = np.einsum("if,ifg,ig->i", effects, self._products[chosen], effects)
        second = np.bincount(where, squares, len(strata))
        variance = float(np.sum(np.maximum(0.0, second - first**2 / units) * units / (units - 1.0)))
        return _Arm(figure, variance, by_q @ self._gradients[chosen], seen / float(c.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """One arm: its figure, the variance of its units, the curve's gradient, the share of refunds seen."""

    figure: float
    variance: float
    gradient: FloatArray
    seen: float


_AT = {name: place for place, name in enumerate(FEATURES)}
_PAIRS = [[product_name(a, b) for b in FEATURES] for a in FEATURES]


def _products(cell: Cell) -> list[list[float]]:
    products = cell.moments.products
    return [[float(products.get(name, 0)) for name in row] for row in _PAIRS]


def _own_strata(table: Table, variant: str, *, by_epoch: bool) -> list[Stratum]:
    """Those of the variant's own figure."""
    return epoch_strata(table, (variant,)) if by_epoch else [Stratum(1.0, tuple(table.all_units))]


def _no_lift(reason: Reason) -> tuple[Interval, Interval, None]:
    return Interval(reason=reason.value), Interval(reason=reason.value), None


def _missing(reason: Reason) -> FinalFigures:
    lift_abs, lift_rel, _ = _no_lift(reason)
    return FinalFigures(None, None, None, lift_abs, lift_rel, None, None, None, reason.value)
