"""The lift of every metric with an interval that holds at every look, beside its credible interval.

| policy  | metric                        | sequence                                                       |
|---------|-------------------------------|----------------------------------------------------------------|
| `fixed` | proportion, one candidate set | exact: both arms' Beta-binomial mixtures                       |
| `fixed` | anything else                 | asymptotic: the lift shown and its standard error              |
| other   | all                           | asymptotic: AIPW, whose increments are a martingale though     |
|         |                               | shares follow outcomes                                         |

A unit enters the sequence once, when its figures are final: when its attribution window has closed and, for
a metric that refunds change, its refund window too. Until both arms have enough such units, those of the
report stand in for them; then a unit's figures may still change after it was counted, and the method says so.

Information. The sequence is a random walk over the units of all arms in the sets compared, so its time is
their number N, and eta = BEST_ETA N / TUNED_UNITS. With AIPW weights every unit adds the same variance,
however far the shares have moved, so N is its time there too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from experiments.analysis.aipw import increments
from experiments.analysis.cohorts import Cohort, Cohorts
from experiments.analysis.comparison import Pair
from experiments.analysis.inverse import Inverse, by_context, by_shares, shares_by_place
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, Reason, is_adaptive, pair_of_arms
from experiments.analysis.report import Figures, MetricReport, Sequential
from experiments.analysis.sequential import BEST_ETA, TUNED_UNITS, Counts, lift_of_rates, multiplier
from experiments.analysis.strata import Table, set_strata, tabulate
from experiments.analysis.sums import PairSums
from experiments.model import Experiment, MetricKind, PolicyKind
from experiments.statistics import Cell

MIN_UNITS = 1_000
"""Units of each arm from which an asymptotic sequence is shown."""

ASYMPTOTIC = "asymptotic, normal mixture"
OPEN = ", windows still open"

_REFUNDED = frozenset(
    {
        "refunded_orders",
        "refunded_value",
        "refunded_value_capped",
        "net_revenue_capped",
        "cancelled_orders",
        "margin",
        "margin_capped",
        "ltv_30d",
        "ltv_90d",
        "ltv_180d",
    }
)
"""Features that a refund changes."""


def with_sequential(
    experiment: Experiment,
    cohorts: Cohorts,
    reading_of: Callable[[str], Reading],
    metrics: Mapping[str, Mapping[str, MetricReport]],
) -> dict[str, dict[str, MetricReport]]:
    """Every metric with the sequence of its lift, as measured and winsorised."""
    found: dict[str, dict[str, MetricReport]] = {}
    for key, by_variant in metrics.items():
        reading = reading_of(key)
        shown = cohorts.of(reading.definition.horizon)
        final = cohorts.closed(final_after(experiment, reading.definition))
        plain = _Basis(experiment, cohorts, reading.definition, shown, final, reading.table)
        capped = _Basis(experiment, cohorts, reading.definition.winsorised, shown, final)
        found[key] = {}
        for variant, report in by_variant.items():
            if isinstance(reading.pairs.get(variant), Pair):
                figures = _with(report.figures, plain, variant)
                winsorised = report.winsorised and _with(report.winsorised, capped, variant)
                report = replace(report, figures=figures, winsorised=winsorised)
            found[key][variant] = report
    return found


def final_after(experiment: Experiment, definition: MetricDefinition) -> timedelta:
    """How long after its anchor a unit's figures of the metric no longer change."""
    is_refunded = not _REFUNDED.isdisjoint({*definition.numerator, *definition.denominator})
    return definition.horizon + (experiment.refund_window if is_refunded else timedelta())


def asymptotic_lift(lift: float, error: float, units: float) -> Sequential:
    """The asymptotic sequence of a lift with that standard error, over so many units of all arms."""
    half = multiplier(BEST_ETA * units / TUNED_UNITS) * error
    return Sequential(lift, lift - half, lift + half, ASYMPTOTIC, exact=False)


