"""Lifts with less noise: CUPED by the margin of the 30 days before, post-stratification by segment.

===========  ===================================================================  ===============
symbol       meaning                                                              unit
===========  ===================================================================  ===============
s, W_s       strata of the comparison (`analysis.strata`), shares of all units    share
x, y         numerator and denominator of a unit; y = 1 for a mean                as the metric
R_v, Y_v     arm v's standardised figure, and its standardised mean of y          as the metric
e            (x - R_v y) / Y_v, what a unit moves its arm's figure by             as the metric
z            the unit's margin in the 30 days before its anchor (`pre_margin`)    minor units
theta        sum S_ez / sum S_zz, within arms and strata                          metric per minor unit
===========  ===================================================================  ===============

    lift = R_t - R_c - theta sum_s W_s (zbar_ts - zbar_cs)
    var  = sum over arms and strata of W_s^2 Var_vs(e - theta z) / n_vs

z was known before the arms were dealt, so what is subtracted has mean 0 and its noise goes with it: with
rho the correlation of e and z, 1 - rho^2 of the variance is left, and `variance_saved` is rho^2. For a mean
it is the arm's coefficient in least squares of x on z with a level for each arm in each stratum. One slope
for both arms and all strata: a stratum may hold ten units of an arm, too few for a slope of their own. Where
the slopes of arms of unequal size differ much it may save less than nothing, and says so.

Everything comes from the cells' sums of z, z^2, z x and z y, centred in integers. Visitors never seen before
have z = 0 and gain nothing; without any spread in z the reason is `no_pre_period`.

Post-stratification weighs each segment at enrolment by its share of all units, in every arm alike, so that
chance differences in the arms' mix go; a segment without ten units of both arms is left out of it.

Sources: Deng, Xu, Kohavi and Walker (2013), sections 3 and 4 (ratios: appendix B); Miratrix, Sekhon and Yu
(2013) for post-stratification; Lin (2013) for slopes that differ.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.analysis.comparison import Pair, prob_beats
from experiments.analysis.estimates import residual_variances
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, Reason, pair_of_arms
from experiments.analysis.report import CI_PROB, AdjustedLift, Interval
from experiments.analysis.strata import Stratum, Table, by_segment, epoch_strata, set_strata, tabulate
from experiments.analysis.sums import WEIGHT_ONE, Atom, PairSums, atom_of
from experiments.posteriors.compare import difference
from experiments.posteriors.normal import StudentT
from experiments.statistics import Cell, product_name

COVARIATE = "pre_margin"

MIN_FREEDOM = 2.0
"""Degrees of freedom an adjusted lift must exceed, as any Student-t that has a variance."""


@dataclass(frozen=True, slots=True)
class Covariate:
    """Sums of z (under ""), of z^2 (under `COVARIATE`) and of z times each feature, by atom; no zeros."""

    sums: Mapping[Atom, Mapping[str, int]]

    def of(self, arm: str, stratum: Stratum, features: Mapping[str, int]) -> int:
        """Sum over the arm's units in a stratum of z times a combination of features."""
        found = [self.sums.get((arm, *place)) for place in stratum.places]
        return sum(
            factor * sums.get(name, 0)
            for sums in found
            if sums is not None
            for name, factor in features.items()
        )


def covariate_of(cells: Iterable[Cell], definitions: Iterable[MetricDefinition]) -> Covariate:
    """The covariate's sums with all these metrics are made of; cells without a pre-period cost nothing."""
    features = {COVARIATE} | {
        name for one in definitions for terms in (one.numerator, one.denominator) for name in terms
    }
    names = [(feature, product_name(COVARIATE, feature)) for feature in sorted(features)]
    square = product_name(COVARIATE, COVARIATE)
    found: dict[Atom, dict[str, int]] = {}
    for cell in cells:
        products = cell.moments.products
        if square in products:
            sums = found.setdefault(atom_of(cell.key), {})
            sums[""] = sums.get("", 0) + cell.moments.sum(COVARIATE)
            for feature, product in names:
                if value := products.get(product):
                    sums[feature] = sums.get(feature, 0) + value
    return Covariate(found)


def cuped_lift(reading: Reading, covariate: Covariate, variant: str, *, by_epoch: bool) -> AdjustedLift:
    """The variant's lift over control, less what the pre-period foretold of it."""
    pair = reading.pairs[variant]
    if not isinstance(pair, Pair):
        return _missing(pair)
    arms = (variant, reading.control)
    strata = (epoch_strata if by_epoch else set_strata)(reading.table, arms)
    parts = [_ArmParts.of(reading.table, covariate, arm, strata) for arm in arms]
    z_spread = math.fsum(part.zz for arm in parts for part in arm.parts)
    if z_spread <= 0.0:
        return _missing(Reason.NO_PRE_PERIOD)
    theta = math.fsum(part.ez for arm in parts for part in arm.parts) / z_spread
    adjusted = [arm.spread(theta, by_epoch=by_epoch) for arm in parts]
    plain = [arm.spread(0.0, by_epoch=by_epoch) for arm in parts]
    variance, before = (math.fsum(v for v, _ in found) for found in (adjusted, plain))
    freedom = _satterthwaite([one for arm in adjusted for one in arm[1]])
    if freedom <= MIN_FREEDOM or before <= 0.0:
        return _missing(Reason.INSUFFICIENT_DATA)
    moved = theta * (parts[0].z_mean - parts[1].z_mean)
    posterior = StudentT(parts[0].figure - parts[1].figure - moved, math.sqrt(variance), freedom)
    return _lift(posterior, 1.0 - variance / before, reading.definition.sign, "cuped")


