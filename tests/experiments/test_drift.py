"""The drift alarm: its law without drift, its power with it, weekdays, and planted bugs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from experiments.allocation import drift
from experiments.allocation.drift import (
    Change,
    Drift,
    DriftState,
    drift_of,
    p_values,
    reading_as,
    watch_drift,
)
from experiments.model import Discounting, Experiment, PolicyKind, PolicySettings
from experiments.statistics import Cell, CellKey
from tests.experiments.cells import experiment_of

KEYS = ("none", "socks", "mug")
START = date(2026, 3, 2)  # a Monday
RATES = {"none": 0.10, "socks": 0.12, "mug": 0.14}
EXPERIMENT = experiment_of(
    "socks",
    "mug",
    settings=PolicySettings(kind=PolicyKind.THOMPSON, objective="conversion_rate"),
    attribution_window=timedelta(days=2),
)


def cells_of(
    rng: np.random.Generator,
    days: int,
    rate: Callable[[str, int], float] = lambda key, _: RATES[key],
    share: Mapping[str, Callable[[int], int]] | None = None,
) -> list[Cell]:
    """A cell for each variant and day: conversions of that day's rate, 300 units unless said otherwise."""
    cells: list[Cell] = []
    for day in range(days):
        for key in KEYS:
            n = 300 if share is None else share[key](day)
            hits = int(rng.binomial(n, rate(key, day)))
            cell = Cell(CellKey(key, "", 1, START + timedelta(days=day), day // 3), frozenset(KEYS))
            cell.moments.add_units(
                [{"assigned": 1, "units": 1, "converted": 1}, {"assigned": 1, "units": 1}], [hits, n - hits]
            )
            cells.append(cell)
    return cells


def look(
    cells: list[Cell], day: int, previous: str | None = None, experiment: Experiment = EXPERIMENT
) -> Drift:
    """A look at the end of a day: the two newest days are still open."""
    now = datetime.combine(START, datetime.min.time(), tzinfo=UTC) + timedelta(days=day + 1)
    return drift_of(experiment, cells, previous, time_zone="UTC", now=now)


def test_without_drift_the_p_values_are_uniform():
    """150 shops of 30 days; with the error of one window only, as a bug would have it, they are not."""
    rng = np.random.default_rng(4)
    looks = [look(cells_of(rng, 30), 31) for _ in range(150)]
    for name in ("p_common", "p_between"):
        assert stats.kstest([getattr(found, name) for found in looks], "uniform").pvalue > 1e-3
    short = [
        p_values([Change(c.before, c.recent, 0.5 * c.error) for c in found.changes.values()])
        for found in looks
    ]
    assert stats.kstest([between for _, between in short], "uniform").pvalue < 1e-3


def test_the_windows_are_the_last_closed_week_and_whole_weeks_before():
    """30 days seen at the end of day 31, window 2 days: days 23 to 29 are recent, 2 to 22 before."""
    found = look(cells_of(np.random.default_rng(1), 30), 31)
    day = lambda number: START + timedelta(days=number)  # noqa: E731
    assert found.recent == (day(23), day(29))
    assert found.before == (day(2), day(22))
    n, rate = 300 * 7, 0.12
    expected = np.sqrt(rate * (1 - rate) * (1 / n + 1 / (3 * n)))
    assert found.changes["socks"].error == pytest.approx(expected, rel=0.1)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["recent"] == ["2026-03-25", "2026-03-31"]
    assert plain["changes"]["mug"]["recent"] == found.changes["mug"].recent


@pytest.mark.parametrize("kind", ["common", "between"])
def test_a_common_change_and_a_change_of_order_are_told_apart(kind):
    """From day 23 on all rates are 30 % higher, or socks and mug have changed places."""
    swapped = {"none": 0.10, "socks": 0.14, "mug": 0.12}

    def rate(key: str, day: int) -> float:
        if day < 23:
            return RATES[key]
        return 1.3 * RATES[key] if kind == "common" else swapped[key]

    found = look(cells_of(np.random.default_rng(2), 30, rate), 31)
    assert found.p_common is not None
    assert found.p_between is not None
    if kind == "common":
        assert found.p_common < 1e-4
        assert found.p_between > 0.01
        assert found.state is DriftState.DRIFTING
    else:
        assert found.p_between < 0.02
        assert found.p_common > 0.01


def test_the_alarm_has_hysteresis():
    """Raised below 0.0001, kept up to 0.05, cleared from there; p is twice the smaller of two."""
    cells = cells_of(np.random.default_rng(3), 30)
    state, states = None, []
    for p in (0.01, 0.00006, 0.00004, 0.02, 0.024, 0.026, 0.01):
        with mock.patch.object(drift, "p_values", lambda _, p=p: (0.9, p)):
            state = look(cells, 31, state).state.value
            states.append(state)
    assert states == ["steady", "steady", "drifting", "drifting", "drifting", "steady", "steady"]


@pytest.mark.parametrize(("half_life", "lasts"), [(None, True), (timedelta(days=4), False)])
def test_after_a_lasting_change_the_alarm_stays_until_the_past_is_forgotten(half_life, lasts):
    """All rates are 40 % higher from day 30 on. Five weeks later only an undiscounted past contradicts."""
    rng = np.random.default_rng(3)
    cells = cells_of(rng, 66, lambda key, day: RATES[key] * (1.4 if day >= 30 else 1.0))
    policy = replace(EXPERIMENT.policy, discount_half_life=half_life)
    state, states = None, {}
    for day in range(12, 66):
        seen = [c for c in cells if (c.key.day - START).days <= day]
        state = look(seen, day, state, replace(EXPERIMENT, policy=policy)).state.value
        states[day] = state
    assert {states[day] for day in (12, 13, 14)} == {"unknown"}, "14 closed days are needed"
    assert "drifting" in [states[day] for day in range(32, 40)]
    assert {states[day] for day in range(15, 30)} == {"steady"}
    assert (states[65] == "drifting") == lasts


def test_after_drift_discounts_from_the_first_alarm_on_and_for_good():
    """All rates are 40 % higher from day 30 on. Without a change the half-life never begins."""
    rng, half_life = np.random.default_rng(3), timedelta(days=4)
    moved = cells_of(rng, 66, lambda key, day: RATES[key] * (1.4 if day >= 30 else 1.0))
    waits = replace(EXPERIMENT.policy, discount_half_life=half_life, discount=Discounting.AFTER_DRIFT)
    experiment = replace(EXPERIMENT, policy=waits)
    for cells, expected in ((moved, True), (cells_of(rng, 66), False)):
        plain: dict[str, Any] | None = None
        entries: dict[int, dict[str, Any]] = {}
        for day in range(12, 66):
            seen = [c for c in cells if (c.key.day - START).days <= day]
            now = datetime.combine(START, datetime.min.time(), tzinfo=UTC) + timedelta(days=day + 1)
            plain = watch_drift(experiment, seen, plain, time_zone="UTC", now=now).to_json()
            entries[day] = json.loads(json.dumps(plain))
        begun = [day for day, entry in entries.items() if entry["discounting"]]
        assert bool(begun) == expected
        if begun:
            assert entries[begun[0]]["state"] == "drifting"
            assert 32 <= begun[0] < 40
            assert begun == list(range(begun[0], 66))
            assert entries[65]["state"] == "steady", "the past has been forgotten, and stays so"
    for one in (experiment, EXPERIMENT):
        assert reading_as(one, discounting=True) == one
    assert reading_as(experiment, discounting=False).policy.discount_half_life is None
    always = replace(EXPERIMENT, policy=replace(EXPERIMENT.policy, discount_half_life=half_life))
    assert reading_as(always, discounting=False) == always
    assert watch_drift(always, [], None, time_zone="UTC", now=datetime(2026, 4, 1, tzinfo=UTC)).discounting


def test_weekdays_and_shares_that_move_are_no_drift():
    """Sundays sell twice as well, and mug has most of one: the same weekdays are compared."""
    rng = np.random.default_rng(6)
    share = {
        "none": lambda day: 400,
        "socks": lambda day: 300,
        "mug": lambda day: 2000 if day == 27 else 60 + day,
    }
    cells = cells_of(rng, 30, lambda key, day: RATES[key] * (2.0 if day % 7 == 6 else 1.0), share)
    assert look(cells, 31).state is DriftState.STEADY
    with mock.patch.object(drift, "_by_weekday", lambda cells, first, last: merged(cells, first, last)):
        assert look(cells, 31).state is DriftState.DRIFTING, "pooled over weekdays the same shop drifts"


def merged(cells: list[Cell], first: date, last: date) -> list[Cell]:
    return [cell for cell in cells if first <= cell.key.day <= last and _as_one(cell)]


def _as_one(cell: Cell) -> bool:
    cell.key = cell.key._replace(epoch=0)
    return True


def test_what_cannot_be_compared_changes_nothing():
    rng = np.random.default_rng(5)
    assert look([], 5).state is DriftState.UNKNOWN
    assert look(cells_of(rng, 12), 13, "drifting").state is DriftState.DRIFTING
    few = cells_of(rng, 30, share=dict.fromkeys(KEYS, lambda day: 20))
    found = look(few, 31)
    assert (found.state, found.changes, found.p_common) == (DriftState.UNKNOWN, {}, None)
    nobody = cells_of(rng, 30, lambda key, _: 0.0 if key == "mug" else RATES[key])
    assert look(nobody, 31).changes.keys() == {"none", "socks"}
    one = cells_of(rng, 30, lambda key, _: RATES[key] if key == "none" else 0.0)
    assert look(one, 31).p_between == 1.0


def test_the_partition_of_chi_square_by_hand():
    """d = 0.02 and -0.01, s = 0.01 each: mean 0.005, common 2 x 0.25 = 0.5, between 2.25 + 2.25 = 4.5."""
    common, between = p_values([Change(0.1, 0.12, 0.01), Change(0.2, 0.19, 0.01)])
    assert common == pytest.approx(stats.chi2.sf(0.5, 1))
    assert between == pytest.approx(stats.chi2.sf(4.5, 1))
