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

Where shares go by segment or context, the entropy is the mean of the entropies there, over the units' mix
(even shares on average may hide that every context has its certain variant), and the least share is the
least of any of them.

Propensities are those of the units' epoch, candidate set and segment; under a contextual policy those logged
with each assignment. A unit whose propensity was 0 or is not known there (history brought in) has no weight
and is left out.

Collapse: entropy below 0.10, or a propensity below 0.005, or a variant of 1,000 units and more worth less
than a tenth of them; over when they are at 0.13, 0.01 and a fifth again. With the defaults (floor 0.02,
control_share 0.1) even a certain winner leaves an entropy of 0.14 (two variants, the control wins): it is
settings, or caps, that let exploration die. A promotion and fixed shares are somebody's decision, and so is
the first step of a ramp: a variant capped below the floor is looked past.
Where shares go by segment or context a variant that wins in half of them is shown at 0.9 there and at 0.02
elsewhere, which is as it should be, yet its units are worth 0.085 of their number only: of shares between f
and t always at least 4 f t / (f + t)^2 (Kantorovich 1948). So there the limits are 0.05 and 0.08.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
_SPLIT = (0.05, 0.08)
"""Those of the weights where shares go by segment or context."""


@dataclass(frozen=True, slots=True)
class Worth:
    """The units of a variant and how many evenly drawn ones they are worth."""

    units: int
    ess: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the units and the shares they get: of live variants, in the widest set."""

    part: float
    shares: Mapping[str, float]
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """Units of a variant, of so many candidates, with their propensities p: sum of 1 / p and of 1 / p^2."""

    variant: str
    candidates: int
    units: int
    inverse: float
    inverse_squared: float


@dataclass(frozen=True, slots=True)
class Exploration:
    """The figures of the module's table; None where there are fewer than two live variants.

    `segments` has entropy and least share of each segment with shares of its own, `contexts` says over how
    many contexts both were taken.
    """

    entropy: float | None
    entropy_trend: float | None
    min_propensity: float | None
    worth: Mapping[str, Worth] = field(default_factory=dict[str, Worth])
    collapsed: tuple[Sign, ...] = ()
    segments: Mapping[str, tuple[float, float]] | None = None
    contexts: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        of_segment = {
            segment: {"entropy": entropy, "min_propensity": least}
            for segment, (entropy, least) in (self.segments or {}).items()
        }
        return {
            "entropy": self.entropy,
            "entropy_trend_per_day": self.entropy_trend,
            "min_propensity": self.min_propensity,
            "variants": {key: {"units": one.units, "ess": one.ess} for key, one in self.worth.items()},
            "collapsed": [sign.value for sign in self.collapsed],
            "segments": None if self.segments is None else of_segment,
            "contexts": self.contexts,
        }


def exploration(
    parts: Sequence[Part],
    past: Sequence[tuple[int, float]],
    worth: Mapping[str, Worth],
    *,
    now_us: int,
    before: Collection[str] = (),
    is_chosen: bool = False,
    on_ramp: Collection[str] = (),
    contexts: int | None = None,
) -> Exploration:
    """The health of these shares; `past` are (time, entropy) of the versions before them, oldest first.

    `worth` are the units of each variant. `before` are the signs of collapse of the last version; `is_chosen`
    says that a person or the document set the shares, which is never a collapse, nor is what a ramp does to
    the variants `on_ramp`. `contexts` is the number of parts where they are contexts.
    """
    live = parts[0].shares
    if len(live) < 2:
        return Exploration(None, None, None, worth)
    entropy, least = mean_entropy(parts), _least(parts)
    segments = {
        part.segment: (entropy_of(part.shares), min(part.shares.values()))
        for part in parts
        if part.segment is not None
    }
    thinnest = min(
        (worth[key].ess / worth[key].units for key in live if key in worth and worth[key].units >= ESS_UNITS),
        default=1.0,
    )
    grown = [replace(part, shares=_without(part.shares, on_ramp)) for part in parts]
    judged = (mean_entropy(grown), _least(grown)) if len(grown[0].shares) > 1 else (1.0, 1.0)
    figures = {Sign.ENTROPY: judged[0], Sign.PROPENSITY: judged[1], Sign.WEIGHTS: thinnest}
    limits = dict(_LIMITS) | ({Sign.WEIGHTS: _SPLIT} if segments or contexts else {})
    signs = () if is_chosen else tuple(s for s in Sign if figures[s] < limits[s][s.value in before])
    slope = trend([*past, (now_us, entropy)], now_us)
    return Exploration(entropy, slope, least, worth, signs, segments or None, contexts)


def _without(shares: Mapping[str, float], keys: Collection[str]) -> dict[str, float]:
    return {key: share for key, share in shares.items() if key not in keys}


def _least(parts: Sequence[Part]) -> float:
    return min(min(part.shares.values()) for part in parts)


def mean_entropy(parts: Sequence[Part]) -> float:
    """The mean of the parts' entropies, each with its part of the units; of two or more variants.

    >>> mean_entropy([Part(3.0, {"a": 0.5, "b": 0.5}), Part(1.0, {"a": 1.0, "b": 0.0})])
    0.75
    """
    total = math.fsum(part.part for part in parts)
    return math.fsum(part.part * entropy_of(part.shares) for part in parts) / total


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

    integral (t - m) h(t) dt / integral (t - m)^2 dt over the window, m its middle; None while less than a
    day is known, which tells no day's slope. `steps` are (time in us, value from then on), oldest first.

    >>> trend([(0, 1.0), (86_400_000_000, 0.5)], 2 * 86_400_000_000)  # a step of 0.5 in the middle of 2 days
    -0.375
    """
    days = [((at - now_us) / _DAY_US, value) for at, value in steps]
    start = max(-WINDOW_DAYS, days[0][0])
    if start > -1.0:
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
    found: list[Logged] = []
    for cell in cells:
        n, share = cell.moments.sum("assigned"), propensity(cell)
        if n and share > 0:
            found.append(Logged(cell.key.variant, len(cell.candidates), n, n / share, n / share**2))
    return logged_worths(found)


def logged_worths(logged: Iterable[Logged]) -> dict[str, Worth]:
    """Units and effective sample size of each variant, from the propensities logged with its units.

    >>> logged_worths([Logged("a", 2, units=2, inverse=1 / 0.5 + 1 / 0.25, inverse_squared=4.0 + 16.0)])
    {'a': Worth(units=2, ess=1.8)}
    """
    units: dict[str, int] = {}
    first: dict[str, float] = {}
    second: dict[str, float] = {}
    for one in logged:
        key = one.variant
        units[key] = units.get(key, 0) + one.units
        first[key] = first.get(key, 0.0) + one.inverse / one.candidates
        second[key] = second.get(key, 0.0) + one.inverse_squared / one.candidates**2
    return {key: Worth(n, first[key] ** 2 / second[key]) for key, n in units.items()}