def post_stratified_lift(reading: Reading, table: Table, variant: str, *, by_epoch: bool) -> AdjustedLift:
    """The variant's lift over control, every segment weighed alike in both; `table` is by segment."""
    pair = reading.pairs[variant]
    if not isinstance(pair, Pair):
        return _missing(pair)
    found = pair_of_arms(table, variant, reading.control, by_epoch=by_epoch)
    if not isinstance(found, Pair):
        return _missing(found)
    plain, variance = _variance(pair), _variance(found)
    low, high = difference(found.treatment_posterior, found.control_posterior).interval(CI_PROB)
    saved = 1.0 - variance / plain
    interval = Interval(found.lift_abs, float(low), float(high))
    beats = prob_beats(found, reading.definition.sign)
    return AdjustedLift(interval, saved, beats, "post-stratified by segment")


def segment_table(cells: Sequence[Cell], definition: MetricDefinition) -> Table | None:
    """The metric's sums with segments apart; None where there is but one segment."""
    if len({cell.key.segment for cell in cells}) < 2:
        return None
    return tabulate(by_segment(cells), definition)


@dataclass(frozen=True, slots=True)
class _Part:
    """One arm in one stratum: sums of squares and products about the means, of e and z."""

    segment: str | None
    weight: float
    units: float
    ee: float
    ez: float
    zz: float


@dataclass(frozen=True, slots=True)
class _ArmParts:
    """One arm over all strata: its figure, its standardised mean of z, and its parts."""

    figure: float
    z_mean: float
    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, table: Table, covariate: Covariate, arm: str, strata: Sequence[Stratum]) -> "_ArmParts":
        sums = [table.of(arm, stratum.places) for stratum in strata]
        weights = [stratum.weight for stratum in strata]
        mean_y = math.fsum(w * one.mean_y for w, one in zip(weights, sums, strict=True))
        figure = math.fsum(w * one.mean_x for w, one in zip(weights, sums, strict=True)) / mean_y
        definition = table.definition
        parts: list[_Part] = []
        z_mean = 0.0
        for stratum, one in zip(strata, sums, strict=True):
            z = covariate.of(arm, stratum, {"": 1})
            zz = covariate.of(arm, stratum, {COVARIATE: 1})
            xz = covariate.of(arm, stratum, definition.numerator)
            yz = covariate.of(arm, stratum, definition.denominator)
            ez = one.scale * _centred(one, xz, one.x, z) - figure * _centred(one, yz, one.y, z)
            spread = one.squared_deviations(figure) / mean_y**2
            segment = table.segments.get(stratum.places[0][0])
            centred = _centred(one, zz, z * WEIGHT_ONE, z)
            parts.append(_Part(segment, stratum.weight, one.units, spread, ez / mean_y, centred))
            z_mean += stratum.weight * z / one.units
        return cls(figure, z_mean, tuple(parts))

    def spread(self, theta: float, *, by_epoch: bool) -> tuple[float, list[tuple[float, float]]]:
        """Variance of the figure of e - theta z, and its parts with their degrees of freedom.

        By epoch the residual variance is pooled over neighbouring strata, as for the figure itself.
        """
        squares = [max(0.0, part.ee - 2.0 * theta * part.ez + theta * theta * part.zz) for part in self.parts]
        if by_epoch:
            freedom = math.fsum(part.units for part in self.parts) - len(self.parts)
            residuals = residual_variances(
                [part.units for part in self.parts], squares, [part.segment for part in self.parts]
            )
            variance = math.fsum(
                part.weight**2 * residual / part.units
                for part, residual in zip(self.parts, residuals, strict=True)
            )
            return variance, [(variance, freedom)]
        found = [
            (
                part.weight**2 * square / (part.units - 1.0) / part.units if part.units > 1.0 else 0.0,
                part.units - 1.0,
            )
            for part, square in zip(self.parts, squares, strict=True)
        ]
        return math.fsum(variance for variance, _ in found), found


def _centred(one: PairSums, product: int, total: int, z: int) -> float:
    """Sum over units of (a - abar)(z - zbar) from sum a z, sum a (times `WEIGHT_ONE`) and sum z."""
    return (one.n * product - total * z) / one.n


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances, less one for the slope; 0 without any."""
    total = math.fsum(variance for variance, _ in parts)
    if total <= 0.0:
        return 0.0
    return total**2 / math.fsum(v * v / df for v, df in parts if v > 0.0) - 1.0


def _variance(pair: Pair) -> float:
    return pair.treatment_posterior.variance + pair.control_posterior.variance


def _lift(posterior: StudentT, saved: float, sign: int, method: str) -> AdjustedLift:
    tail = (1.0 - CI_PROB) / 2.0
    interval = Interval(posterior.location, float(posterior.ppf(tail)), float(posterior.ppf(1.0 - tail)))
    above = 1.0 - float(posterior.cdf(0.0))
    return AdjustedLift(interval, saved, above if sign > 0 else 1.0 - above, method)


def _missing(reason: Reason) -> AdjustedLift:
    return AdjustedLift(Interval(reason=reason.value), None, None, None, reason.value)
