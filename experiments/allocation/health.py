"""Health of exploration: whether the shares still let anything be learnt, and the log serve other policies.

===============  ==============================================================================  ============
figure           definition                                                                      range
===============  ==============================================================================  ============
entropy          -sum s_k log s_k / log K over the K live variants of the widest set             [0, 1]
entropy_trend    slope of the least-squares line through the entropy as a step function of       per day
                 time, over the last 7 days
min_propensity   the least share of a live variant in that set                                   [0, 1]
ess              per variant (sum w)^2 / sum w^2 over its units, w = (1 / K_set) / propensity:    [0, units]
                 what its units are worth, had they been drawn evenly (Kish 1965, 11.7)
===============  ==============================================================================  ============

Propensities are those of the units' epoch and candidate set. A unit whose propensity was 0 or is not
known there (history brought in) has no weight and is left out.

Collapse: entropy below 0.10, or a propensity below 0.005, or a variant of 1,000 units and more worth less
than a tenth of them; over when they are at 0.13, 0.01 and a fifth again. With the defaults (floor 0.02,
control_share 0.1) even a certain winner leaves an entropy of 0.14 (two variants, the control wins): it is
settings, or caps, that let exploration die. A promotion and fixed shares are somebody's decision.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from experiments.statistics import Cell

WINDOW_DAYS = 7.0
ESS_UNITS = 1_000

_DAY_US = 86_400_000_000


class Sign(StrEnum):
    """What a collapse is seen by."""

    ENTROPY = "entropy"
    PROPENSITY = "min_propensity"
    WEIGHTS = "effective_sample_size"


_LIMITS: Mapping[Sign, tuple[float, float]] = {
    Sign.ENTROPY: (0.10, 0.13),
    Sign.PROPENSITY: (0.005, 0.01),
    Sign.WEIGHTS: (0.10, 0.20),
}
"""Entered below the first, left at or above the second."""


@dataclass(frozen=True, slots=True)
class Worth:
    """The units of a variant and how many evenly drawn ones they are worth."""

    units: int
    ess: float


@dataclass(frozen=True, slots=True)
class Exploration:
    """The figures of the module's table; None where there are fewer than two live variants."""

    entropy: float | None
    entropy_trend: float | None
    min_propensity: float | None
    worth: Mapping[str, Worth] = field(default_factory=dict[str, Worth])
    collapsed: tuple[Sign, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "entropy": self.entropy,
            "entropy_trend_per_day": self.entropy_trend,
            "min_propensity": self.min_propensity,
            "variants": {key: {"units": one.units, "ess": one.ess} for key, one in self.worth.items()},
            "collapsed": [sign.value for sign in self.collapsed],
        }


def exploration(
    shares: Mapping[str, float],
    past: Sequence[tuple[int, Mapping[str, float]]],
    cells: Sequence[Cell],
    propensity: Callable[[Cell], float],
    *,
    now_us: int,
    before: Collection[str] = (),
    is_chosen: bool = False,
) -> Exploration:
    """The health of these shares (live variants only), with (time, shares) of the versions before them.

    `propensity` is the share a cell's units had. `before` are the signs of collapse of the last version;
    `is_chosen` says that a person or the document set the shares, which is never a collapse.
    """
    worth = worths(cells, propensity)
    if len(shares) < 2:
        return Exploration(None, None, None, worth)
    now = entropy_of(shares)
    steps = [(at, entropy_of(old)) for at, old in past if len(old) >= 2]
    found = Exploration(now, trend([*steps, (now_us, now)], now_us), min(shares.values()), worth)
    thinnest = min(
        (
            worth[key].ess / worth[key].units
            for key in shares
            if key in worth and worth[key].units >= ESS_UNITS
        ),
        default=1.0,
    )
    figures = {Sign.ENTROPY: now, Sign.PROPENSITY: min(shares.values()), Sign.WEIGHTS: thinnest}
    signs = () if is_chosen else tuple(s for s in Sign if figures[s] < _LIMITS[s][s.value in before])
    return Exploration(found.entropy, found.entropy_trend, found.min_propensity, worth, signs)


def entropy_of(shares: Mapping[str, float]) -> float:
    """Entropy of at least two shares over the most it could be; the shares are scaled to sum 1.

    >>> entropy_of({"a": 0.5, "b": 0.5}), entropy_of({"a": 1.0, "b": 0.0})
    (1.0, 0.0)
    """
    total = math.fsum(shares.values())
    parts = [share / total for share in shares.values() if share > 0]
    return max(0.0, -math.fsum(part * math.log(part) for part in parts) / math.log(len(shares)))


def trend(steps: Sequence[tuple[int, float]], now_us: int) -> float | None:
    """Slope per day of the line nearest to a step function of time over the last `WINDOW_DAYS`.

    integral (t - m) h(t) dt / integral (t - m)^2 dt over the window, m its middle; None while there is only
    one instant. `steps` are (time in us, value from then on), oldest first.

    >>> trend([(0, 1.0), (86_400_000_000, 0.5)], 2 * 86_400_000_000)  # a step of 0.5 in the middle of 2 days
    -0.375
    """
    days = [((at - now_us) / _DAY_US, value) for at, value in steps]
    start = max(-WINDOW_DAYS, days[0][0])
    if start >= 0:
        return None
    middle = start / 2
    ends = [*(at for at, _ in days[1:]), 0.0]
    moment = 0.0
    for (at, value), end in zip(days, ends, strict=True):
        low, high = max(at, start) - middle, max(end, start) - middle
        moment += value * (high * high - low * low) / 2
    return moment / (abs(start) ** 3 / 12) + 0.0


def worths(cells: Sequence[Cell], propensity: Callable[[Cell], float]) -> dict[str, Worth]:
    """Units and effective sample size of each variant, from cells of equal propensity."""
    units: dict[str, int] = {}
    first: dict[str, float] = {}
    second: dict[str, float] = {}
    for cell in cells:
        key, n = cell.key.variant, cell.moments.sum("assigned")
        share = propensity(cell)
        if not n or share <= 0:
            continue
        weight = 1.0 / (len(cell.candidates) * share)
        units[key] = units.get(key, 0) + n
        first[key] = first.get(key, 0.0) + n * weight
        second[key] = second.get(key, 0.0) + n * weight * weight
    return {key: Worth(n, first[key] ** 2 / second[key]) for key, n in units.items()}
