"""Which units a report is about, and how many they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import MappingProxyType

from experiments.analysis.maturity import matured
from experiments.analysis.report import DayCount
from experiments.analysis.served import EpochShares
from experiments.statistics import Cell

COUNTED = (
    "assigned",
    "units",
    "exposed",
    "crossover",
    "unknown_cost_orders",
    "unconverted_orders",
    "ltv_30d_unknown_cost",
    "ltv_90d_unknown_cost",
    "ltv_180d_unknown_cost",
    "ltv_30d_unconverted",
    "ltv_90d_unconverted",
    "ltv_180d_unconverted",
)

_NONE_KNOWN: EpochShares = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Cohort:
    """Cells that count for a metric, with the totals of `COUNTED` by variant."""

    cells: tuple[Cell, ...]
    totals: Mapping[str, Mapping[str, int]]

    def total(self, variant: str, feature: str) -> int:
        """A variant's total of one counted feature."""
        return self.totals.get(variant, {}).get(feature, 0)

    def overall(self, feature: str) -> int:
        """The total over all variants."""
        return sum(totals[feature] for totals in self.totals.values())


def cohort_of(cells: Iterable[Cell]) -> Cohort:
    """Count the cells."""
    chosen = tuple(cells)
    totals: dict[str, dict[str, int]] = {}
    for cell in chosen:
        total = totals.get(cell.key.variant)
        if total is None:
            total = totals[cell.key.variant] = dict.fromkeys(COUNTED, 0)
        found = cell.moments.sums.get
        for feature in COUNTED:
            if value := found(feature):
                total[feature] += value
    return Cohort(chosen, totals)


class Cohorts:
    """The cells of a report by the window they must have behind them; each is selected once.

    `epoch_shares` says with which shares their units were assigned, as far as that is known.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        only_matured: bool,
        time_zone: str,
        now: datetime,
        epoch_shares: EpochShares = _NONE_KNOWN,
    ) -> None:
        self.all = cohort_of(cells)
        self.epoch_shares = epoch_shares
        self._only_matured = only_matured
        self.time_zone = time_zone
        self.now = now
        self._by_window: dict[timedelta, Cohort] = {}

    def closed(self, window: timedelta) -> Cohort:
        """The cohort whose window has closed, whatever the report asks for."""
        if window not in self._by_window:
            cells = matured(self.all.cells, window, self.time_zone, self.now)
            self._by_window[window] = cohort_of(cells)
        return self._by_window[window]

    def of(self, window: timedelta) -> Cohort:
        """The cohort that counts for a metric of that window."""
        return self.closed(window) if self._only_matured else self.all


def select(
    cells: Iterable[Cell], *, segment: str | None, from_day: date | None, to_day: date | None
) -> list[Cell]:
    """The cells of a segment and of the enrolment days from `from_day` up to and including `to_day`."""
    return [
        cell
        for cell in cells
        if (segment is None or cell.key.segment == segment)
        and (from_day is None or cell.key.day >= from_day)
        and (to_day is None or cell.key.day <= to_day)
    ]


def day_counts(cells: Iterable[Cell]) -> tuple[DayCount, ...]:
    """Enrolments by day and variant, oldest first."""
    counts: dict[tuple[date, str], list[int]] = {}
    for cell in cells:
        count = counts.setdefault((cell.key.day, cell.key.variant), [0, 0])
        count[0] += cell.moments.sum("assigned")
        count[1] += cell.moments.sum("units")
    return tuple(
        DayCount(day, variant, assigned, units)
        for (day, variant), (assigned, units) in sorted(counts.items())
    )


def units_per_week(days: Sequence[DayCount]) -> float:
    """Enrolments per week over the last seven days that had any."""
    recent = sorted({count.day for count in days})[-7:]
    if not recent:
        return 0.0
    span = (recent[-1] - recent[0]).days + 1
    units = sum(count.units for count in days if count.day >= recent[0])
    return 7.0 * units / span
