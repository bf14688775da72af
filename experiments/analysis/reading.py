"""All that can be said of one metric by one method: every variant's figure, pairs, ranking.

This is the join of the pieces: which cells count, why a figure cannot be had, how it is standardised.
The report, the guardrails and the verdict all read the same `Reading`, so they cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from experiments.analysis.cohorts import Cohort
from experiments.analysis.comparison import Pair, Ranking, pair_of, prob_beats, rank
from experiments.analysis.estimates import Estimate, stratified, unstratified
from experiments.analysis.metrics import MetricDefinition, lacks_offer
from experiments.analysis.strata import Table, epoch_strata, parts_of, plain_part, set_strata, tabulate
from experiments.model import Anchor, Experiment, PolicyKind


class Reason(StrEnum):
    """Why a figure is null."""

    NO_OFFER = "no_offer"
    NO_CONTROL_EXPOSURE = "no_control_exposure"
    NOT_COMPARABLE = "not_comparable"
    PROPENSITY_UNKNOWN = "propensity_unknown"
    COST_UNKNOWN = "cost_unknown"
    UNCONVERTED = "unconverted"
    INSUFFICIENT_DATA = "insufficient_data"
    IS_CONTROL = "is_control"
    CONTROL_NEAR_ZERO = "control_near_zero"
    NO_PRE_PERIOD = "no_pre_period"


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric read by one method; a `Reason` stands where something cannot be had.

    `own` is each variant's own figure, `pairs` each treatment against control over common strata,
    `ranking` None when no treatment can be compared.
    """

    definition: MetricDefinition
    table: Table
    control: str
    own: Mapping[str, Estimate | Reason]
    pairs: Mapping[str, Pair | Reason]
    ranking: Ranking | None

    def prob_beats(self, variant: str) -> float | None:
        """P(variant better than control); None where there is no comparison."""
        pair = self.pairs.get(variant)
        return prob_beats(pair, self.definition.sign) if isinstance(pair, Pair) else None


def is_adaptive(experiment: Experiment) -> bool:
    """Whether shares follow outcomes, so that figures need stratifying by epoch."""
    return experiment.policy.kind is not PolicyKind.FIXED


def read_metric(
    experiment: Experiment,
    cohort: Cohort,
    definition: MetricDefinition,
    *,
    by_epoch: bool,
    seed: int,
    table: Table | None = None,
) -> Reading:
    """Read one metric from the cohort that counts for it.

    `by_epoch` stratifies by epoch besides candidate set; `seed` drives the joint draws that are needed
    only when treatments were candidates in different sets; `table` is the metric's, when already summed.
    """
    if table is None:
        table = tabulate(cohort.cells, definition)
    control = experiment.control.key
    missing = {v.key: missing_reason(experiment, cohort, definition, v.key) for v in experiment.variants}
    # Whom a variant was shown to depends on the context: its units are not the control's.
    is_by_context = by_epoch and experiment.policy.kind is PolicyKind.CONTEXTUAL
    own: dict[str, Estimate | Reason] = {}
    pairs: dict[str, Pair | Reason] = {}
    for variant in experiment.variants:
        key = variant.key
        own[key] = missing[key] or _own(table, key, by_epoch=by_epoch) or Reason.INSUFFICIENT_DATA
        if key != control:
            why = missing[control] or missing[key] or (Reason.NOT_COMPARABLE if is_by_context else None)
            pairs[key] = why or pair_of_arms(table, key, control, by_epoch=by_epoch)
    comparable = {key: pair for key, pair in pairs.items() if isinstance(pair, Pair)}
    ranking = rank(comparable, control, sign=definition.sign, seed=seed) if comparable else None
    return Reading(definition, table, control, own, pairs, ranking)


def _own(table: Table, variant: str, *, by_epoch: bool) -> Estimate | None:
    if by_epoch:
        return stratified(
            table.definition, parts_of(table, variant, epoch_strata(table, (variant,)), with_prior=False)
        )
    return unstratified(table.definition, [plain_part(table, variant)])


def pair_of_arms(table: Table, variant: str, control: str, *, by_epoch: bool) -> Pair | Reason:
    """Treatment and control over their common strata, or why there is no comparison."""
    arms = (variant, control)
    strata = epoch_strata(table, arms) if by_epoch else set_strata(table, arms)
    if not strata:
        has_units = all(table.size(arm, table.all_units) > 0 for arm in arms)
        return Reason.NOT_COMPARABLE if has_units else Reason.INSUFFICIENT_DATA
    estimate = stratified if by_epoch else unstratified
    pair = pair_of(
        *(estimate(table.definition, parts_of(table, arm, strata, with_prior=not by_epoch)) for arm in arms)
    )
    return pair or Reason.INSUFFICIENT_DATA


def missing_reason(
    experiment: Experiment, cohort: Cohort, definition: MetricDefinition, variant: str
) -> Reason | None:
    """Why the variant cannot have this metric whatever its figures; None when it can."""
    if lacks_offer(experiment, definition, variant):
        return Reason.NO_OFFER
    if definition.unconverted is not None and cohort.total(variant, definition.unconverted):
        return Reason.UNCONVERTED
    if definition.unknown_cost is not None and cohort.total(variant, definition.unknown_cost):
        return Reason.COST_UNKNOWN
    needs_exposure = experiment.anchor is Anchor.EXPOSURE or definition.needs_offer
    is_unseen = cohort.total(variant, "assigned") > 0 and not cohort.total(variant, "exposed")
    if needs_exposure and variant == experiment.control.key and is_unseen:
        return Reason.NO_CONTROL_EXPOSURE
    return None
