"""What stands beside a metric's figures: the same lift with less noise, or told another way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from experiments.analysis.closed_form import figures
from experiments.analysis.cohorts import Cohorts
from experiments.analysis.crossover import reading_without_crossover
from experiments.analysis.cuped import (
    Covariate,
    covariate_of,
    cuped_lift,
    post_stratified_lift,
    segment_table,
)
from experiments.analysis.expected_final import BOOKED, REFUNDED, ExpectedFinal
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, Reason, is_adaptive, read_metric
from experiments.analysis.refund_curve import refunds_come
from experiments.analysis.report import AdjustedLift, FinalFigures, Interval, MetricReport
from experiments.analysis.strata import tabulate
from experiments.model import Experiment

Metrics = Mapping[str, Mapping[str, MetricReport]]
"""Metric -> variant -> its report."""


def with_figures_beside(
    experiment: Experiment,
    cohorts: Cohorts,
    reading_of: Callable[[str], Reading],
    metrics: Metrics,
    *,
    seed: int,
) -> dict[str, dict[str, MetricReport]]:
    """Every metric's reports with all that can be had beside the figures; the rest is left out."""
    beside = _Beside(experiment, cohorts, [reading_of(key).definition for key in metrics], seed)
    return {key: beside.shown(reading_of(key), reports) for key, reports in metrics.items()}


@dataclass(slots=True)
class _Beside:
    experiment: Experiment
    cohorts: Cohorts
    definitions: list[MetricDefinition]
    seed: int
    covariates: dict[timedelta, Covariate] = field(default_factory=dict[timedelta, Covariate])
    final: ExpectedFinal | None = field(init=False, default=None)
    all_final: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        if not any(one.key in REFUNDED for one in self.definitions):
            return
        cohorts, experiment = self.cohorts, self.experiment
        counted = cohorts.of(experiment.attribution_window)
        final = cohorts.closed(experiment.attribution_window + experiment.refund_window)
        refunded = any(cell.moments.sum("refunded_orders") for cell in cohorts.all.cells)
        self.all_final = not refunded or len(final.cells) >= len(counted.cells)
        if not self.all_final:
            come = refunds_come(experiment, cohorts.all.cells, time_zone=cohorts.time_zone, now=cohorts.now)
            self.final = None if come is None else ExpectedFinal(counted, come)

    def shown(self, reading: Reading, reports: Mapping[str, MetricReport]) -> dict[str, MetricReport]:
        """The reports of one metric's variants."""
        cuped, strata = self._cuped(reading), self._post_stratified(reading)
        booked, uncrossed = self._booked(reading), self._without_crossover(reading)
        return {
            key: replace(
                report,
                booked=figures(booked, key) if booked else None,
                expected_final=self._final(reading, key),
                without_crossover=figures(uncrossed, key) if uncrossed else None,
                cuped=cuped.get(key),
                post_stratified=strata.get(key),
            )
            for key, report in reports.items()
        }

    @property
    def _by_epoch(self) -> bool:
        return is_adaptive(self.experiment)

    def _cuped(self, reading: Reading) -> dict[str, AdjustedLift]:
        horizon = reading.definition.horizon
        if horizon not in self.covariates:
            self.covariates[horizon] = covariate_of(self.cohorts.of(horizon).cells, self.definitions)
        covariate = self.covariates[horizon]
        return {key: cuped_lift(reading, covariate, key, by_epoch=self._by_epoch) for key in reading.pairs}

    def _post_stratified(self, reading: Reading) -> dict[str, AdjustedLift]:
        """Of the metrics that decide: summing up the cells a second time for all would cost as much again."""
        decide = {self.experiment.policy.objective, *(one.metric for one in self.experiment.guardrails)}
        if reading.definition.key not in decide:
            return {}
        table = segment_table(self.cohorts.of(reading.definition.horizon).cells, reading.definition)
        if table is None:
            return {}
        return {
            key: post_stratified_lift(reading, table, key, by_epoch=self._by_epoch) for key in reading.pairs
        }

    def _booked(self, reading: Reading) -> Reading | None:
        """The metric before any refund; None where none has come, or where it would be the same figure."""
        parts = BOOKED.get(reading.definition.key)
        if parts is None:
            return None
        cohort = self.cohorts.of(reading.definition.horizon)
        definition = replace(reading.definition, **parts, capped=None, prior=None)
        table = tabulate(cohort.cells, definition)
        if table.sums == reading.table.sums:
            return None
        return read_metric(
            self.experiment, cohort, definition, by_epoch=self._by_epoch, seed=self.seed, table=table
        )

    def _final(self, reading: Reading, variant: str) -> FinalFigures | None:
        """None where no refund is to come, and where none ever came: there is nothing to expect them from."""
        if reading.definition.key not in REFUNDED or self.all_final:
            return None
        if self.final is None:
            nothing = Interval(reason=Reason.INSUFFICIENT_DATA.value)
            return FinalFigures(None, None, None, nothing, nothing, None, None, None, nothing.reason)
        return self.final.figures(reading, variant, by_epoch=self._by_epoch)

    def _without_crossover(self, reading: Reading) -> Reading | None:
        if reading.definition.key != self.experiment.policy.objective:
            return None
        return reading_without_crossover(self.experiment, self.cohorts, reading, seed=self.seed)
