"""Where the service takes its time from."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Times from the epoch to here: any window, in any time zone, still ends inside the calendar."""


class Clock(Protocol):
    """Microseconds since 1970 UTC, for a store."""

    def now_us(self, simulated_now_us: int | None) -> int:
        """The time in a store, given its simulated time if it has one."""
        ...


class SystemClock:
    """The machine's time."""

    def now_us(self, simulated_now_us: int | None) -> int:
        """The machine's time, whatever the store."""
        return time.time_ns() // 1000


class ExternalClock:
    """Time from `POST /v1/clock`, for simulated stores; it stands still in between."""

    def now_us(self, simulated_now_us: int | None) -> int:
        """The store's simulated time; the machine's for a store that has none yet."""
        return time.time_ns() // 1000 if simulated_now_us is None else simulated_now_us


def to_datetime(at_us: int) -> datetime:
    """Microseconds as an aware UTC datetime."""
    return EPOCH + timedelta(microseconds=at_us)


def to_micros(at: datetime) -> int:
    """An aware datetime in microseconds since 1970 UTC."""
    return (at - EPOCH) // timedelta(microseconds=1)


def is_in_calendar(at_us: int) -> bool:
    """Whether we can reckon with a time: the first day of the year 1 has no day before it."""
    return 0 <= at_us < to_micros(LATEST)


def to_wire(at_us: int) -> str:
    """Microseconds as RFC 3339 in UTC."""
    text = to_datetime(at_us).isoformat()
    return text.replace("+00:00", "Z")
