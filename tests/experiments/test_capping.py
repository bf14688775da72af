"""When caps are fixed: at 2,000 matured non-zero totals, pooled over variants, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from experiments.allocation.capping import TOTALS_NEEDED, new_caps
from experiments.model import Winsorise
from experiments.statistics import Cell, CellKey
from tests.experiments.cells import experiment_of

DAY = date(2026, 3, 2)
NOW = datetime(2026, 4, 1, tzinfo=UTC)  # the window of 7 days has closed
OPEN = datetime(2026, 3, 9, tzinfo=UTC)


def cell(variant: str, day: date = DAY, **histograms: dict[int, int]) -> Cell:
    made = Cell(CellKey(variant, "", 1, day, 1), frozenset(("none", "socks")))
    made.histograms = dict(histograms)
    return made


def caps(
    *cells: Cell, now: datetime = NOW, fixed: dict[str, tuple[int, int]] | None = None
) -> dict[str, tuple[int, int]]:
    return new_caps(experiment_of("socks"), cells, fixed or {}, time_zone="UTC", now=now)


def test_at_two_thousand_totals_pooled_over_variants() -> None:
    """Of 1 to 50, 40 of each: the 0.1 % quantile is 1, the 99.9 % quantile 50; bins up to 64 are exact."""
    half = {value: 20 for value in range(1, 51)}
    assert caps(cell("none", revenue=half), cell("socks", revenue=half)) == {"revenue": (1, 50)}


def test_one_total_short_there_is_no_cap() -> None:
    assert TOTALS_NEEDED == 2000
    assert caps(cell("none", revenue={5: 1999})) == {}
    assert caps(cell("none", revenue={5: 1999}), cell("socks", revenue={5: 1})) == {"revenue": (5, 5)}


def test_a_tail_beyond_the_quantile_is_cut_and_one_within_is_not() -> None:
    """Of 2,000 totals 0.1 % are two: a third large one is the 99.9 % quantile itself (rank 1,998)."""
    assert caps(cell("none", revenue={5: 1998, 60: 2}))["revenue"] == (5, 5)
    assert caps(cell("none", revenue={5: 1997, 60: 3}))["revenue"] == (5, 60)
    assert caps(cell("none", margin={-7: 2, 5: 1998}))["margin"] == (-7, 5)


def test_only_matured_totals_count() -> None:
    assert caps(cell("none", revenue={5: 2000}), now=OPEN) == {}
    old, young = cell("none", revenue={5: 1500}), cell("none", date(2026, 3, 31), revenue={5: 1500})
    assert caps(old, young) == {}


def test_a_cap_once_fixed_is_never_moved() -> None:
    assert caps(cell("none", revenue={5: 4000}), fixed={"revenue": (1, 2)}) == {}
    found = caps(cell("none", revenue={5: 4000}, margin={3: 2500}), fixed={"revenue": (1, 2)})
    assert found == {"margin": (3, 3)}


def test_without_winsorising_there_are_none() -> None:
    experiment = replace(experiment_of("socks"), winsorise=None)
    cells = [cell("none", revenue={5: 4000})]
    assert new_caps(experiment, cells, {}, time_zone="UTC", now=NOW) == {}


@pytest.mark.parametrize(("upper", "wanted"), [(0.5, 1), (0.75, 2), (1.0, 2)])
def test_the_quantiles_are_the_experiments(upper: float, wanted: int) -> None:
    experiment = replace(experiment_of("socks"), winsorise=Winsorise(0.0, upper))
    cells = [cell("none", revenue={1: 1000, 2: 1000})]
    assert new_caps(experiment, cells, {}, time_zone="UTC", now=NOW) == {"revenue": (1, wanted)}
