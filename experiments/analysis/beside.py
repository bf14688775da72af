"""What stands beside a metric's figures: the same lift with less noise, or told another way."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from experiments.analysis.cohorts import Cohorts
from experiments.analysis.cuped import (
    Covariate,
    covariate_of,
    cuped_lift,
    post_stratified_lift,
    segment_table,
)
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, is_adaptive
from experiments.analysis.report import MetricReport
from experiments.model import Experiment

Metrics = Mapping[str, Mapping[str, MetricReport]]
"""Metric -> variant -> its report."""


def with_adjusted_lifts(
    experiment: Experiment,
    cohorts: Cohorts,
    definitions: Mapping[str, MetricDefinition],
    reading_of: Callable[[str], Reading],
    metrics: Metrics,
) -> dict[str, dict[str, MetricReport]]:
    """Every metric with its lift by CUPED; those a decision hangs on with the post-stratified one too."""
    decides = {experiment.policy.objective, *(guardrail.metric for guardrail in experiment.guardrails)}
    covariates: dict[timedelta, Covariate] = {}
    by_epoch = is_adaptive(experiment)
    found: dict[str, dict[str, MetricReport]] = {}
    for key, by_variant in metrics.items():
        reading, horizon = reading_of(key), definitions[key].horizon
        cells = cohorts.of(horizon).cells
        if horizon not in covariates:
            covariates[horizon] = covariate_of(cells, (definitions[one] for one in metrics))
        table = segment_table(cells, reading.definition) if key in decides else None
        found[key] = {}
        for variant, report in by_variant.items():
            if variant != reading.control:
                report = replace(
                    report,
                    cuped=cuped_lift(reading, covariates[horizon], variant, by_epoch=by_epoch),
                    post_stratified=table
                    and post_stratified_lift(reading, table, variant, by_epoch=by_epoch),
                )
            found[key][variant] = report
    return found
