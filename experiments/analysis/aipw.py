"""Augmented inverse-propensity weighting of data whose shares followed outcomes, from epoch cells.

Symbols: arm w, place e = (candidate set, epoch), n_e units of all arms there, p the propensity of a unit's
first assignment, (x, y) its numerator and denominator, m_ew = (mx, my) the arm's mean per unit in earlier
epochs of the set, 0 before there is any (so it is known before the units of e come).

    increment    G_ew = n_e m_ew + sum over the arm's units of ((x, y) - m_ew) / p
    value        R_w  = sum_e g_e Gx_ew / sum_e g_e Gy_ew
    variance     sum_e g_e^2 sum over the arm's units of (rho / p)^2 / (sum_e g_e Gy_ew)^2,
                 rho = x - mx - R (y - my)
    weights      g_e = W_s h_e / sum over the set's epochs of h_e n_e;  W_s as in `estimates`
                 h_e = p_ew^(1/2) for an arm by itself, (1/p_ew + 1/p_ec)^(-1/2) for both arms of a pair

E[G_ew | the past] = n_e (mean of the arm in e) whatever m is, so that a wrong m costs width, not truth, and
increments are a martingale: the lift is asymptotically Normal though the shares follow it. The weights are
known before the epoch too and make the terms of the variance alike: an epoch in which an arm had 2 % counts
for less than one in which it had half. Both arms of a pair have the same, so a season that moves both
cancels. Where every context has its own shares, h_e = 1. With m = 0 the first epoch is Hajek's ratio.

The variance leaves out - n_e (mean - m)^2 per arm, and so arms may be taken as independent: their covariance
is minus the product of those errors, and what is left of the three terms is the square of a difference.

Wrong where propensities are; where some share is far below 1 / (units of the epoch's set), since Normal then
needs more units; and, as a lift of all time, where the lift itself drifts: then the weights choose the time.
Source: Hadad, Hirshberg, Zhan, Wager, Athey, Confidence intervals for policy evaluation in adaptive
experiments (2021), sections 2.1 (scores), 2.2 (weights; constant allocation), 3 (contrasts).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.analysis.cohorts import Cohort
from experiments.analysis.comparison import Pair, pair_of, rank
from experiments.analysis.estimates import MIN_DENOMINATOR_ERRORS, Estimate, SetEpoch
from experiments.analysis.inverse import FIELDS, Inverse, by_context, is_kept
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, Reason, is_adaptive, missing_reason, read_metric
from experiments.analysis.strata import MIN_UNITS, Table, set_strata, tabulate
from experiments.analysis.sums import ROUNDING
from experiments.model import Experiment, MetricKind, PolicyKind
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import FloatArray

METHOD = "aipw"


@dataclass(frozen=True, slots=True)
class Increment:
    """A pair at one (set, epoch): what its units say of the lift, given all units before them.

    `lift` is the mean over the `units` of all arms, `variance` that of this mean, in the metric's unit; the
    sum of weight * units * lift over the sum of weight * units is the estimate. A ratio is linear about it.
    """

    place: SetEpoch
    units: float
    weight: float
    lift: float
    variance: float


def read_aipw(
    experiment: Experiment, cohort: Cohort, table: Table, inverse: Inverse, *, seed: int
) -> Reading:
    """Read one metric by AIPW; `seed` as in `reading.read_metric`."""
    definition, control = table.definition, experiment.control.key
    missing = {v.key: missing_reason(experiment, cohort, definition, v.key) for v in experiment.variants}
    unknown = None if inverse.is_known else Reason.PROPENSITY_UNKNOWN
    arms = _Arms(table, inverse)
    own: dict[str, Estimate | Reason] = {}
    pairs: dict[str, Pair | Reason] = {}
    for variant in experiment.variants:
        key = variant.key
        own[key] = missing[key] or unknown or arms.own(key) or Reason.INSUFFICIENT_DATA
        if key != control:
            pairs[key] = missing[control] or missing[key] or unknown or arms.compared(key, control)
    comparable = {key: pair for key, pair in pairs.items() if isinstance(pair, Pair)}
    ranking = rank(comparable, control, sign=definition.sign, seed=seed) if comparable else None
    return Reading(definition, table, control, own, pairs, ranking)


def read_shown(
    experiment: Experiment,
    cohort: Cohort,
    definition: MetricDefinition,
    *,
    seed: int,
    table: Table | None = None,
) -> Reading:
    """Read one metric as a report shows it: by epoch where shares followed outcomes, by AIPW where context.

    By context an arm's own units are shoppers of its own choice; without their propensities on record there
    is no comparison.
    """
    table = tabulate(cohort.cells, definition) if table is None else table
    if experiment.policy.kind is PolicyKind.CONTEXTUAL and is_kept(definition):
        inverse = by_context(cohort.cells, definition)
        if inverse.is_known:
            return read_aipw(experiment, cohort, table, inverse, seed=seed)
    by_epoch = is_adaptive(experiment)
    return read_metric(experiment, cohort, definition, by_epoch=by_epoch, seed=seed, table=table)


def pair_by_aipw(table: Table, inverse: Inverse, treatment: str, control: str) -> Pair | Reason:
    """A treatment and control by AIPW, or why that cannot be had."""
    known = _Arms(table, inverse).compared(treatment, control) if inverse.is_known else None
    return known or Reason.PROPENSITY_UNKNOWN


def unpaired(reading: Reading) -> Reading:
    """The same without comparisons: each variant's own figures, of units that were not the same shoppers."""
    return replace(reading, pairs=dict.fromkeys(reading.pairs, Reason.NOT_COMPARABLE), ranking=None)


