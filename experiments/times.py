"""Durations (`<int>(s|m|h|d)`) and instants (RFC 3339 with offset) as the wire writes them."""

import re
from datetime import UTC, datetime, timedelta

DURATION_PATTERN = "^[0-9]{1,9}[smhd]$"
INSTANT_PATTERN = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}


def parse_duration(text: str) -> timedelta:
    """Read a duration; ValueError when the text is none.

    >>> parse_duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    if not re.fullmatch(DURATION_PATTERN.removesuffix("$"), text):
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m, 24h or 7d")
    return int(text[:-1]) * _UNITS[text[-1]]


def format_duration(duration: timedelta) -> str:
    """Write a duration of whole seconds in the largest unit that divides it.

    >>> format_duration(timedelta(hours=48)), format_duration(timedelta(seconds=90))
    ('2d', '90s')
    """
    for name, unit in _UNITS.items():
        if not duration % unit:
            return f"{duration // unit}{name}"
    raise ValueError(f"{duration} is not a whole number of seconds")


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 time into aware UTC; ValueError when it is none or has no offset.

    >>> parse_instant("2026-03-01T12:00:00+02:00").isoformat()
    '2026-03-01T10:00:00+00:00'
    """
    if not re.fullmatch(INSTANT_PATTERN.removesuffix("$"), text):
        raise ValueError(f"{text!r} is not a time such as 2026-03-01T12:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:  # year 1 or 9999, moved out of the calendar by its offset
        raise ValueError(f"{text!r} lies outside the calendar") from error


def format_instant(instant: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC.

    >>> format_instant(datetime(2026, 3, 1, tzinfo=UTC))
    '2026-03-01T00:00:00Z'
    """
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
