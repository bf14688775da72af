"""The cells without the units that were seen in two variants.

A unit's vector is kept nowhere, but `crossover` is one of its features, so that the cells hold the sums of
every feature over just these units (its products with `crossover`): every mean without them is exact. Their
second moments are not kept; by Cauchy and Schwarz they are at least s_a s_b / n (as a matrix, whatever the
metric), and that is what is taken away. So an interval without them is never too narrow, and too wide by no
more than the spread of the few.
"""

from collections.abc import Iterable
from dataclasses import replace

from experiments.analysis.cohorts import COUNTED
from experiments.analysis.metrics import MetricDefinition
from experiments.statistics import Cell, Moments, product_name

CROSSOVER = "crossover"


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
