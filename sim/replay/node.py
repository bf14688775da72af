"""A map of a YAML document being read: typed access that collects faults instead of raising."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar, cast

from experiments.times import parse_duration
from sim.replay.conditions import Condition, parse_condition

E = TypeVar("E", bound=StrEnum)


class Node:
    """One map, the path to it, and the list that gathers every fault of the document."""

    def __init__(self, data: Mapping[Any, Any], path: str, problems: list[str]) -> None:
        self._data = {str(key): value for key, value in data.items()}
        self._path = path
        self.problems = problems

    def fault(self, key: str, remedy: str) -> None:
        """Note what is wrong with a field."""
        self.problems.append(f"{self._where(key)}: {remedy}")

    @property
    def fields(self) -> list[str]:
        """The fields there are."""
        return list(self._data)

    def only(self, known: Iterable[str]) -> None:
        """Fault every field that is not known."""
        names = sorted(known)
        for key in sorted(set(self._data) - set(names)):
            self.fault(key, f"unknown; the fields here are {', '.join(names)}")

    def raw(self, key: str) -> Any:
        """The value as YAML gave it, None when absent."""
        return self._data.get(key)

    def child(self, key: str) -> "Node | None":
        """The map under a field; None when absent."""
        value = self._data.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fault(key, "a map is needed")
            return None
        return Node(cast("dict[Any, Any]", value), self._where(key), self.problems)

    def children(self, key: str) -> list["Node"]:
        """The maps of a list."""
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.fault(key, "a list of maps is needed")
            return []
        return [Node(item, f"{self._where(key)}/{index}", self.problems) for index, item in enumerate(value)]

    def text(self, key: str, default: str | None = None) -> str:
        """Text that is not empty."""
        value = self._data.get(key, default)
        if isinstance(value, str) and value:
            return value
        if key in self._data or default is None:
            self.fault(key, "text is needed")
        return default or ""

    def choice(self, key: str, options: type[E], default: E) -> E:
        """One of an enumeration's values."""
        value = self._data.get(key, default)
        for option in options:
            if value == option:
                return option
        self.fault(key, f"{value!r} is none of {', '.join(options)}")
        return default

    def duration(self, key: str, default: timedelta) -> timedelta:
        """A duration such as 90s, 15m, 24h or 7d."""
        value = self._data.get(key)
        if value is None:
            return default
        try:
            return parse_duration(str(value))
        except (ValueError, OverflowError):
            self.fault(key, f"{value!r} is not a duration such as 90s, 15m, 24h or 7d")
            return default

    def instant(self, key: str) -> datetime:
        """A time; one without an offset is UTC."""
        value = self._data.get(key)
        try:
            if isinstance(value, date) and not isinstance(value, datetime):
                value = datetime(value.year, value.month, value.day)
            found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            self.fault(key, f"{value!r} is not a time such as 2024-01-01T00:00:00Z")
            return datetime(2000, 1, 1, tzinfo=UTC)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)

    def integer(self, key: str) -> int | None:
        """A whole number from 0, or None when absent."""
        value = self._data.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            self.fault(key, "a whole number, 0 or more, is needed")
            return None
        return value

    def positive(self, key: str) -> float:
        """A number above 0 and below a hundred thousand."""
        value = self._data.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 100_000:
            return float(value)
        self.fault(key, "a number above 0 is needed")
        return 1.0

    def condition(self, key: str) -> Condition:
        """Field tests; none when absent."""
        value = self._data.get(key)
        if value is None:
            return Condition()
        try:
            return parse_condition(str(value))
        except ValueError as error:
            self.fault(key, str(error))
            return Condition()

    def _where(self, key: str) -> str:
        return f"{self._path}/{key}" if self._path else key
