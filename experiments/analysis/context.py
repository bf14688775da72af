"""Arms compared over the same contexts, where a contextual policy gives each arm contexts of its own.

An arm that is shown to buyers who buy anyway looks good, and harm done where it is shown most hides behind
those who were spared. So each arm's figures are moved to the contexts of *all* units of a candidate set: per
arm the unit totals u = (x, y) of a metric are regressed on the columns z of a unit's context,

    B = (G + R)^-1 C,   G = sum z z',  C = sum z u',  R = one unit's weight on every slope (0 on the level)
    mean  m = zbar B,   zbar = mean columns of all the set's units, whichever arm they got
    h = zbar (G + R)^-1 zbar'   so that var(m) = h S,  S = residual covariance of u, n - p degrees of freedom.

That is what a sample of 1/h units says whose mean is m and whose covariance is S; it stands in the table in
place of the arm's own sums, and everything else (priors, standardising over sets, intervals) goes on as ever.
With no feature, or arms of equal mix, it changes next to nothing.

Error: where the mean is no sum of effects of the columns, what remains is the part that the columns cannot
say, weighed by how differently the arms were shown. Shares that move with the season are not corrected.
Source: Lin, Agnostic notes on regression adjustments to experimental data (2013); Gelman et al., Bayesian
Data Analysis (2013), 14.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from experiments.allocation.features import FEATURE_POINT, Columns, column_name
from experiments.analysis.metrics import Terms
from experiments.analysis.strata import Table
from experiments.analysis.sums import WEIGHT_ONE, PairSums
from experiments.model import MetricKind
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell, Moments


def context_products(
    moments: Moments, columns: Columns, totals: Sequence[Terms]
) -> tuple[FloatArray, FloatArray]:
    """Sums over the units of z z', (p, p), and of z times each total, (p, totals); exact until divided."""
    width = columns.width
    if columns.is_grouped:
        gram, cross = np.zeros((width, width)), np.zeros((width, len(totals)))
        for name, encoded in columns.all_contexts():
            if count := moments.sum(name):
                z = np.array(columns.row(encoded), dtype=np.float64) / FEATURE_POINT
                gram += count * np.outer(z, z)
                cross += np.outer(z, [product_of(moments, name, terms) for terms in totals])
        return gram, cross
    names = ["units", *(column_name(place) for place in range(1, width))]
    unit = np.array([1.0, *(1.0 / FEATURE_POINT for _ in names[1:])])
    gram = np.array([[float(moments.product(a, b)) for b in names] for a in names])
    cross = np.array([[product_of(moments, name, terms) for terms in totals] for name in names])
    return gram * np.outer(unit, unit), cross.reshape(width, -1) * unit[:, np.newaxis]


def product_of(moments: Moments, name: str, terms: Terms) -> float:
    """Sum over the units of a feature times a total."""
    return float(sum(factor * moments.product(name, feature) for feature, factor in terms.items()))


def same_contexts(
    table: Table, cells: Sequence[Cell], columns: Columns, weight: Callable[[Cell], float] | None = None
) -> Table:
    """The table of these cells with every arm's sums as if it had had the contexts of all units of a set.

    Epochs of a set become one. An arm with no more units than there are columns is left out.
    """
    arms: dict[tuple[str, int], _Arm] = {}
    mix: dict[int, FloatArray] = {}
    totals = table.definition.numerator, table.definition.denominator
    is_share = table.definition.kind is MetricKind.PROPORTION
    for cell in cells:
        gram, cross = context_products(cell.moments, columns, totals)
        which, factor = cell.key.candidate_set, 1.0 if weight is None else weight(cell)
        mix[which] = mix.get(which, np.zeros(columns.width)) + gram[0]
        arm = arms.setdefault((cell.key.variant, which), _Arm.none(columns.width))
        arms[cell.key.variant, which] = _Arm(arm.gram + factor * gram, arm.cross + factor * cross)
    sums: dict[tuple[str, int, int], PairSums] = {}
    for (variant, which), arm in arms.items():
        own = table.of(variant, table.places[which])
        if own.units > columns.width:
            moved = _moved(own, arm, mix[which] / mix[which][0], is_share=is_share)
            sums[variant, *table.places[which][0]] = moved
    first = {which: places[:1] for which, places in table.places.items()}
    units = {
        first[which][0]: sum(table.all_units[p] for p in places) for which, places in table.places.items()
    }
    return replace(table, sums=sums, all_units=units, places=first)


@dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """Sums of z z' and z u' of one arm in one set."""

    gram: FloatArray
    cross: FloatArray

    @classmethod
    def none(cls, width: int) -> "_Arm":
        return cls(np.zeros((width, width)), np.zeros((width, 2)))


def _moved(own: PairSums, arm: _Arm, mix: FloatArray, *, is_share: bool) -> PairSums:
    """The sums that 1/h units with the adjusted mean and the residual covariance would have."""
    width = len(mix)
    ridge = np.eye(width)
    ridge[0, 0] = 0.0
    solved = linalg.solve(arm.gram + ridge, np.column_stack([arm.cross, mix]), assume_a="pos")
    slopes = solved[:, :2]
    units = min(own.units, 1.0 / float(mix @ solved[:, 2]))
    raw = np.array([[own.xx, own.xy], [own.xy, own.yy]], dtype=np.float64) / WEIGHT_ONE
    both = slopes.T @ arm.cross
    spread = (raw - both - both.T + slopes.T @ arm.gram @ slopes) / (own.units - width)
    x, y = (round(WEIGHT_ONE * units * float(mean)) for mean in mix @ slopes)
    n = round(WEIGHT_ONE * units)
    if is_share:
        y = max(0, y)
        x = min(max(0, x), y)

    def second(a: int, b: int, covariance: float) -> int:
        return a * b // n + round(WEIGHT_ONE * max(0.0, units - 1.0) * covariance)

    return PairSums(
        n,
        x,
        y,
        second(x, x, max(0.0, spread[0, 0])),
        second(x, y, spread[0, 1]),
        second(y, y, max(0.0, spread[1, 1])),
        own.scale,
    )