def lift_of_sums(table: Table, variant: str, control: str) -> Sequential | Reason:
    """The sequence under shares that do not follow outcomes."""
    arms = variant, control
    strata = set_strata(table, arms)
    if len(strata) == 1 and table.definition.kind is MetricKind.PROPORTION:
        return exact_lift(*(table.of(arm, strata[0].places) for arm in arms))
    places = [place for stratum in strata for place in stratum.places]
    pair = pair_of_arms(table, variant, control, by_epoch=False)
    if not isinstance(pair, Pair) or min(table.of(arm, places).units for arm in arms) < MIN_UNITS:
        return Reason.INSUFFICIENT_DATA
    error = math.sqrt(pair.treatment_posterior.variance + pair.control_posterior.variance)
    return asymptotic_lift(pair.lift_abs, error, sum(table.all_units[place] for place in places))


def lift_of_increments(table: Table, inverse: Inverse, variant: str, control: str) -> Sequential | Reason:
    """The sequence under shares that follow outcomes: the weighted sum of the AIPW increments so far."""
    if not inverse.is_known:
        return Reason.PROPENSITY_UNKNOWN
    rows = increments(table, inverse, variant, control)
    if min(table.of(arm, (row.place for row in rows)).units for arm in (variant, control)) < MIN_UNITS:
        return Reason.INSUFFICIENT_DATA
    weights = [row.weight * row.units for row in rows]
    whole = math.fsum(weights)
    lift = math.fsum(weight * row.lift for weight, row in zip(weights, rows, strict=True)) / whole
    variance = math.fsum(weight**2 * row.variance for weight, row in zip(weights, rows, strict=True))
    found = asymptotic_lift(lift, math.sqrt(variance) / whole, math.fsum(row.units for row in rows))
    return replace(found, method=f"{found.method} of AIPW increments")


def exact_lift(treatment: PairSums, control: PairSums) -> Sequential:
    """The exact sequence of a difference of rates within one candidate set."""
    counts = [Counts(arm.denominator, arm.numerator) for arm in (treatment, control)]
    low, high = lift_of_rates(*counts)
    return Sequential(treatment.ratio - control.ratio, low, high, "beta-binomial mixture", exact=True)


def _with(figures: Figures, basis: "_Basis", variant: str) -> Figures:
    return replace(figures, sequential=basis.lift(variant))


@dataclass(slots=True)
class _Basis:
    """One metric over the units whose figures are final, or over those of the report."""

    experiment: Experiment
    cohorts: Cohorts
    definition: MetricDefinition
    shown: Cohort
    final: Cohort
    table_shown: Table | None = None
    table_final: Table | None = None
    inverse: dict[bool, Inverse] = field(default_factory=dict[bool, Inverse])

    def lift(self, variant: str) -> Sequential:
        """The sequence of one treatment."""
        arms = variant, self.experiment.control.key
        is_final = self._is_all_final or min(self.final.total(arm, "units") for arm in arms) >= MIN_UNITS
        found = self._lift(variant, is_final=is_final)
        if isinstance(found, Reason):
            return Sequential(None, None, None, ASYMPTOTIC, exact=False, reason=found.value)
        return found if is_final else replace(found, method=found.method + OPEN, exact=False)

    @property
    def _is_all_final(self) -> bool:
        return len(self.final.cells) == len(self.shown.cells)

    def _lift(self, variant: str, *, is_final: bool) -> Sequential | Reason:
        control, table = self.experiment.control.key, self._table(is_final=is_final)
        if not is_adaptive(self.experiment):
            return lift_of_sums(table, variant, control)
        if is_final not in self.inverse:
            self.inverse[is_final] = self._inverse(table, (self.final if is_final else self.shown).cells)
        return lift_of_increments(table, self.inverse[is_final], variant, control)

    def _inverse(self, table: Table, cells: Sequence[Cell]) -> Inverse:
        if self.experiment.policy.kind is PolicyKind.CONTEXTUAL:
            return by_context(cells, self.definition)
        return by_shares(table, shares_by_place(cells, self.cohorts.epoch_shares))

    def _table(self, *, is_final: bool) -> Table:
        if is_final and not self._is_all_final:
            self.table_final = self.table_final or tabulate(self.final.cells, self.definition)
            return self.table_final
        self.table_shown = self.table_shown or tabulate(self.shown.cells, self.definition)
        return self.table_shown
