"""Circuit breakers on operations: when the data itself cannot be trusted, shares do not follow it.

===========  ====================================================  ====================================
breaker      trips when                                            is over when
===========  ====================================================  ====================================
outcomes     in the last 3 hours fewer than `outcomes_below` of    at least twice that part arrives
             the outcomes expected arrived, and chance would do    again
             so with less than 1e-6
exposure     over the last day the exposed shares of the units of  they differ by less than half of it
             two variants differ by more than `exposure_gap`, and
             by 5 standard errors
fallbacks    of 100 answers or more in the last hour, more than    fewer than half of it are
             `fallback_above` were given without the ledger
===========  ====================================================  ====================================

Expected are the outcomes a unit brought over the 7 days before, times the units of the last hours, or of as
much time before where those were fewer (outcomes lag behind a sudden crowd); at least 20, or nothing is
said. While the breaker is tripped the time before it tripped stays the yardstick. "Chance" is Poisson's,
which outcomes that come in bursts exceed: hence a part of one tenth by default.

Exposed shares are compared among the variants that offer something, and with the control where the anchor
is the exposure, which it must then report. Everything is counted from totals noted at every look, an hour
apart when looks are more frequent, so that no event has to be read again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

from scipy import special

from experiments.metric_keys import METRIC_KEYS
from experiments.model import Anchor, Experiment, OfferKind
from experiments.statistics import Cell, custom_features

HOUR_US = 3_600_000_000
KEPT_US = 8 * 24 * HOUR_US
"""How long marks are of use."""

_RECENT_US, _DAY_US, _PAST_US = 3 * HOUR_US, 24 * HOUR_US, 7 * 24 * HOUR_US
_EXPECTED, _CHANCE = 20.0, 1e-6
_UNITS, _ERRORS = 200, 5.0
_ANSWERS = 100

_OUTCOMES = {
    "take_rate": "took",
    "click_through_rate": "clicked",
    "cart_abandonment_rate": "carts",
    "rating_mean": "ratings",
}


class Breaker(StrEnum):
    """What is watched."""

    OUTCOMES = "outcomes"
    EXPOSURE = "exposure"
    FALLBACKS = "fallbacks"


@dataclass(frozen=True, slots=True)
class Totals:
    """Of one variant, ever: units assigned, exposed, and the outcomes its objective is made of."""

    assigned: int
    exposed: int
    outcomes: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Totals noted at an instant; `outcome` is what was counted as one.

    `answers` and `fallbacks` are the store's, over all its services; neither ever falls.
    """

    at_us: int
    variants: Mapping[str, Totals]
    outcome: str = "orders"
    answers: int = 0
    fallbacks: int = 0


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Whether a breaker is tripped, since when, and the figures of the last look (None: nothing to say)."""

    breaker: Breaker
    is_tripped: bool
    since_us: int
    found: float | None = None
    limit: float | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for the version's row."""
        return {
            "breaker": self.breaker.value,
            "state": "tripped" if self.is_tripped else "closed",
            "since_us": self.since_us,
            "found": self.found,
            "limit": self.limit,
            "detail": self.detail,
        }


def breaker_of(plain: Mapping[str, Any]) -> BreakerState:
    """What `to_json` wrote."""
    return BreakerState(
        Breaker(plain["breaker"]),
        plain["state"] == "tripped",
        plain["since_us"],
        plain["found"],
        plain["limit"],
        plain["detail"],
    )


def mark_of(
    experiment: Experiment, cells: Sequence[Cell], now_us: int, *, answers: int = 0, fallbacks: int = 0
) -> Mark:
    """The totals of the cells as they are now."""
    objective = experiment.policy.objective
    custom = objective not in METRIC_KEYS
    outcome = custom_features(objective)[1] if custom else _OUTCOMES.get(objective, "orders")
    sums = {variant.key: [0, 0, 0] for variant in experiment.variants}
    for cell in cells:
        total = sums[cell.key.variant]
        for place, feature in enumerate(("assigned", "exposed", outcome)):
            total[place] += cell.moments.sum(feature)
    totals = {key: Totals(*total) for key, total in sums.items()}
    return Mark(now_us, totals, outcome, answers, fallbacks)


def judged(
    experiment: Experiment, active: frozenset[str], marks: Sequence[Mark], before: Sequence[BreakerState]
) -> list[BreakerState]:
    """The next state of every breaker that is on; `marks` oldest first, the last one is now.

    Marks that counted something else (another objective) are passed over, but for the answers.
    """
    every, marks = marks, [mark for mark in marks if mark.outcome == marks[-1].outcome]
    known = {state.breaker: state for state in before}
    settings, now = experiment.policy.breakers, marks[-1]
    found: list[BreakerState] = []
    for breaker, limit in (
        (Breaker.OUTCOMES, settings.outcomes_below),
        (Breaker.EXPOSURE, settings.exposure_gap),
        (Breaker.FALLBACKS, settings.fallback_above),
    ):
        if limit is None:
            continue
        last = known.get(breaker, BreakerState(breaker, is_tripped=False, since_us=now.at_us))
        if breaker is Breaker.OUTCOMES:
            found.append(_outcomes(marks, last, limit))
        elif breaker is Breaker.EXPOSURE:
            found.append(_exposure(marks, last, limit, _exposing(experiment, active)))
        else:
            found.append(_fallbacks(every, last, limit))
    return found


