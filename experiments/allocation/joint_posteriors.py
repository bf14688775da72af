"""From cells to the joint posterior of a candidate set: goal, guardrails, and how they go together.

The margins are those the allocator reads anyway: unweighted likelihood of the cells that count, by
candidate set, and under a contextual policy over the contexts of all units (`analysis.context`). The
correlation of two estimates a and b of one variant is that of their influences,

    cov(a, b) = sum over sets s of W_as W_bs / (n_as n_bs) sum over units of w_a w_b e_a e_b,

e = (x - R y) / ybar centred within the set, W the set's weight, n the variant's units there, w a unit's
weight in the likelihood (a discount; 0 where the metric's window has not closed). The sums over units are
the cross-products kept in the cells, so nothing is estimated: with equal weights and one set it is the
plain correlation of e_a and e_b between units. As a Gram matrix it is never negative.

Source: van der Vaart, Asymptotic Statistics (1998), 3.1 (delta method), 10.2 (Bernstein-von Mises).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import repeat

import numpy as np

from experiments.allocation.features import Columns
from experiments.allocation.joint import Joint, JointArm, Limit
from experiments.analysis.cohorts import cohort_of
from experiments.analysis.context import same_contexts
from experiments.analysis.estimates import unstratified
from experiments.analysis.maturity import discount, matured
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.objective import AllocationPosteriors
from experiments.analysis.reading import is_adaptive, missing_reason
from experiments.analysis.strata import MIN_UNITS, parts_of, set_strata, tabulate
from experiments.model import Direction, Experiment, MetricKind, PolicyKind
from experiments.posteriors.protocol import FloatArray, Posterior
from experiments.statistics import Cell, product_name


@dataclass(frozen=True, slots=True)
class _Look:
    """One metric as the allocator reads it: which cells with which weight, and each set's weight."""

    definition: MetricDefinition
    weights: Mapping[int, float]  # by place in the list of cells
    sets: Mapping[int, float]
    posteriors: Mapping[str, Posterior]


def joint_of(
    experiment: Experiment,
    cells: Sequence[Cell],
    candidates: Sequence[str],
    found: AllocationPosteriors,
    *,
    seed: int,
    time_zone: str,
    now: datetime,
) -> Joint | None:
    """The joint posterior of the candidates, or None while no guardrail can be read of any of them.

    `found` are the posteriors of the objective. A guardrail is read of the variants with 10 units or more
    that can have its metric, and of none while control is not among them.
    """
    usable = [cell for cell in cells if cell.candidates.issuperset(candidates)]
    definitions = metric_definitions(experiment)
    guards = [
        _look(experiment, usable, candidates, definitions[guardrail.metric], time_zone=time_zone, now=now)
        for guardrail in experiment.guardrails
    ]
    read = [place for place, look in enumerate(guards) if len(look.posteriors) > 1]
    if not read:
        return None
    goal = definitions[found.objective]
    looks = [_look(experiment, usable, candidates, goal, time_zone=time_zone, now=now)]
    looks += [guards[place] for place in read]
    limits: list[Limit] = []
    for place in read:
        guardrail, definition = experiment.guardrails[place], guards[place].definition
        is_up_bad = definition.direction is Direction.DOWN
        limits.append(Limit(guardrail.metric, guardrail.throttle, is_up_bad, definition.absolute))
    correlations = _correlations(usable, candidates, looks)
    arms = tuple(
        JointArm(found.better[key], tuple(look.posteriors.get(key) for look in looks[1:]), correlations[key])
        for key in candidates
    )
    return Joint(tuple(candidates), experiment.control.key, tuple(limits), arms, seed)


def _look(
    experiment: Experiment,
    cells: Sequence[Cell],
    candidates: Sequence[str],
    definition: MetricDefinition,
    *,
    time_zone: str,
    now: datetime,
) -> _Look:
    used = definition.winsorised
    chosen = matured(cells, used.horizon, time_zone, now) if is_adaptive(experiment) else list(cells)
    half_life = experiment.policy.discount_half_life
    by_day: dict[date, float] = {}

    def weight(cell: Cell) -> float:
        if half_life is None:
            return 1.0
        day = cell.key.day
        if day not in by_day:
            by_day[day] = discount(day, half_life, time_zone, now)
        return by_day[day]

    discounted = None if half_life is None else weight
    table = tabulate(chosen, used, discounted)
    if experiment.policy.kind is PolicyKind.CONTEXTUAL:
        table = same_contexts(table, chosen, Columns(experiment.policy.features), discounted)
    cohort = cohort_of(chosen)
    informed = [
        arm
        for arm in candidates
        if table.size(arm, table.all_units) >= MIN_UNITS
        and missing_reason(experiment, cohort, used, arm) is None
    ]
    control = experiment.control.key
    strata = set_strata(table, informed) if control in informed else []
    estimates = {arm: unstratified(used, parts_of(table, arm, strata)) for arm in informed if strata}
    posteriors = {
        arm: estimate.posterior
        for arm, estimate in estimates.items()
        if estimate is not None and estimate.posterior is not None
    }
    if control not in posteriors:
        posteriors = {}
    counted = {id(cell) for cell in chosen}
    weights = {place: weight(cell) for place, cell in enumerate(cells) if id(cell) in counted}
    sets = {stratum.places[0][0]: stratum.weight for stratum in strata}
    return _Look(used, weights, sets, posteriors)


