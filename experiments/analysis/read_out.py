"""The read-out: from the cells of an experiment to its whole report, in closed form.

The cost depends on the number of cells (variants, segments, sets, days, epochs), never on how many
events they sum up. Nothing is random but the joint draws of `comparison`, which `seed` makes replayable.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from experiments.allocation.features import Columns
from experiments.allocation.stopping import StopFigures, decide, has_rule, stop_figures
from experiments.allocation.warm_start import PastExperiment
from experiments.analysis.adaptive import methods_check, with_aipw
from experiments.analysis.aipw import read_shown, unpaired
from experiments.analysis.beside import with_figures_beside
from experiments.analysis.checks import checks_of
from experiments.analysis.checks_outcomes import LateEvents
from experiments.analysis.closed_form import metric_reports
from experiments.analysis.cohorts import Cohorts, day_counts, select, units_per_week
from experiments.analysis.comparison import Pair, oriented
from experiments.analysis.context import same_contexts
from experiments.analysis.expected_final import REFUNDED
from experiments.analysis.guardrails import GuardrailState, guardrail_report, prob_beyond
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.priors import with_given_priors, with_priors
from experiments.analysis.reading import Reading, is_adaptive, read_metric
from experiments.analysis.report import (
    Check,
    DayCount,
    GuardrailReport,
    MetricReport,
    Report,
    ValueRemaining,
    VariantReport,
    Verdict,
)
from experiments.analysis.sequential_lifts import with_sequential
from experiments.analysis.served import EpochShares
from experiments.analysis.strata import by_segment, tabulate
from experiments.analysis.verdict import VerdictReadings, leading_treatment, verdict_of
from experiments.model import Experiment, PolicyKind
from experiments.posteriors.compare import value_remaining
from experiments.posteriors.protocol import Posterior
from experiments.statistics import Cell

GuardrailStates = Mapping[tuple[str, str], GuardrailState]
"""(metric, variant) -> the state the allocator last recorded."""


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
    epoch_shares: EpochShares | None = None,
    stop: Mapping[str, Any] | None = None,
    late: LateEvents | None = None,
    past: Mapping[str, PastExperiment] | None = None,
    seed: int = 0,
) -> Report:
    """The report of an experiment at `now`, from its rollup cells.

    `matured` defaults to False for a fixed policy and True otherwise; `from_day` and `to_day` (included)
    select enrolment days; `metric` keeps one metric in the variants, while guardrails, verdict and
    checks still read theirs. `states` are the guardrail states and `stop` the stop rule's state on record:
    without them a state is what these figures alone would say. `epoch_shares` are the shares that units were
    assigned with (`served.epoch_shares`): what needs propensities is told where they are known. `past`
    are the experiments that the document's `priors` name. KeyError when `metric` is not a metric of the
    experiment.
    """
    definitions, lacking = with_given_priors(experiment, metric_definitions(experiment), past or {}, now)
    shown = definitions if metric is None else {metric: definitions[metric]}
    only_matured = is_adaptive(experiment) if matured is None else matured
    chosen = select(cells, segment=segment, from_day=from_day, to_day=to_day)
    compared = _compared(experiment, chosen)
    cohorts = Cohorts(
        compared, only_matured=only_matured, time_zone=time_zone, now=now, epoch_shares=epoch_shares or {}
    )
    readings = _Readings(experiment, cohorts, definitions, seed, for_report=True)
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
    metrics = with_figures_beside(experiment, cohorts, readings.by_own_units, metrics, seed=seed)
    methods: list[Check] = []
    if is_adaptive(experiment) and experiment.policy.kind is not PolicyKind.CONTEXTUAL:
        metrics = with_aipw(
            experiment, cohorts, readings.of, metrics, seed=seed, counts_open=not only_matured
        )
        methods.append(methods_check(experiment, cohorts, readings.of, seed=seed))
    metrics = with_sequential(experiment, cohorts, readings.of, metrics)
    metrics = with_priors(experiment, cohorts, readings.of, metrics, lacking, seed=seed)
    objective = readings.of(experiment.policy.objective)
    days = day_counts(chosen)
    remaining = _value_remaining(objective, days)
    verdicts = _verdicts(experiment, readings, guardrails, units_per_week(days))
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
            readings.by_own_units,
            only_matured=only_matured,
            stop=stop or _stop(experiment, objective, days, now),
            late=late,
            seed=seed,
        )
        + tuple(methods),
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
    units, and 84 % is unweighted. But what refunds still to come will change is compared within epochs: a
    variant that lost its share has older units, more of whose refunds have come, and would be killed for it.
    And nothing is killed where the comparison within epochs would not have it: units of a season in which all
    buy less are not a variant's fault.
    """
    compared = _compared(experiment, cells)
    cohorts = Cohorts(compared, only_matured=True, time_zone=time_zone, now=now)
    definitions = {key: one.winsorised for key, one in metric_definitions(experiment).items()}
    readings = _Readings(experiment, cohorts, definitions, seed, for_report=False)
    found = _guardrails(experiment, cohorts, readings, previous, at_floor, with_lift=False)
    margins = {guardrail.metric: guardrail.throttle for guardrail in experiment.guardrails}
    return tuple(
        replace(report, state=GuardrailState.THROTTLE.value)
        if report.state == GuardrailState.KILL.value
        and previous.get((report.metric, report.variant)) is not GuardrailState.KILL
        and not readings.is_beyond_within_epochs(report.metric, report.variant, margins[report.metric])
        else report
        for report in found
    )


