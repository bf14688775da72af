"""Drift: whether the last week contradicts the weeks before it, on the objective, with an alarm.

===========  ===================================================================  ====================
symbol       meaning                                                              unit
===========  ===================================================================  ====================
recent       the 7 newest days of enrolment whose window has closed               days
before       all whole weeks of closed days before them, discounted as the       days
             policy discounts (`discount_half_life`)
x_v, y_v     the objective of variant v in the two, standardised over (candidate  the objective's
             set, weekday), the same weights in both
d_v, s_v     x_v - y_v and its standard error                                     the objective's
===========  ===================================================================  ====================

Without drift d_v ~ Normal(0, s_v^2), independent between variants. The sum of (d_v / s_v)^2 parts into

    common   dbar^2 sum 1 / s_v^2, dbar the mean of the d_v weighted by 1 / s_v^2      chi-square, 1
    between  sum (d_v - dbar)^2 / s_v^2                                                chi-square, K - 1

the first sees all variants rise or fall together, the second their order change. p is twice the smaller of
the two p-values (Bonferroni). The alarm is raised below 0.0001 and cleared at 0.05 or above, so that it does
not come and go. One look is not 90: of 300 shops without drift one saw an alarm in 90 daily looks, measured
in `docs/delay-and-drift.md`; at 0.001 nine of 120 did.

Weekdays are compared with the same weekdays, so a quiet Sunday is no drift, whoever had most units then.
Limits: needs 14 closed days and 200 units of a variant in both windows; a week whose days differ by more than
chance (a promotion) is drift, as it should be; slow drift is seen only once a week stands out. After a
lasting change the alarm stays as long as the posteriors rest on what was before: the remedy is
`discount_half_life`, under which it fades. With `discount: after_drift` it begins when the alarm is first
raised and then stays, since the old weeks would come back with the alarm's end.

Source: Cochran 1954, Biometrics 10, section 2 (the partition of chi-square).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from scipy import special

from experiments.analysis.estimates import ratio
from experiments.analysis.maturity import closes_at, discount, end_of_day
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.strata import MIN_UNITS, Stratum, Table, parts_of, tabulate
from experiments.model import Discounting, Experiment
from experiments.statistics import Cell

WEEK = 7
MIN_VARIANT_UNITS = 200
RAISE = 0.0001
CLEAR = 0.05


class DriftState(StrEnum):
    """What the two windows say; unknown while they cannot be compared."""

    UNKNOWN = "unknown"
    STEADY = "steady"
    DRIFTING = "drifting"


@dataclass(frozen=True, slots=True)
class Change:
    """A variant's figure before and recently, with the standard error of the difference."""

    before: float
    recent: float
    error: float


@dataclass(frozen=True, slots=True)
class Drift:
    """The comparison of the two windows; days are first and last, included."""

    state: DriftState = DriftState.UNKNOWN
    p_common: float | None = None
    p_between: float | None = None
    recent: tuple[date, date] | None = None
    before: tuple[date, date] | None = None
    changes: Mapping[str, Change] = field(default_factory=dict[str, Change])
    discounting: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values, as a policy version keeps them."""
        return {
            "state": self.state.value,
            "p_common": self.p_common,
            "p_between": self.p_between,
            "recent": _days(self.recent),
            "before": _days(self.before),
            "changes": {
                key: {"before": change.before, "recent": change.recent, "error": change.error}
                for key, change in self.changes.items()
            },
            "discounting": self.discounting,
        }


def watch_drift(
    experiment: Experiment,
    cells: Sequence[Cell],
    before: Mapping[str, Any] | None,
    *,
    time_zone: str,
    now: datetime,
) -> Drift:
    """`drift_of`, and whether old cohorts count less from now on; `before` is the last version's drift."""
    last = before or {}
    was = bool(last.get("discounting"))
    found = drift_of(
        reading_as(experiment, discounting=was), cells, last.get("state"), time_zone=time_zone, now=now
    )
    is_due = was or experiment.policy.discount is Discounting.ALWAYS or found.state is DriftState.DRIFTING
    return replace(found, discounting=is_due and experiment.policy.discount_half_life is not None)


def reading_as(experiment: Experiment, *, discounting: bool) -> Experiment:
    """The experiment as its results are to be read: without its half-life while that has not begun."""
    policy = experiment.policy
    if discounting or policy.discount is Discounting.ALWAYS:
        return experiment
    return replace(experiment, policy=replace(policy, discount_half_life=None))