def increments(table: Table, inverse: Inverse, treatment: str, control: str) -> list[Increment]:
    """The pair at every (set, epoch) where both had a share, by set and epoch; none without a comparison."""
    (first, terms), (second, others) = _Arms(table, inverse).pair(treatment, control)
    if first is None or second is None:
        return []
    above, below = _per_unit(terms), _per_unit(others)
    rows: list[Increment] = []
    for (side, weight), (other, _) in zip(terms, others, strict=True):
        known = side.units > 0  # where nobody is anchored yet, as before the first exposure, nothing is added
        units, at, base = np.where(known, side.units, 1.0), first.figure, second.figure
        lift = at - base + side.residual(at) / (above * units) - other.residual(base) / (below * units)
        variance = side.squares(at) / (above * units) ** 2 + other.squares(base) / (below * units) ** 2
        columns = np.stack([units, weight, lift, variance]).T
        rows += [Increment(side.places[i], *map(float, columns[i])) for i in np.flatnonzero(weight * known)]
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One arm in one set, arrays over its epochs: units of all arms, share, sums / p, earlier means m."""

    places: tuple[SetEpoch, ...]
    units: FloatArray  # (epochs,)
    share: FloatArray  # (epochs,), 1 where contexts have their own
    sums: FloatArray  # (`inverse.FIELDS`, epochs)
    earlier: FloatArray  # (2, epochs): mx, my

    def totals(self) -> FloatArray:
        """The increments G, (2, epochs)."""
        return self.units * self.earlier + self.sums[2:4] - self.earlier * self.sums[1]

    def residual(self, ratio: float) -> FloatArray:
        """Gx - R Gy by epoch."""
        x, y = self.totals()
        return x - ratio * y

    def squares(self, ratio: float) -> FloatArray:
        """Sum over the arm's units of (rho / p)^2 by epoch, rho = x - mx - R (y - my)."""
        _, _, _, _, one, x, y, xx, xy, yy = self.sums
        level = self.earlier[0] - ratio * self.earlier[1]
        spread = xx - 2.0 * ratio * xy + ratio * ratio * yy
        found = spread - 2.0 * level * (x - ratio * y) + level * level * one
        # Of orders that are all alike only the rounding of these terms is left, which is not a spread
        return np.where(found > ROUNDING * (xx + ratio * ratio * yy + level * level * one), found, 0.0)

    def denominator_squares(self) -> FloatArray:
        """Sum over the arm's units of ((y - my) / p)^2 by epoch."""
        below = self.earlier[1]
        return np.maximum(0.0, self.sums[9] - 2.0 * below * self.sums[6] + below * below * self.sums[4])


Terms = list[tuple[_Side, FloatArray]]
"""Each set of an estimate with the weights g of its epochs."""