def _correlations(
    cells: Sequence[Cell], candidates: Sequence[str], looks: Sequence[_Look]
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """The correlation matrix of each candidate's estimates, the goal (oriented) first."""
    names = _features(looks)
    products = _products(cells, names)
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    for arm in candidates:
        mine = [place for place, cell in enumerate(cells) if cell.key.variant == arm]
        influences = [_influences(look, names, mine, cells, products) for look in looks]
        size = len(looks)
        covariance = np.zeros((size, size))
        for a in range(size):
            for b in range(a + 1):
                covariance[a, b] = covariance[b, a] = sum(
                    influences[a][place] @ products[place] @ influences[b][place]
                    for place in influences[a].keys() & influences[b].keys()
                )
        covariance[0, 1:] *= looks[0].definition.sign
        covariance[1:, 0] *= looks[0].definition.sign
        found[arm] = _normalised(covariance)
    return found


def _influences(
    look: _Look,
    names: Sequence[str],
    mine: Sequence[int],
    cells: Sequence[Cell],
    products: Sequence[FloatArray],
) -> dict[int, FloatArray]:
    """For each cell the coefficients c, so that c . (unit vector) is a unit's influence on the estimate."""
    definition, units = look.definition, names.index("units")
    x, y = (_coefficients(terms, names) for terms in (definition.numerator, definition.denominator))
    totals: dict[int, FloatArray] = {}  # by set: weighted sum of the unit vectors
    for place in mine:
        weight, which = look.weights.get(place, 0.0), cells[place].key.candidate_set
        if weight > 0.0 and which in look.sets:
            totals[which] = totals.get(which, np.zeros(len(names))) + weight * products[place][units]
    totals = {which: total for which, total in totals.items() if total[units] > 0.0}
    means = {which: total / total[units] for which, total in totals.items()}
    mean_x = sum(look.sets[which] * float(x @ mean) for which, mean in means.items())
    mean_y = sum(look.sets[which] * float(y @ mean) for which, mean in means.items())
    of_set: dict[int, FloatArray] = {}
    for which, mean in means.items():
        over = mean_y if definition.kind is MetricKind.RATIO else float(y @ mean)
        if over <= 0.0:
            continue
        ratio = mean_x / mean_y if definition.kind is MetricKind.RATIO else float(x @ mean) / over
        residual = (x - ratio * y) / over
        residual[units] -= float(residual @ mean)
        of_set[which] = residual * look.sets[which] / totals[which][units]
    return {
        place: look.weights[place] * of_set[cells[place].key.candidate_set]
        for place in mine
        if look.weights.get(place, 0.0) > 0.0 and cells[place].key.candidate_set in of_set
    }


def _normalised(covariance: FloatArray) -> tuple[tuple[float, ...], ...]:
    """Covariances to correlations; an estimate without variance goes with nothing."""
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    outer = np.outer(sd, sd)
    correlation = np.divide(covariance, outer, out=np.zeros_like(covariance), where=outer > 0.0)
    np.fill_diagonal(correlation, 1.0)
    return tuple(tuple(map(float, row)) for row in np.clip(correlation, -1.0, 1.0))


def _features(looks: Sequence[_Look]) -> list[str]:
    named = {"units"}
    for look in looks:
        named |= look.definition.numerator.keys() | look.definition.denominator.keys()
    return sorted(named)


def _products(cells: Sequence[Cell], names: Sequence[str]) -> list[FloatArray]:
    """Of each cell the sums of products of the features, (n_features, n_features)."""
    pairs = [product_name(a, b) for a in names for b in names]
    found = [list(map(cell.moments.products.get, pairs, repeat(0))) for cell in cells]
    return [np.array(row, dtype=np.float64).reshape(len(names), len(names)) for row in found]


def _coefficients(terms: Mapping[str, int], names: Sequence[str]) -> FloatArray:
    return np.array([float(terms.get(name, 0)) for name in names])
