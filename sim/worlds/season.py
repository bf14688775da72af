"""Drift: the week, the year, and shocks that come and go."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from sim.worlds.errors import demand, within

HOURLY = (2, 1, 1, 1, 1, 2, 3, 5, 6, 7, 7, 8, 9, 8, 7, 7, 8, 9, 10, 12, 12, 10, 7, 4)
"""Customers by hour of the day, relative: a quiet night, a busy evening."""

_WEEK = (1.0,) * 7
_YEAR = (1.0,) * 12


@dataclass(frozen=True, slots=True)
class Shock:
    """Factors from one day of the run to another, both included.

    `mix` multiplies the shares of segments, which are then brought back to a sum of 1.
    """

    from_day: int
    to_day: int
    traffic: float = 1.0
    conversion: float = 1.0
    order_value: float = 1.0
    refunds: float = 1.0
    mix: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        demand(0 <= self.from_day <= self.to_day, "from_day", "it must be from 0 to to_day")
        for name in ("traffic", "conversion", "order_value", "refunds"):
            demand(0 < getattr(self, name) < 1000, name, "it must be above 0")
        demand(all(0 <= factor < 1e6 for factor in self.mix.values()), "mix", "factors must not be below 0")


@dataclass(frozen=True, slots=True)
class Factors:
    """What a day multiplies."""

    traffic: float
    conversion: float
    order_value: float
    refunds: float
    mix: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Season:
    """Regular drift and shocks. Weeks begin on Monday; of a month the factor is that of its middle."""

    weekday_traffic: tuple[float, ...] = _WEEK
    weekday_conversion: tuple[float, ...] = _WEEK
    monthly_traffic: tuple[float, ...] = _YEAR
    monthly_conversion: tuple[float, ...] = _YEAR
    hourly: tuple[float, ...] = HOURLY
    shocks: tuple[Shock, ...] = ()

    def __post_init__(self) -> None:
        for name, length in (("weekday", 7), ("monthly", 12)):
            for of in ("traffic", "conversion"):
                factors = getattr(self, f"{name}_{of}")
                right = len(factors) == length and all(0 < factor < 1000 for factor in factors)
                demand(right, f"{name}_{of}", f"there must be {length} factors above 0")
        within("hourly", len(self.hourly), 24, 24)
        right = min(self.hourly) >= 0 and 0 < sum(self.hourly) < math.inf
        demand(right, "hourly", "there must be 24 weights, none below 0 and not all 0")

    def factors(self, start: date, day: int) -> Factors:
        """The factors of a day of a run that began on `start`; those of overlapping shocks multiply.

        >>> Season(weekday_traffic=(1, 1, 1, 1, 1, 2, 2)).factors(date(2026, 3, 2), 5).traffic
        2.0
        """
        today = start + timedelta(days=day)
        traffic = self.weekday_traffic[today.weekday()] * _of_year(self.monthly_traffic, today)
        conversion = self.weekday_conversion[today.weekday()] * _of_year(self.monthly_conversion, today)
        shocks = [shock for shock in self.shocks if shock.from_day <= day <= shock.to_day]
        mix: dict[str, float] = {}
        for shock in shocks:
            for segment, factor in shock.mix.items():
                mix[segment] = mix.get(segment, 1.0) * factor
        return Factors(
            traffic=traffic * math.prod(shock.traffic for shock in shocks),
            conversion=conversion * math.prod(shock.conversion for shock in shocks),
            order_value=math.prod(shock.order_value for shock in shocks),
            refunds=math.prod(shock.refunds for shock in shocks),
            mix=mix,
        )


def _of_year(monthly: tuple[float, ...], today: date) -> float:
    """The factor of a day: on the line between the middles of the two months nearest to it."""
    length = ((today.replace(day=28) + timedelta(days=4)).replace(day=1) - today.replace(day=1)).days
    place = today.month - 1.5 + (today.day - 0.5) / length  # 0 = the middle of January
    before = math.floor(place)
    part = place - before
    return float(monthly[before % 12] * (1 - part) + monthly[(before + 1) % 12] * part)


STEADY = Season()
"""No drift at all."""
