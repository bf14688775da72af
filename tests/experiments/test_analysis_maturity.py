from datetime import UTC, date, datetime, timedelta

import pytest

from experiments.analysis.cohorts import Cohorts, day_counts, select
from experiments.analysis.maturity import discount, end_of_day, matured
from tests.experiments.cells import cell_of

BOTH = ("none", "socks")


def cell(day: date, **more: object):
    return cell_of("socks", n=2, candidates=BOTH, day=day, **more)


def test_a_day_is_matured_when_the_window_of_its_last_instant_has_closed():
    """2 March ends in Rome at 23:00 UTC; with a window of 7 days it closes on the 9th at 23:00 UTC."""
    cells = [cell(date(2026, 3, 2))]
    closes = datetime(2026, 3, 9, 23, tzinfo=UTC)
    week = timedelta(days=7)
    assert matured(cells, week, "Europe/Rome", closes) == cells
    assert matured(cells, week, "Europe/Rome", closes - timedelta(microseconds=1)) == []
    assert matured(cells, week, "UTC", closes) == []
    assert matured(cells, week, "Pacific/Auckland", closes - timedelta(hours=12)) == cells


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 28), 24), (date(2026, 3, 29), 23), (date(2026, 10, 25), 25)]
)
def test_days_with_a_clock_change_are_shorter_or_longer(day, hours):
    length = end_of_day(day, "Europe/Rome") - end_of_day(day - timedelta(days=1), "Europe/Rome")
    assert length == timedelta(hours=hours)


def test_discount_halves_every_half_life_and_never_grows_above_one():
    half_life = timedelta(days=3)
    day = date(2026, 3, 2)
    ages = (-1, 0, 3, 6, 30)
    weights = [
        discount(day, half_life, "UTC", datetime(2026, 3, 3, tzinfo=UTC) + timedelta(days=age))
        for age in ages
    ]
    assert weights == pytest.approx([1, 1, 0.5, 0.25, 2.0**-10])


def test_a_report_selects_segment_and_cohort_days_ends_included():
    days = [date(2026, 3, d) for d in (1, 2, 3, 4)]
    cells = [cell(day, segment=segment) for day in days for segment in ("new", "loyal")]
    chosen = select(cells, segment="new", from_day=days[1], to_day=days[2])
    assert [(c.key.day, c.key.segment) for c in chosen] == [(days[1], "new"), (days[2], "new")]
    assert len(select(cells, segment=None, from_day=None, to_day=None)) == 8


def test_cohorts_answer_by_window_and_count_by_variant():
    now = datetime(2026, 3, 10, tzinfo=UTC)
    cells = [cell(date(2026, 3, 1), exposed=[1, 0]), cell(date(2026, 3, 5))]
    only = Cohorts(cells, only_matured=True, time_zone="UTC", now=now)
    both = Cohorts(cells, only_matured=False, time_zone="UTC", now=now)
    week = timedelta(days=7)
    assert (only.of(week).overall("units"), both.of(week).overall("units")) == (2, 4)
    assert both.closed(week).total("socks", "exposed") == 1
    assert both.closed(week).total("none", "units") == 0
    assert only.of(timedelta(days=30)).cells == ()


def test_day_counts_add_over_segments_and_epochs():
    cells = [cell(date(2026, 3, 1), segment="a"), cell(date(2026, 3, 1), segment="b"), cell(date(2026, 3, 2))]
    assert [(c.day.day, c.variant, c.assigned, c.units) for c in day_counts(cells)] == [
        (1, "socks", 4, 4),
        (2, "socks", 2, 2),
    ]
