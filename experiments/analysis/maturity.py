"""When a cohort's figures are complete.

A cell holds the units of one enrolment day, so it matures as a whole: when the window of the last
instant of that day, in the store's time zone, has closed. Under any policy whose shares move, an arm
whose share just rose has younger units; comparing unmatured cohorts would count their missing orders
against it.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from experiments.statistics import Cell


@lru_cache(maxsize=4096)  # asked for every cell of a report
def end_of_day(day: date, time_zone: str) -> datetime:
    """The first instant after the day, in UTC; a day with a clock change is 23 or 25 hours long.

    >>> end_of_day(date(2026, 3, 29), "Europe/Rome").isoformat()
    '2026-03-29T22:00:00+00:00'
    """
    midnight = datetime.combine(day + timedelta(days=1), time(), tzinfo=ZoneInfo(time_zone))
    return midnight.astimezone(UTC)


def closes_at(day: date, window: timedelta, time_zone: str) -> datetime:
    """When the window of the day's last unit closes."""
    return end_of_day(day, time_zone) + window


def matured(cells: Iterable[Cell], window: timedelta, time_zone: str, now: datetime) -> list[Cell]:
    """The cells whose every unit has its window behind it."""
    closed: dict[date, bool] = {}
    chosen: list[Cell] = []
    for cell in cells:
        day = cell.key.day
        if day not in closed:
            closed[day] = closes_at(day, window, time_zone) <= now
        if closed[day]:
            chosen.append(cell)
    return chosen


def discount(day: date, half_life: timedelta, time_zone: str, now: datetime) -> float:
    """The weight 2^(-age / half-life) of a cohort day, age counted from the day's end and never below 0.

    >>> discount(date(2026, 1, 1), timedelta(days=2), "UTC", datetime(2026, 1, 6, tzinfo=UTC))
    0.25
    """
    age = (now - end_of_day(day, time_zone)).total_seconds()
    return 2.0 ** (-max(0.0, age) / half_life.total_seconds())