def drift_of(
    experiment: Experiment,
    cells: Sequence[Cell],
    previous: str | None = None,
    *,
    time_zone: str,
    now: datetime,
) -> Drift:
    """Compare the last closed week with the weeks before; `previous` is the state on record, if any."""
    definition = metric_definitions(experiment)[experiment.policy.objective]
    days = {cell.key.day for cell in cells}
    closed = {day for day in days if closes_at(day, definition.horizon, time_zone) <= now}
    if not closed:
        return Drift(_next(previous, None))
    last = max(closed)
    weeks = ((last - min(closed)).days + 1) // WEEK - 1
    if weeks < 1:
        return Drift(_next(previous, None))
    recent = last - timedelta(days=WEEK - 1), last
    before = recent[0] - timedelta(days=WEEK * weeks), recent[0] - timedelta(days=1)
    old = tabulate(
        _by_weekday(cells, *before), definition.winsorised, _fading(experiment, recent[0], time_zone)
    )
    new = tabulate(_by_weekday(cells, *recent), definition.winsorised)
    found = {variant.key: _change(variant.key, old, new) for variant in experiment.variants}
    changes = {key: change for key, change in found.items() if change is not None}
    if not changes:
        return Drift(_next(previous, None), recent=recent, before=before)
    common, between = p_values(list(changes.values()))
    p = min(1.0, 2.0 * min(common, between))
    return Drift(_next(previous, p), common, between, recent, before, changes)


def p_values(changes: Sequence[Change]) -> tuple[float, float]:
    """P-values of a change common to all, and of changes that differ (1 with one variant).

    >>> round(p_values([Change(0.10, 0.12, 0.01), Change(0.20, 0.18, 0.01)])[0], 12)
    1.0
    """
    weights = [1.0 / change.error**2 for change in changes]
    differences = [change.recent - change.before for change in changes]
    total = math.fsum(weights)
    mean = math.fsum(w * d for w, d in zip(weights, differences, strict=True)) / total
    between = math.fsum(w * (d - mean) ** 2 for w, d in zip(weights, differences, strict=True))
    common = float(special.chdtrc(1, mean * mean * total))
    return common, float(special.chdtrc(len(changes) - 1, between)) if len(changes) > 1 else 1.0


def _next(previous: str | None, p: float | None) -> DriftState:
    """The state after a look; one without figures changes nothing."""
    was = DriftState(previous or DriftState.UNKNOWN)
    if p is None:
        return was
    stays = was is DriftState.DRIFTING and p < CLEAR
    return DriftState.DRIFTING if p < RAISE or stays else DriftState.STEADY


def _fading(experiment: Experiment, since: date, time_zone: str) -> Callable[[Cell], float] | None:
    """What the policy's own discount leaves of the days before: it makes their errors a little too large."""
    half_life = experiment.policy.discount_half_life
    if half_life is None:
        return None
    start = end_of_day(since - timedelta(days=1), time_zone)
    return lambda cell: discount(cell.key.day, half_life, time_zone, start)


def _by_weekday(cells: Sequence[Cell], first: date, last: date) -> list[Cell]:
    """The cells of the days, with the weekday in the place of the epoch: what a stratum is made of."""
    return [
        replace(cell, key=cell.key._replace(epoch=cell.key.day.weekday()))
        for cell in cells
        if first <= cell.key.day <= last
    ]


def _change(variant: str, before: Table, recent: Table) -> Change | None:
    """The variant's two figures over the places where both windows have 10 units of it."""
    places = [
        place
        for place in before.all_units
        if min(before.size_at(variant, place), recent.size_at(variant, place)) >= MIN_UNITS
    ]
    units = [table.size(variant, places) for table in (before, recent)]
    if not places or min(units) < MIN_VARIANT_UNITS:
        return None
    weights = [before.all_units[place] + recent.all_units[place] for place in places]
    strata = [Stratum(weight / sum(weights), (place,)) for weight, place in zip(weights, places, strict=True)]
    old, new = (ratio(parts_of(table, variant, strata, with_prior=False)) for table in (before, recent))
    if old is None or new is None or old.posterior is None or new.posterior is None:
        return None
    return Change(old.figure, new.figure, math.hypot(old.posterior.width, new.posterior.width))


def _days(days: tuple[date, date] | None) -> list[str] | None:
    return None if days is None else [day.isoformat() for day in days]