def _outcomes(marks: Sequence[Mark], last: BreakerState, limit: float) -> BreakerState:
    now, start = marks[-1], _at(marks, marks[-1].at_us - _RECENT_US)
    end = start
    if start is not None and last.is_tripped:
        end = _at(marks, min(start.at_us, last.since_us - _RECENT_US)) or marks[0]
    if start is None or end is None:
        return last
    origin = next(mark for mark in marks if mark.at_us >= end.at_us - _PAST_US)
    units, outcomes = _between(origin, end)
    recent_units, observed = _between(start, now)
    if units <= 0 or end.at_us <= origin.at_us:
        return last
    usual = units * (now.at_us - start.at_us) / (end.at_us - origin.at_us)
    expected = outcomes / units * min(recent_units, usual)
    if expected < _EXPECTED:
        return last
    part = observed / expected
    is_collapsed = part < limit and float(special.pdtr(observed, expected)) < _CHANCE
    detail = f"{observed} outcomes in the last hours where {expected:.0f} were to be expected"
    is_tripped = part < min(1.0, 2 * limit) if last.is_tripped else is_collapsed
    return _state(last, now, is_tripped=is_tripped, found=part, limit=limit, detail=detail)


def _exposure(marks: Sequence[Mark], last: BreakerState, limit: float, keys: Sequence[str]) -> BreakerState:
    now = marks[-1]
    start = _at(marks, now.at_us - _DAY_US) or Mark(0, {})
    seen: dict[str, tuple[int, int]] = {}
    for key in keys:
        total, before = now.variants[key], start.variants.get(key, Totals(0, 0, 0))
        if total.assigned - before.assigned >= _UNITS:
            seen[key] = (total.assigned - before.assigned, max(0, total.exposed - before.exposed))
    worst: tuple[float, float, str] | None = None
    for (a, (n_a, x_a)), (b, (n_b, x_b)) in combinations(seen.items(), 2):
        gap = abs(x_a / n_a - x_b / n_b)
        pooled = min(1.0, (x_a + x_b) / (n_a + n_b))
        error = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
        if worst is None or gap > worst[0]:
            worst = gap, error, f"{x_a / n_a:.0%} of {a}'s units were exposed, {x_b / n_b:.0%} of {b}'s"
    if worst is None:
        return last
    gap, error, detail = worst
    is_tripped = gap >= limit / 2 if last.is_tripped else gap > limit and gap > _ERRORS * error
    return _state(last, now, is_tripped=is_tripped, found=gap, limit=limit, detail=detail)


def _fallbacks(marks: Sequence[Mark], last: BreakerState, limit: float) -> BreakerState:
    now = marks[-1]
    start = _at(marks, now.at_us - HOUR_US) or marks[0]
    answers, fallbacks = now.answers - start.answers, now.fallbacks - start.fallbacks
    if answers < _ANSWERS:
        return last
    part = fallbacks / answers
    is_tripped = part >= limit / 2 if last.is_tripped else part > limit
    detail = f"{fallbacks} of {answers} answers were given without the ledger"
    return _state(last, now, is_tripped=is_tripped, found=part, limit=limit, detail=detail)


def _state(
    last: BreakerState, now: Mark, *, is_tripped: bool, found: float, limit: float, detail: str
) -> BreakerState:
    since = last.since_us if is_tripped == last.is_tripped else now.at_us
    return BreakerState(last.breaker, is_tripped, since, found, limit, detail)


def _exposing(experiment: Experiment, active: frozenset[str]) -> list[str]:
    """The variants whose exposures can be compared."""
    with_control = experiment.anchor is Anchor.EXPOSURE
    return [
        variant.key
        for variant in experiment.variants
        if variant.key in active
        and (with_control if variant.is_control else variant.offer.kind is not OfferKind.NONE)
    ]


def _at(marks: Sequence[Mark], at_us: int) -> Mark | None:
    """The last mark at or before an instant."""
    return next((mark for mark in reversed(marks) if mark.at_us <= at_us), None)


def _between(start: Mark, end: Mark) -> tuple[int, int]:
    """Units assigned and outcomes that came between two marks, over all variants (never below 0)."""
    units = sum(t.assigned for t in end.variants.values()) - sum(t.assigned for t in start.variants.values())
    came = sum(t.outcomes for t in end.variants.values()) - sum(t.outcomes for t in start.variants.values())
    return max(0, units), max(0, came)
