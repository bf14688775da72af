"""Sums of one metric over cells: n, sums and products of numerator and denominator, exact integers.

Discounting multiplies a cell by a real weight. Weights are kept as integers over 2^32, so that sums
stay exact and a centred second moment never loses its digits to cancellation.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from experiments.analysis.metrics import MetricDefinition, Terms
from experiments.statistics import Cell, CellKey, Moments, product_name

WEIGHT_ONE = 1 << 32
"""A weight of 1."""
ROUNDING = 1e-13
"""The part of a sum of squares that its rounding may leave."""


@dataclass(frozen=True, slots=True)
class PairSums:
    """Sums over units of x (numerator) and y (denominator), each times `WEIGHT_ONE`.

    n counts the units with an anchor; `x`, `y` are first, `xx`, `xy`, `yy` second moments, all in the
    features' own integers. Properties are in the metric's unit (`scale` applied) and per weight 1.
    """

    n: int = 0
    x: int = 0
    y: int = 0
    xx: int = 0
    xy: int = 0
    yy: int = 0
    scale: float = 1.0

    @property
    def units(self) -> float:
        """Number of units, discounted where weights are."""
        return self.n / WEIGHT_ONE

    @property
    def numerator(self) -> float:
        """Sum of the numerator in the metric's unit."""
        return self.x / WEIGHT_ONE * self.scale

    @property
    def denominator(self) -> float:
        """Sum of the denominator."""
        return self.y / WEIGHT_ONE

    @property
    def mean_x(self) -> float:
        """Mean of the numerator per unit, in the metric's unit."""
        return self.x / self.n * self.scale

    @property
    def mean_y(self) -> float:
        """Mean of the denominator per unit."""
        return self.y / self.n

    @property
    def ratio(self) -> float:
        """The plain figure: numerator over denominator, in the metric's unit."""
        return self.x / self.y * self.scale

    def squared_deviations(self, ratio: float = 0.0) -> float:
        """Sum over units of (e - mean of e)^2 with e = x - ratio * y, in the metric's unit squared.

        Computed from n*sum(ab) - sum(a)*sum(b), which is exact in integers.

        >>> sums = PairSums(*(WEIGHT_ONE * v for v in (3, 6, 3, 14, 6, 3)))  # x = 1, 2, 3; y = 1
        >>> sums.squared_deviations()
        2.0
        """
        if self.n == 0:
            return 0.0
        sxx, sxy, syy = (
            (self.n * product - a * b) / (self.n * WEIGHT_ONE)
            for product, a, b in (
                (self.xx, self.x, self.x),
                (self.xy, self.x, self.y),
                (self.yy, self.y, self.y),
            )
        )
        above, below = self.scale * self.scale * sxx, ratio * ratio * syy
        found = above - 2.0 * ratio * self.scale * sxy + below
        # Of orders that are all alike only the rounding of the ratio is left, which is not a spread
        return found if found > ROUNDING * abs(above + below) else 0.0


Atom = tuple[str, int, int]
"""(variant, candidate set, epoch): the finest grain a comparison needs."""


Adjust = Callable[[Cell, Sequence[int]], Sequence[float] | None]
"""From a cell and its (n, x, y, xx, xy, yy) to those that count."""


def gather(
    cells: Iterable[Cell],
    definition: MetricDefinition,
    weight: Callable[[Cell], float] | None = None,
    adjust: Adjust | None = None,
) -> dict[Atom, PairSums]:
    """The metric's sums by (variant, candidate set, epoch); cost is linear in cells, not events.

    `weight` multiplies a cell's likelihood (a discount in [0, 1]); None is 1 for every cell. `adjust` gives
    the sums of a cell as they count (an open cohort's, corrected for its age), or None to leave it out.
    """
    read = _compile(definition)
    totals: dict[Atom, list[int]] = {}
    for cell in cells:
        factor = WEIGHT_ONE if weight is None else round(weight(cell) * WEIGHT_ONE)
        key = atom_of(cell.key)
        total = totals.get(key)
        if total is None:
            total = totals[key] = [0, 0, 0, 0, 0, 0]
        sums = read(cell.moments)
        if adjust is None:
            for index, whole in enumerate(sums):
                if whole:
                    total[index] += factor * whole
            continue
        for index, value in enumerate(adjust(cell, sums) or ()):
            if value:
                total[index] += round(factor * value)
    return {
        key: PairSums(n, x, y, xx, xy, yy, definition.scale) for key, (n, x, y, xx, xy, yy) in totals.items()
    }


def atom_of(key: CellKey) -> Atom:
    """The atom a cell belongs to."""
    return key.variant, key.candidate_set, key.epoch


def total_sums(parts: Iterable[PairSums]) -> PairSums:
    """The sum of any number of sums."""
    chosen = list(parts)
    if len(chosen) <= 1:
        return chosen[0] if chosen else PairSums()
    rows = ((part.n, part.x, part.y, part.xx, part.xy, part.yy) for part in chosen)
    return PairSums(*(sum(column) for column in zip(*rows, strict=True)), scale=chosen[0].scale)


def _compile(definition: MetricDefinition) -> Callable[[Moments], Sequence[int]]:
    """A reader of (n, x, y, xx, xy, yy): names of products are built once, not once per cell."""
    x, y = definition.numerator, definition.denominator
    first = [tuple(terms.items()) for terms in ({"units": 1}, x, y)]
    second = [products_of(x, x), products_of(x, y), products_of(y, y)]
    if all(len(terms) == 1 and terms[0][1] == 1 for terms in (*first, *second)):
        # Nearly every metric, read from every cell of every report and step
        (n_name, x_name, y_name), (xx_name, xy_name, yy_name) = (
            [name for ((name, _),) in part] for part in (first, second)
        )

        def read_terms(moments: Moments) -> list[int]:
            sums, products = moments.sums.get, moments.products.get
            return [
                sums(n_name, 0),
                sums(x_name, 0),
                sums(y_name, 0),
                products(xx_name, 0),
                products(xy_name, 0),
                products(yy_name, 0),
            ]

        return read_terms

    def read(moments: Moments) -> list[int]:
        sums, products = moments.sums, moments.products
        return [sum(c * sums.get(name, 0) for name, c in terms) for terms in first] + [
            sum(c * products.get(name, 0) for name, c in terms) for terms in second
        ]

    return read


def products_of(a: Terms, b: Terms) -> tuple[tuple[str, int], ...]:
    """The products that the product of two combinations is made of, each with its factor."""
    return tuple((product_name(f, g), cf * cg) for f, cf in a.items() for g, cg in b.items())
