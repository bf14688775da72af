"""A reading turned into the report's figures: values, credible intervals, lifts, probabilities."""

from experiments.analysis.aipw import read_shown, unpaired
from experiments.analysis.cohorts import Cohort
from experiments.analysis.comparison import Pair, prob_beats
from experiments.analysis.estimates import Estimate
from experiments.analysis.reading import Reading, Reason, is_adaptive, read_metric
from experiments.analysis.report import CI_PROB, Figures, Interval, MetricReport
from experiments.analysis.strata import tabulate
from experiments.model import Experiment, PolicyKind
from experiments.posteriors.compare import difference, ratio_minus_one
from experiments.posteriors.protocol import Posterior

OPEN_WINDOWS = ", open windows counted"
NO_LIFT = Interval(reason=Reason.IS_CONTROL.value)


def metric_reports(
    experiment: Experiment, cohort: Cohort, reading: Reading, *, seed: int, counts_open: bool = False
) -> dict[str, MetricReport]:
    """One metric of every variant, with the naive and the winsorised figures where they differ.

    `counts_open` labels every figure: units whose window is still open count, though shares follow outcomes.
    """
    definition = reading.definition
    naive = winsorised = None
    if is_adaptive(experiment):
        naive = read_metric(experiment, cohort, definition, by_epoch=False, seed=seed, table=reading.table)
        if experiment.policy.kind is PolicyKind.CONTEXTUAL:
            naive = unpaired(naive)
    capped = definition.winsorised
    # Capped totals equal the raw ones while there is no cap: then there is nothing to add.
    table = tabulate(cohort.cells, capped) if capped is not definition else reading.table
    if table.sums != reading.table.sums:
        winsorised = read_shown(experiment, cohort, capped, seed=seed, table=table)
    reports: dict[str, MetricReport] = {}
    for variant in experiment.variants:
        key = variant.key
        sums = reading.table.of(key, reading.table.all_units)
        reports[key] = MetricReport(
            figures=figures(reading, key, counts_open=counts_open),
            numerator=sums.numerator,
            denominator=sums.denominator,
            naive=figures(naive, key, counts_open=counts_open) if naive else None,
            winsorised=figures(winsorised, key, counts_open=counts_open) if winsorised else None,
        )
    return reports


def figures(reading: Reading, variant: str, *, counts_open: bool = False) -> Figures:
    """The figures of one variant: its own, and against control where there is a comparison."""
    own = reading.own[variant]
    pair = reading.pairs.get(variant)
    value, interval, method, reason = _own(own, reading.definition.support)
    lift_abs, lift_rel = (NO_LIFT, NO_LIFT) if pair is None else _lifts(pair)
    ranking = reading.ranking
    if reason is None and isinstance(pair, Reason):
        reason = pair.value
    return Figures(
        value=value,
        ci_low=interval[0],
        ci_high=interval[1],
        lift_abs=lift_abs,
        lift_rel=lift_rel,
        prob_best=ranking.prob_best.get(variant) if ranking else None,
        prob_beats_control=prob_beats(pair, reading.definition.sign) if isinstance(pair, Pair) else None,
        expected_loss=ranking.expected_loss.get(variant) if ranking else None,
        method=f"{method}{OPEN_WINDOWS}" if method is not None and counts_open else method,
        reason=reason,
    )


def _own(
    own: Estimate | Reason, support: tuple[float, float]
) -> tuple[float | None, tuple[float | None, float | None], str | None, str | None]:
    if isinstance(own, Reason):
        return None, (None, None), None, own.value
    if own.posterior is None:
        return own.figure, (None, None), own.method, Reason.INSUFFICIENT_DATA.value
    low, high = equal_tailed(own.posterior)
    # A Normal or Student-t posterior of a rate may reach beyond what a rate can be.
    return own.figure, (max(low, support[0]), min(high, support[1])), own.method, None


def equal_tailed(posterior: Posterior) -> tuple[float, float]:
    """The central 95 % credible interval of a posterior."""
    tail = (1.0 - CI_PROB) / 2.0
    return float(posterior.ppf(tail)), float(posterior.ppf(1.0 - tail))


def _lifts(pair: Pair | Reason) -> tuple[Interval, Interval]:
    if not isinstance(pair, Pair):
        missing = Interval(reason=pair.value)
        return missing, missing
    low, high = difference(pair.treatment_posterior, pair.control_posterior).interval(CI_PROB)
    absolute = Interval(pair.lift_abs, float(low), float(high))
    change = ratio_minus_one(pair.treatment_posterior, pair.control_posterior)
    if change is None or pair.lift_rel is None:
        return absolute, Interval(reason=Reason.CONTROL_NEAR_ZERO.value)
    low, high = change.interval(CI_PROB)
    return absolute, Interval(pair.lift_rel, float(low), float(high))
