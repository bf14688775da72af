"""Who comes and when: customers per day, the week, the year, the hours, and the shares of segments."""

import numpy as np

from sim.fitting.found import DRAWS, Found
from sim.fitting.gathering import whole_days
from sim.fitting.log import ShopLog
from sim.fitting.rates import law
from sim.fitting.season import WEEKDAYS, Profile, calendar, fit_profile
from sim.worlds.season import HOURLY

HOURS_MIN = 200
"""Customers from whom on hours are told; the default counts as 24 more."""


def fit_traffic(log: ShopLog, found: Found) -> None:
    """`customers_per_day` (of those seen in the log), factors of the days, `hourly`, `share[...]`."""
    _days(log, found)
    _hours(log, found)
    counts = np.bincount(log.segment, minlength=len(log.segments)).astype(float)
    names = [f"share[{key}]" for key in log.segments]
    found.many(names, *law(counts, found.rng, DRAWS), counts)


def _days(log: ShopLog, found: Found) -> None:
    if not log.tells.days:
        span = max(1, log.days)
        draws = found.rng.gamma(len(log) + 0.5, 1.0 / span, DRAWS)
        found.data("customers_per_day", len(log) / span, draws, len(log))
        keep_flat(found, "traffic", has_week=False, has_year=False)
        return
    whole = whole_days(log)
    if not whole.any():
        whole[:] = True
    counts = np.bincount(log.day, minlength=log.days).astype(float)
    weekday, place = calendar(log.first_day, log.days)
    profile = fit_profile(counts, whole.astype(float), weekday, place, found.rng, DRAWS)
    found.data("customers_per_day", profile.base, profile.base_draws, len(log))
    tell(found, "traffic", profile, len(log))
    if profile.dispersion > 2:
        found.notes.append(
            f"traffic differs from day to day {profile.dispersion:.1f} times as much (in variance) as by "
            "chance; a world's days differ by chance, weekday and month alone"
        )


def tell(found: Found, of: str, profile: Profile, units: float) -> None:
    """The factors of weekdays and months, of traffic or conversion."""
    parts = np.full(12, units)
    if profile.has_week:
        names = [f"weekday_{of}[{day}]" for day in WEEKDAYS]
        found.many(names, profile.week, profile.week_draws, parts[:7])
    if profile.has_year:
        names = [f"monthly_{of}[{month}]" for month in range(1, 13)]
        found.many(names, profile.year, profile.year_draws, parts)
        for place in np.flatnonzero(~profile.seen).tolist():
            found.fixed(names[place], float(profile.year[place]))  # as the nearest month that was seen
    keep_flat(found, of, has_week=profile.has_week, has_year=profile.has_year)


def keep_flat(found: Found, of: str, *, has_week: bool, has_year: bool) -> None:
    """Factors of 1 where the log is too short to tell."""
    names = [] if has_week else [f"weekday_{of}[{day}]" for day in WEEKDAYS]
    names += [] if has_year else [f"monthly_{of}[{month}]" for month in range(1, 13)]
    for name in names:
        found.fixed(name, 1.0)


def _hours(log: ShopLog, found: Found) -> None:
    names = [f"hourly[{hour}]" for hour in range(24)]
    usual = np.array(HOURLY, float) / sum(HOURLY)
    if not log.tells.hours or len(log) < HOURS_MIN:
        for name, share in zip(names, usual.tolist(), strict=True):
            found.fixed(name, share)
        return
    counts = np.bincount(np.minimum(23, (log.second // 3600).astype(np.int64)), minlength=24)
    after = counts + 24 * usual
    found.many(names, after / after.sum(), found.rng.dirichlet(after, DRAWS), counts.astype(float))
