"""The cells without the units that were seen in two variants.

A unit's vector is kept nowhere, but `crossover` is one of its features, so that the cells hold the sums of
every feature over just these units (its products with `crossover`): every mean without them is exact. Their
second moments are not kept; by Cauchy and Schwarz they are at least s_a s_b / n (as a matrix, whatever the
metric), and that is what is taken away. So an interval without them is never too narrow, and too wide by no
more than the spread of the few.
"""

from collections.abc import Iterable
from dataclasses import replace

from experiments.analysis.cohorts import COUNTED, Cohorts, cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reading, is_adaptive, read_metric
from experiments.analysis.report import CI_PROB, Check
from experiments.analysis.wording import Change, Language, metric_in_words, moved
from experiments.model import Experiment
from experiments.posteriors.compare import difference
from experiments.statistics import Cell, Moments, product_name

CROSSOVER = "crossover"
WARN = 0.01
"""Share of units seen in two variants above which the figures mix what they compare."""


def crossover_check(experiment: Experiment, cohorts: Cohorts, objective: Reading, *, seed: int) -> Check:
    """How many units were seen in two variants, and what the objective does without them."""
    units, crossed = cohorts.all.overall("assigned"), cohorts.all.overall(CROSSOVER)
    share = crossed / units if units else 0.0
    text = f"{crossed} of {units} units were seen in two variants ({share:.2%})"
    left = reading_without_crossover(experiment, cohorts, objective, seed=seed)
    if left is not None:
        name = metric_in_words(objective.definition.key, experiment.unit)
        for key, pair in left.pairs.items():
            if isinstance(pair, Pair):
                change = moved(objective.definition, experiment.currency, lift_of(pair), Language.EN)
                text += f"; without them the {name} of {key} {change}"
    if share <= WARN:
        return Check("crossover", "ok", text)
    remedy = (
        "Identify visitors before their first assignment, or make the customer the unit; until then decide "
        "by the figures without them."
    )
    return Check("crossover", "warn", text, remedy)


def reading_without_crossover(
    experiment: Experiment, cohorts: Cohorts, reading: Reading, *, seed: int
) -> Reading | None:
    """The metric without the units seen in two variants; None where there are none."""
    cohort = cohorts.of(reading.definition.horizon)
    if not cohort.overall(CROSSOVER):
        return None
    left = cohort_of(without_crossover(cohort.cells, reading.definition))
    return read_metric(experiment, left, reading.definition, by_epoch=is_adaptive(experiment), seed=seed)


def without_crossover(cells: Iterable[Cell], definition: MetricDefinition) -> list[Cell]:
    """The cells with what one metric needs of the units seen in one variant only.

    >>> from datetime import timedelta
    >>> from experiments.model import Direction, MetricKind
    >>> units = MetricDefinition("m", MetricKind.MEAN, {"x": 1}, {"units": 1}, Direction.UP, timedelta())
    >>> moments = Moments()
    >>> moments.add_units([{"units": 1, "x": 4}, {"units": 1, "x": 9, "crossover": 1}], [2, 1])
    >>> without_crossover([Cell(None, frozenset(), moments)], units)[0].moments.sums == {"units": 2, "x": 8}
    True
    """
    features = sorted({"units", *definition.numerator, *definition.denominator})
    return [_reduced(cell, features) if cell.moments.sum(CROSSOVER) else cell for cell in cells]


def lift_of(pair: Pair) -> Change:
    """The absolute lift with its interval."""
    low, high = difference(pair.treatment_posterior, pair.control_posterior).interval(CI_PROB)
    return Change(pair.lift_abs, float(low), float(high))


def _reduced(cell: Cell, features: list[str]) -> Cell:
    moments = cell.moments
    crossed = moments.product(CROSSOVER, "units")
    left = Moments()
    for name in {*COUNTED, *features}:
        if value := moments.sum(name) - moments.product(CROSSOVER, name):
            left.sums[name] = value
    for index, a in enumerate(features):
        for b in features[index:]:
            taken = moments.product(CROSSOVER, a) * moments.product(CROSSOVER, b)
            if value := moments.product(a, b) - (taken // crossed if crossed else 0):
                left.products[product_name(a, b)] = value
    return replace(cell, moments=left, histograms={})
