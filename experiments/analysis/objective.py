"""The posteriors the allocator compares: one per variant of a candidate set, on its objective.

Unweighted likelihood of matured cells (a fixed policy also uses open ones; so does one with a delay model,
corrected for their age), cohort days discounted when the policy says so, unit totals capped when caps are
frozen. For candidate set G the cells of every set
that contains G inform it, standardised over those sets with weights common to all arms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from experiments.analysis.cohorts import Cohort, cohort_of
from experiments.analysis.comparison import oriented
from experiments.analysis.development import development_of
from experiments.analysis.estimates import Estimate, before_data, unstratified
from experiments.analysis.hurdle import HISTOGRAM, REFUSED, Signed, hurdle_estimates, sizes_by_atom
from experiments.analysis.maturity import discount, matured
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.reading import Reason, is_adaptive
from experiments.analysis.strata import Table, parts_of, set_strata, tabulate
from experiments.analysis.sums import Atom
from experiments.model import DelayHandling, Experiment, Prior, TotalsModel
from experiments.posteriors.protocol import Posterior
from experiments.statistics import Cell


@dataclass(frozen=True, slots=True)
class AllocationPosteriors:
    """Posteriors by variant, or the reason why there are none (shares are then held).

    `posteriors` are of the objective as measured, `better` of the same oriented so that more is better
    (what P(best) compares); `units` are the units behind each: discounted ones, and those
    of open cohorts, count in part. `methods` say by which model each was formed,
    and with a delay model from which units.
    """

    objective: str
    posteriors: Mapping[str, Posterior]
    better: Mapping[str, Posterior]
    units: Mapping[str, float]
    reason: str | None = None
    detail: str | None = None
    methods: Mapping[str, str] = field(default_factory=dict[str, str])


def allocation_posteriors(
    experiment: Experiment,
    cells: Sequence[Cell],
    candidates: Sequence[str],
    *,
    time_zone: str,
    now: datetime,
    objective: str | None = None,
    priors: Mapping[str, Prior] | None = None,
) -> AllocationPosteriors:
    """The posterior of the objective for every candidate, or none of them with a reason.

    `objective` defaults to the policy's; `priors` (of a warm start) replace the default one of their arms,
    and are the posterior of an arm without units. `cost_unknown` and `unconverted` hold the shares when any
    order of a candidate lacks its cost or rate; `insufficient_data` when some candidate has no posterior.
    """
    key = objective or experiment.policy.objective
    definition = metric_definitions(experiment)[key]
    usable = [cell for cell in cells if cell.candidates.issuperset(candidates)]
    development = None
    if is_adaptive(experiment):
        development = development_of(experiment, cells, definition, time_zone=time_zone, now=now)
    if is_adaptive(experiment) and development is None:
        usable = matured(usable, definition.horizon, time_zone, now)
    cohort = cohort_of(usable)
    held = _held(definition, cohort, candidates)
    if held is not None:
        reason, detail = held
        return AllocationPosteriors(key, {}, {}, {}, reason.value, detail)
    weight = _discounting(experiment, time_zone, now)
    adjust = None if development is None else development.adjusted
    table = tabulate(usable, definition.winsorised, weight, adjust)
    units = {arm: table.of(arm, table.all_units).units for arm in candidates}
    if experiment.policy.model is TotalsModel.HURDLE and key in HISTOGRAM:
        found = _hurdled(table, sizes_by_atom(usable, definition, weight), candidates)
    else:
        found = _estimates(table, candidates, priors or {})
    posteriors = {
        arm: estimate.posterior for arm, estimate in found.items() if estimate.posterior is not None
    }
    basis = ""
    if experiment.policy.delay is DelayHandling.MODEL:
        basis = "; closed windows, no delay curve yet" if development is None else "; all units by age"
    methods = {arm: estimate.method + basis for arm, estimate in found.items()}
    short = [arm for arm in candidates if arm not in posteriors]
    if short:
        detail = f"too little data on {', '.join(short)}"
        return AllocationPosteriors(key, {}, {}, units, Reason.INSUFFICIENT_DATA.value, detail)
    better = {arm: oriented(posterior, definition.sign) for arm, posterior in posteriors.items()}
    return AllocationPosteriors(key, posteriors, better, units, methods=methods)


def _hurdled(table: Table, sizes: Mapping[Atom, Signed], candidates: Sequence[str]) -> dict[str, Estimate]:
    """The hurdles of the arms, or their Student-t where the law of the sizes is refused."""
    found = hurdle_estimates(table, sizes, candidates, set_strata(table, candidates))
    if found is not None:
        return found
    plain = _estimates(table, candidates, {})
    return {arm: replace(estimate, method=REFUSED) for arm, estimate in plain.items()}


def _estimates(table: Table, candidates: Sequence[str], priors: Mapping[str, Prior]) -> dict[str, Estimate]:
    """The estimates that can be had; an arm with a prior and no units does not choose the strata."""
    informed = [arm for arm in candidates if arm not in priors or table.of(arm, table.all_units).n]
    strata = set_strata(table, informed) if informed else []
    found: dict[str, Estimate] = {}
    for arm in candidates:
        if arm not in informed:
            start = before_data(priors[arm])
            found[arm] = Estimate(start.mean, start, "prior")
            continue
        definition = replace(table.definition, prior=priors.get(arm, table.definition.prior))
        estimate = unstratified(definition, parts_of(table, arm, strata))
        if estimate is not None:
            found[arm] = estimate
    return found


def _discounting(experiment: Experiment, time_zone: str, now: datetime) -> Callable[[Cell], float] | None:
    half_life = experiment.policy.discount_half_life
    if half_life is None:
        return None
    by_day: dict[date, float] = {}

    def weight(cell: Cell) -> float:
        day = cell.key.day
        if day not in by_day:
            by_day[day] = discount(day, half_life, time_zone, now)
        return by_day[day]

    return weight


def _held(
    definition: MetricDefinition, cohort: Cohort, candidates: Sequence[str]
) -> tuple[Reason, str] | None:
    for feature, reason, text in (
        (definition.unconverted, Reason.UNCONVERTED, "no exchange rate"),
        (definition.unknown_cost, Reason.COST_UNKNOWN, "no known cost"),
    ):
        orders = sum(cohort.total(arm, feature) for arm in candidates) if feature is not None else 0
        if orders:
            return reason, f"{orders} orders have {text}"
    return None