def _compared(experiment: Experiment, cells: Sequence[Cell]) -> Sequence[Cell]:
    """Cells whose units had the same chances: where shares go by segment, those of one segment."""
    return by_segment(cells) if experiment.policy.kind is PolicyKind.SEGMENT else cells


class _Readings:
    """Each metric read once, however many parts of the report look at it."""

    def __init__(
        self,
        experiment: Experiment,
        cohorts: Cohorts,
        definitions: Mapping[str, MetricDefinition],
        seed: int,
        *,
        for_report: bool,
    ) -> None:
        self._for_report = for_report
        self._experiment = experiment
        self._cohorts = cohorts
        self._definitions = definitions
        self._seed = seed
        self._read: dict[str, Reading] = {}

    def of(self, key: str) -> Reading:
        """The metric as a report shows it, or as the allocator reads it: by candidate set."""
        if key not in self._read:
            definition = self._definitions[key]
            cohort = self._cohorts.of(definition.horizon)
            experiment, table = self._experiment, tabulate(cohort.cells, definition)
            if self._for_report:
                self._read[key] = read_shown(experiment, cohort, definition, seed=self._seed, table=table)
            else:
                if experiment.policy.kind is PolicyKind.CONTEXTUAL:
                    table = same_contexts(table, cohort.cells, Columns(experiment.policy.features))
                is_open = key in REFUNDED and is_adaptive(experiment)
                by_epoch = is_open and experiment.policy.kind is not PolicyKind.CONTEXTUAL
                self._read[key] = read_metric(
                    experiment, cohort, definition, by_epoch=by_epoch, seed=self._seed, table=table
                )
        return self._read[key]

    def is_beyond_within_epochs(self, key: str, variant: str, margin: float) -> bool:
        """Whether a variant is more likely than not beyond a margin when compared within epochs.

        True where it cannot be compared so: by context, or where shares do not follow results.
        """
        experiment, definition = self._experiment, self._definitions[key]
        if not is_adaptive(experiment) or experiment.policy.kind is PolicyKind.CONTEXTUAL:
            return True
        cohort = self._cohorts.of(definition.horizon)
        pair = read_metric(experiment, cohort, definition, by_epoch=True, seed=self._seed).pairs[variant]
        return not isinstance(pair, Pair) or prob_beyond(definition, pair, margin) >= 0.5

    def by_own_units(self, key: str) -> Reading:
        """The metric for what compares the arms' own units: by context those are other shoppers."""
        is_by_context = self._experiment.policy.kind is PolicyKind.CONTEXTUAL
        return unpaired(self.of(key)) if is_by_context else self.of(key)


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
    weekly: float,
) -> dict[str, Verdict]:
    keys = (experiment.policy.objective, "aov", "revenue_per_unit", "margin_per_unit")
    looked_at = VerdictReadings(*(readings.of(key) for key in keys), units_per_week=weekly)
    return {
        variant.key: verdict_of(experiment, variant.key, looked_at, guardrails)
        for variant in experiment.variants
        if not variant.is_control
    }


def _arms(objective: Reading) -> dict[str, Posterior]:
    """The arms as independent, control (of the first pair) first; empty while nothing can be compared."""
    pairs = {key: pair for key, pair in objective.pairs.items() if isinstance(pair, Pair)}
    if objective.ranking is None or not pairs:
        return {}
    control = next(iter(pairs.values())).control_posterior
    return {objective.control: control} | {key: pair.treatment_posterior for key, pair in pairs.items()}


def _value_remaining(objective: Reading, days: Sequence[DayCount]) -> ValueRemaining | None:
    """What another arm may hold over the leader."""
    arms = _arms(objective)
    if not arms:
        return None
    assert objective.ranking is not None
    best = objective.ranking.prob_best
    better = [oriented(arm, objective.definition.sign) for arm in arms.values()]
    per_unit, weekly = float(value_remaining(better)), units_per_week(days)
    return ValueRemaining(max(best, key=lambda arm: best[arm]), per_unit, weekly, per_unit * weekly)


def _stop(
    experiment: Experiment, objective: Reading, days: Sequence[DayCount], now: datetime
) -> Mapping[str, Any] | None:
    """What the report's own figures say of the stop rule."""
    if not has_rule(experiment.stop_rule):
        return None
    arms, sign = _arms(objective), objective.definition.sign
    figures: StopFigures | str = "insufficient_data"
    if arms:
        better = {key: oriented(arm, sign) for key, arm in arms.items()}
        figures = stop_figures(
            arms,
            better,
            objective.control,
            rope=experiment.stop_rule.rope,
            sign=sign,
            units_per_week=units_per_week(days),
        )
    decision = decide(experiment, figures, None, (), promoted=None, now=now)
    return None if decision is None else decision.to_json()
