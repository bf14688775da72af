"""Three ways to read data whose shares followed outcomes, side by side, and whether they agree.

| figures | units of an arm are weighed by | wrong when |
|---|---|---|
| stratified (shown) | their epoch's share of all units | arms of an epoch are few; shares went by context |
| `aipw` | 1 / the propensity they were assigned with | a propensity is wrong |
| `naive` | 1 | shares moved while shoppers did |

Without drift the three err alike. Two estimates a and b of one arm are sums over the same units, so the
variance of their difference is the sum over places of (influence of a - influence of b)^2: what their shared
noise leaves; against AIPW, which has noise of its own, the difference of their variances. Beyond `PARTED` of
its roots, for the lift of some treatment, they part.
Source: Hausman, Specification tests in econometrics (1978), for the idea.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from experiments.analysis.aipw import read_aipw
from experiments.analysis.closed_form import figures
from experiments.analysis.cohorts import Cohort, Cohorts
from experiments.analysis.comparison import Pair
from experiments.analysis.inverse import by_shares, shares_by_place
from experiments.analysis.reading import Reading, read_metric
from experiments.analysis.report import Check, MetricReport
from experiments.analysis.served import EpochShares
from experiments.analysis.wording import change_in_words, metric_in_words
from experiments.model import Experiment

Metrics = Mapping[str, Mapping[str, MetricReport]]

PARTED = 3.0
"""Standard errors: of two that agree, one pair in 370 is further apart."""


def aipw_of(
    experiment: Experiment, cohort: Cohort, reading: Reading, epoch_shares: EpochShares, *, seed: int
) -> Reading:
    """The same metric by AIPW, from the shares that were served."""
    inverse = by_shares(reading.table, shares_by_place(cohort.cells, epoch_shares))
    return read_aipw(experiment, cohort, reading.table, inverse, seed=seed)


def with_aipw(
    experiment: Experiment,
    cohorts: Cohorts,
    reading_of: Callable[[str], Reading],
    metrics: Metrics,
    *,
    seed: int,
    counts_open: bool,
) -> dict[str, dict[str, MetricReport]]:
    """Every metric with its figures by AIPW, where those shown are stratified by epoch."""
    found: dict[str, dict[str, MetricReport]] = {}
    for key, by_variant in metrics.items():
        reading = reading_of(key)
        cohort = cohorts.of(reading.definition.horizon)
        aipw = aipw_of(experiment, cohort, reading, cohorts.epoch_shares, seed=seed)
        found[key] = {
            variant: replace(report, aipw=figures(aipw, variant, counts_open=counts_open))
            for variant, report in by_variant.items()
        }
    return found


def methods_check(
    experiment: Experiment, cohorts: Cohorts, reading_of: Callable[[str], Reading], *, seed: int
) -> Check:
    """Whether the plain and the AIPW lifts agree with those shown, for the metrics that decide."""
    worst: dict[Method, _Gap] = {}
    compared = 0
    for key in (experiment.policy.objective, *(guardrail.metric for guardrail in experiment.guardrails)):
        shown = reading_of(key)
        cohort = cohorts.of(shown.definition.horizon)
        others = {
            Method.NAIVE: read_metric(
                experiment, cohort, shown.definition, by_epoch=False, seed=seed, table=shown.table
            ),
            Method.AIPW: aipw_of(experiment, cohort, shown, cohorts.epoch_shares, seed=seed),
        }
        for method, other in others.items():
            for variant in shown.pairs:
                apart = parting(shown, other, variant, method)
                if apart is not None:
                    compared += 1
                    told = tuple(_lift(experiment, one, variant) for one in (shown, other))
                    name = metric_in_words(key, experiment.unit)
                    gap = _Gap(apart, f"{name} of {variant}: corrected lift {told[0]}, {method} {told[1]}")
                    worst[method] = max(worst.get(method, gap), gap)
    for method, remedy in REMEDIES.items():
        gap = worst.get(method)
        if gap is not None and gap.apart > PARTED:
            return Check("methods", "warn", gap.in_words(), remedy)
    if not compared:
        return Check("methods", "info", "nothing to compare yet")
    furthest = max(gap.apart for gap in worst.values())
    return Check(
        "methods", "ok", f"corrected, plain and AIPW lifts agree (within {furthest:.1f} standard errors)"
    )


class Method(StrEnum):
    """What the figures shown are compared with."""

    NAIVE = "plain"
    AIPW = "AIPW"


REMEDIES = {
    Method.NAIVE: (
        "Decide by the corrected figures: shares moved while shoppers changed, so the plain ones compare "
        "different times."
    ),
    Method.AIPW: (
        "See whether the lift itself changes with time (a narrower from/to), and whether history was brought "
        "in with propensities of its own: one of the two corrections does not hold."
    ),
}


def parting(shown: Reading, other: Reading, treatment: str, method: Method) -> float | None:
    """How far two readings of one lift lie apart, in standard errors of their difference.

    None where one of them has none, or where both weigh every unit alike and cannot differ.
    """
    first, second = shown.pairs.get(treatment), other.pairs.get(treatment)
    if not isinstance(first, Pair) or not isinstance(second, Pair):
        return None
    variance = math.fsum(
        _gap_variance(one.influence.get(place, 0.0), two.influence.get(place, 0.0), method)
        for one, two in ((first.treatment, second.treatment), (first.control, second.control))
        for place in {**one.influence, **two.influence}
    )
    least = (ROUNDING * (first.treatment.figure + first.control.figure)) ** 2
    return abs(first.lift_abs - second.lift_abs) / math.sqrt(variance) if variance > least else None


ROUNDING = 1e-9


def _gap_variance(one: float, two: float, method: Method) -> float:
    """Of the difference of two estimates at a place: other weights on the same noise, or noise of its own.

    AIPW adds to the noise of outcomes that of who was assigned, times how far its regression was off.
    """
    return (one - two) ** 2 if method is Method.NAIVE else abs(one * one - two * two)


@dataclass(frozen=True, slots=True, order=True)
class _Gap:
    """One lift by two methods."""

    apart: float  # standard errors
    lifts: str

    def in_words(self) -> str:
        return f"{self.lifts}, {self.apart:.1f} standard errors of their difference apart"


def _lift(experiment: Experiment, reading: Reading, variant: str) -> str:
    pair = reading.pairs[variant]
    assert isinstance(pair, Pair)
    return change_in_words(reading.definition, experiment.currency, pair.lift_abs)
