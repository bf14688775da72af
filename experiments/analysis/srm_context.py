"""Sample ratio mismatch where each context has its own shares and a unit's own propensity is all there is.

Under the null E[1{W_i = k} / p_i(k)] = 1 for every unit that could have had k, so over the n exposed ones

    S_k = sum over those that got k of 1 / p  -  n,      V_k = sum over the same of 1 / p^2 - 1 / p

are a martingale and an estimate of its variance, and e_k = sqrt(r / (r + V)) exp(S^2 / (2 (r + V))) is an
asymptotic e-value (Robbins' normal mixture); r is such that a loss of 3 % is what it looks for best. The
evidence is the mean over the variants. No exact one is known: the tilting martingale of `srm` needs the
propensities of all variants at every unit.

When wrong: below some thousand units of a variant (none is given below `MIN_UNITS`), since few units of small
propensity carry most of S. For the same reason it is weak: with shares of 0.88 and 0.02 in two halves of the
contexts a loss of 10 % is found by 200,000 units, one of 5 % in a third of 50 runs; with shares of 0.6 and
0.2 a loss of 10 % by 20,000. No false alarm or one in every such world (50 looks, 150 to 600 runs).
Source: Horvitz & Thompson 1952 for the weights; Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), 2.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.statistics import FIXED_POINT, OVER_P, Cell, product_name

MIN_UNITS = 1_000
SOUGHT = 0.03
"""The loss it looks for best."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """One variant: its units, all that could have had it, and the sums of 1 / p and 1 / p^2 of its own."""

    units: int
    eligible: int
    inverse: float
    inverse_squared: float

    @property
    def excess(self) -> float:
        """Weighed units over those expected, as a share of these."""
        return self.inverse / self.eligible - 1.0


def weigh(cells: Iterable[Cell], variants: Sequence[str], feature: str) -> tuple[dict[str, Weighed], int]:
    """Count a feature (`exposed` or `units`) by variant; the second is how many units have no propensity."""
    name = feature + OVER_P
    sums = {key: [0, 0, 0, 0] for key in variants}
    left_out = 0
    for cell in cells:
        n, over = cell.moments.sum(feature), cell.moments.sum(name)
        if not over:
            left_out += n
            continue
        for key in cell.candidates:
            sums[key][1] += n
        own = sums[cell.key.variant]
        own[0] += n
        own[2] += over
        own[3] += cell.moments.products.get(product_name(name, name), 0)
    return {
        key: Weighed(units, eligible, over / FIXED_POINT, squared / FIXED_POINT**2)
        for key, (units, eligible, over, squared) in sums.items()
        if eligible
    }, left_out


def log_e_value(split: Iterable[Weighed]) -> float:
    """Logarithm of the mean e-value of the variants, which are some.

    >>> even, lost = Weighed(5_000, 10_000, 10_000.0, 20_000.0), Weighed(4_800, 9_900, 9_600.0, 19_200.0)
    >>> [round(math.exp(log_e_value([one])), 2) for one in (even, lost)]
    [0.32, 21.47]
    """
    logs: list[float] = []
    for one in split:
        gap = one.inverse - one.eligible
        variance = one.inverse_squared - one.inverse
        scale = (variance / one.eligible / SOUGHT) ** 2
        logs.append(
            0.5 * (math.log(scale / (scale + variance)) + gap * gap / (scale + variance))
            if variance > 0.0
            else 0.0
        )
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs))