class _Arms:
    """The arms of a table, each set read once."""

    def __init__(self, table: Table, inverse: Inverse) -> None:
        self._table = table
        self._inverse = inverse
        self._sums: dict[int, dict[str, FloatArray]] = {}

    def own(self, arm: str) -> Estimate | None:
        """The arm by itself."""
        return _estimate(self._table, self._terms((arm,))[0])

    def pair(self, *arms: str) -> list[tuple[Estimate | None, Terms]]:
        """Each arm with the weights they have in common."""
        return [(_estimate(self._table, terms), terms) for terms in self._terms(arms)]

    def compared(self, treatment: str, control: str) -> Pair | Reason:
        """The pair, or why there is none."""
        (first, terms), (second, _) = self.pair(treatment, control)
        if not terms:
            table = self._table
            has_units = all(table.size(arm, table.all_units) > 0 for arm in (treatment, control))
            return Reason.NOT_COMPARABLE if has_units else Reason.INSUFFICIENT_DATA
        return pair_of(first, second) or Reason.INSUFFICIENT_DATA

    def _terms(self, arms: Sequence[str]) -> list[Terms]:
        terms: list[Terms] = [[] for _ in arms]
        for stratum in set_strata(self._table, arms):
            sides = [self._side(arm, stratum.places) for arm in arms]
            shares = np.array([side.share for side in sides])
            had = shares.min(axis=0) > 0.0
            stable = np.zeros(len(had))
            stable[had] = np.sum(1.0 / shares[:, had], axis=0) ** -0.5
            whole = float(stable @ sides[0].units)
            if whole > 0.0:
                for side, found in zip(sides, terms, strict=True):
                    found.append((side, stratum.weight / whole * stable))
        return terms

    def _side(self, arm: str, places: tuple[SetEpoch, ...]) -> _Side:
        every = self._of_set(places)
        own = every.get(arm, np.zeros((FIELDS, len(places))))
        before, pooled = _before(own), _before(np.sum(list(every.values()), axis=0))
        known = np.where(before[0] >= MIN_UNITS, before, pooled)
        earlier = np.divide(known[2:4], known[1], out=np.zeros((2, len(places))), where=known[1] > 0.0)
        units = np.array([self._table.all_units[place] for place in places], dtype=np.float64)
        shares = [self._inverse.shares.get(place) for place in places]
        share = np.array([1.0 if there is None else there.get(arm, 0.0) for there in shares])
        return _Side(places, units, share, own, earlier)

    def _of_set(self, places: tuple[SetEpoch, ...]) -> Mapping[str, FloatArray]:
        """Every arm's sums by epoch of the set, (fields, epochs)."""
        which = places[0][0]
        if which not in self._sums:
            rows = {
                arm: [self._inverse.sums.get((arm, *place), _NOTHING) for place in places]
                for arm in self._table.variants
            }
            self._sums[which] = {arm: np.array(found, dtype=np.float64).T for arm, found in rows.items()}
        return self._sums[which]


_NOTHING = (0.0,) * FIELDS


def _before(sums: FloatArray) -> FloatArray:
    """Sums over the epochs before each."""
    return np.cumsum(sums, axis=1) - sums


def _per_unit(terms: Terms) -> float:
    """The denominator per unit."""
    return _denominator(terms) / math.fsum(float(weight @ side.units) for side, weight in terms)


def _denominator(terms: Terms) -> float:
    return math.fsum(float(weight @ side.totals()[1]) for side, weight in terms)


def _estimate(table: Table, terms: Terms) -> Estimate | None:
    """The arm's figure, its Normal posterior and how its error lies over the places."""
    definition, below = table.definition, _denominator(terms)
    if below <= 0.0:
        return None
    figure = math.fsum(float(weight @ side.totals()[0]) for side, weight in terms) / below
    errors = [(side, weight * np.sqrt(side.squares(figure)) / below) for side, weight in terms]
    variance = math.fsum(float(error @ error) for _, error in errors)
    is_clear = definition.kind is not MetricKind.RATIO or below > MIN_DENOMINATOR_ERRORS * math.sqrt(
        math.fsum(float(weight**2 @ side.denominator_squares()) for side, weight in terms)
    )
    if variance <= 0.0 or not is_clear:
        return Estimate(figure, None, METHOD)
    influence = {
        place: float(part)
        for side, error in errors
        for place, part in zip(side.places, error, strict=True)
        if part
    }
    return Estimate(figure, StudentT(figure, math.sqrt(variance), math.inf), METHOD, influence)
