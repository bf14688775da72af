"""The read-out: from the cells of an experiment to its whole report, in closed form.

The cost depends on the number of cells (variants, segments, sets, days, epochs), never on how many
events they sum up. Nothing is random but the joint draws of `comparison`, which `seed` makes replayable.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime

import numpy as np

from experiments.analysis.checks import Leader, checks_of, units_per_week
from experiments.analysis.closed_form import metric_reports
from experiments.analysis.cohorts import Cohorts, day_counts, select
from experiments.analysis.comparison import Pair, oriented
from experiments.analysis.guardrails import GuardrailState, guardrail_report
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.reading import Reading, is_adaptive, read_metric
from experiments.analysis.report import (
    DayCount,
    GuardrailReport,
    MetricReport,
    Report,
    ValueRemaining,
    VariantReport,
    Verdict,
)
from experiments.analysis.verdict import VerdictSettings, leading_treatment, verdict_of
from experiments.model import Experiment
from experiments.posteriors.compare import value_remaining
from experiments.statistics import Cell

GuardrailStates = Mapping[tuple[str, str], GuardrailState]
"""(metric, variant) -> the state the allocator last recorded."""

_SETTINGS = VerdictSettings()


def read_out(
    experiment: Experiment,
    cells: Sequence[Cell],
    *,
    time_zone: str,
    now: datetime,
    matured: bool | None = None,
    segment: str | None = None,
    from_day: date | None = None,
    to_day: date | None = None,
    metric: str | None = None,
    share_of: Mapping[str, float] | None = None,
    states: GuardrailStates | None = None,
    seed: int = 0,
    settings: VerdictSettings = _SETTINGS,
) -> Report:
    """The report of an experiment at `now`, from its rollup cells.

    `matured` defaults to False for a fixed policy and True otherwise; `from_day` and `to_day` (included)
    select enrolment days; `metric` keeps one metric in the variants, while guardrails, verdict and
    checks still read theirs. `states` are the guardrail states on record: without them a state is what
    these figures alone would say. KeyError when `metric` is not a metric of the experiment.
    """
    definitions = metric_definitions(experiment)
    shown = definitions if metric is None else {metric: definitions[metric]}
    only_matured = is_adaptive(experiment) if matured is None else matured
    chosen = select(cells, segment=segment, from_day=from_day, to_day=to_day)
    cohorts = Cohorts(chosen, only_matured=only_matured, time_zone=time_zone, now=now)
    readings = _Readings(experiment, cohorts, definitions, seed, by_epoch=is_adaptive(experiment))
    guardrails = _on_record(_guardrails(experiment, cohorts, readings, {}), states or {})
    metrics = {
        key: metric_reports(
            experiment,
            cohorts.of(definition.horizon),
            readings.of(key),
            seed=seed,
            counts_open=is_adaptive(experiment) and not only_matured,
        )
        for key, definition in shown.items()
    }
    objective = readings.of(experiment.policy.objective)
    days = day_counts(chosen)
    remaining = _value_remaining(objective, days)
    verdicts = _verdicts(experiment, readings, guardrails, settings)
    return Report(
        experiment=experiment.key,
        currency=experiment.currency,
        generated_at=now,
        unit=experiment.unit.value,
        anchor=experiment.anchor.value,
        window_seconds=experiment.attribution_window.total_seconds(),
        matured=only_matured,
        from_day=from_day,
        to_day=to_day,
        segment=segment,
        objective=experiment.policy.objective,
        units_assigned=cohorts.all.overall("assigned"),
        units_exposed=cohorts.all.overall("exposed"),
        variants=_variants(experiment, cohorts, metrics, share_of or {}, verdicts),
        guardrails=guardrails,
        checks=checks_of(
            experiment,
            cohorts,
            only_matured=only_matured,
            now=now,
            objective=objective.table,
            remaining=remaining,
            leader=_leader(objective),
        ),
        days=days,
        verdict=verdicts[leading_treatment(experiment, objective)],
        value_remaining=remaining,
    )


def watch_guardrails(
    experiment: Experiment,
    cells: Sequence[Cell],
    *,
    time_zone: str,
    now: datetime,
    previous: GuardrailStates,
    at_floor: Collection[str] = (),
    seed: int = 0,
) -> tuple[GuardrailReport, ...]:
    """The guardrails' next states, for the allocator: on matured cohorts, whatever the policy.

    `previous` are the states on record (none at first), `at_floor` the variants held at their floor. As all
    the allocator reads: unweighted by epoch, capped totals. Stratified by epoch, a variant held at its floor
    is judged by its few units of many short epochs: of what harms by 8 %, kill 4 %, 62 % was gone by 100,000
    units, and 84 % is unweighted.
    """
    cohorts = Cohorts(cells, only_matured=True, time_zone=time_zone, now=now)
    definitions = {key: one.winsorised for key, one in metric_definitions(experiment).items()}
    readings = _Readings(experiment, cohorts, definitions, seed, by_epoch=False)
    return _guardrails(experiment, cohorts, readings, previous, at_floor, with_lift=False)


class _Readings:
    """Each metric read once, however many parts of the report look at it."""

    def __init__(
        self,
        experiment: Experiment,
        cohorts: Cohorts,
        definitions: Mapping[str, MetricDefinition],
        seed: int,
        *,
        by_epoch: bool,
    ) -> None:
        self._by_epoch = by_epoch
        self._experiment = experiment
        self._cohorts = cohorts
        self._definitions = definitions
        self._seed = seed
        self._read: dict[str, Reading] = {}

    def of(self, key: str) -> Reading:
        """The metric, stratified by candidate set, and by epoch where asked for."""
        if key not in self._read:
            definition = self._definitions[key]
            self._read[key] = read_metric(
                self._experiment,
                self._cohorts.of(definition.horizon),
                definition,
                by_epoch=self._by_epoch,
                seed=self._seed,
            )
        return self._read[key]


def _guardrails(
    experiment: Experiment,
    cohorts: Cohorts,
    readings: _Readings,
    previous: GuardrailStates,
    at_floor: Collection[str] = (),
    *,
    with_lift: bool = True,
) -> tuple[GuardrailReport, ...]:
    treatments = [variant.key for variant in experiment.variants if not variant.is_control]
    reports: list[GuardrailReport] = []
    for guardrail in experiment.guardrails:
        reading = readings.of(guardrail.metric)
        closed = cohorts.closed(reading.definition.horizon)
        for key in treatments:
            before = previous.get((guardrail.metric, key), GuardrailState.UNKNOWN)
            report = guardrail_report(
                guardrail,
                reading,
                key,
                closed,
                previous=before,
                is_at_floor=key in at_floor,
                with_lift=with_lift,
            )
            reports.append(report)
    return tuple(reports)


def _on_record(reports: Sequence[GuardrailReport], states: GuardrailStates) -> tuple[GuardrailReport, ...]:
    """The state that acts is the recorded one; these figures may already be newer."""
    return tuple(
        replace(report, state=str(states.get((report.metric, report.variant), report.state)))
        for report in reports
    )


def _variants(
    experiment: Experiment,
    cohorts: Cohorts,
    metrics: Mapping[str, Mapping[str, MetricReport]],
    share_of: Mapping[str, float],
    verdicts: Mapping[str, Verdict],
) -> tuple[VariantReport, ...]:
    return tuple(
        VariantReport(
            key=variant.key,
            is_control=variant.is_control,
            share=share_of.get(variant.key),
            assigned=cohorts.all.total(variant.key, "assigned"),
            exposed=cohorts.all.total(variant.key, "exposed"),
            units=cohorts.all.total(variant.key, "units"),
            metrics={key: by_variant[variant.key] for key, by_variant in metrics.items()},
            verdict=verdicts.get(variant.key),
        )
        for variant in experiment.variants
    )


def _verdicts(
    experiment: Experiment,
    readings: _Readings,
    guardrails: Sequence[GuardrailReport],
    settings: VerdictSettings,
) -> dict[str, Verdict]:
    objective, aov = readings.of(experiment.policy.objective), readings.of("aov")
    return {
        variant.key: verdict_of(experiment, variant.key, objective, aov, guardrails, settings)
        for variant in experiment.variants
        if not variant.is_control
    }


def _leader(objective: Reading) -> Leader | None:
    ranking = objective.ranking
    if ranking is None:
        return None
    key = max(ranking.prob_best, key=lambda arm: ranking.prob_best[arm])
    return Leader(key, ranking.expected_loss[key])


def _value_remaining(objective: Reading, days: Sequence[DayCount]) -> ValueRemaining | None:
    """What another arm may hold over the leader; arms compared as independent, first pair's control."""
    leader = _leader(objective)
    pairs = [pair for pair in objective.pairs.values() if isinstance(pair, Pair)]
    if leader is None or not pairs:
        return None
    arms = [pairs[0].control_posterior, *(pair.treatment_posterior for pair in pairs)]
    per_unit = float(np.float64(value_remaining([oriented(arm, objective.definition.sign) for arm in arms])))
    weekly = units_per_week(days)
    return ValueRemaining(leader.key, per_unit, weekly, per_unit * weekly)
