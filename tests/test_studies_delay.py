"""The study of late orders and changing rates in short: what docs/delay-and-drift.md says holds."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from benchmarks.studies.alarms import Shop, alarms
from benchmarks.studies.delays import gain, without_delay
from benchmarks.studies.late import (
    AFTER_DRIFT,
    AS_THEY_ARE,
    DISCOUNTED,
    MATURED,
    MODEL,
    World,
    stationary,
    swapping,
)

QUICK = replace(DISCOUNTED, settings=replace(DISCOUNTED.settings, discount_half_life=timedelta(days=3)))


def test_the_delay_model_beats_waiting_and_counting_what_has_come():
    """Five arms, 8 and 12 %, delays of 2 days on average, 20 days of 1,000 units."""
    world = World(stationary(20, arms=5, best=0.12), delay_days=2.0)
    for other in (MATURED, AS_THEY_ARE):
        gained, error, _ = gain(world, MODEL, other, runs=6, seed=1)
        assert gained > 3 * error


def test_without_delay_it_costs_at_most_a_twentieth_of_the_orders():
    world = World(stationary(15, arms=5, best=0.12))
    _, _, part = gain(world, MODEL, AS_THEY_ARE, runs=5, seed=2)
    assert part > -0.05


def test_how_well_the_cost_is_known_by_hand():
    """Gains 2, 0, -2, -4: mean -1, error sqrt(20 / 3 / 4) = 1.29; (1 + 1.96 x 1.29) / 12 = 29.4 %."""
    ours, theirs = np.array([10.0, 12.0, 14.0, 16.0]), np.full(4, 12.0)
    text = "\n".join(without_delay(ours, theirs, np.full(4, 100.0)))
    assert "4 replications. The standard error of the difference is 1.3 orders, 10.8% of what is" in text
    assert "the model adds less than 29.4% to it" in text
    assert "| open windows as they are | 12 | -1 | -0.8 | -1.1% |" in text


def test_discounting_follows_rates_that_change_and_costs_little_where_none_does():
    """Half-life 3 days; every 8 days another arm is best. The same arms without change beside it."""
    gained, error, _ = gain(World(swapping(24, 8)), QUICK, AS_THEY_ARE, runs=6, seed=3)
    assert gained > 3 * error
    _, _, part = gain(World(stationary(24, 4, 0.14)), QUICK, AS_THEY_ARE, runs=6, seed=4)
    assert part > -0.05


def test_discounting_after_drift_follows_too_and_costs_nothing_where_none_is():
    """Every 15 days another arm is best: seen within a week. Without change not one order differs."""
    gained, error, _ = gain(World(swapping(45, 15)), AFTER_DRIFT, AS_THEY_ARE, runs=4, seed=7)
    assert gained > 3 * error
    gained, error, _ = gain(World(stationary(30, 4, 0.14)), AFTER_DRIFT, AS_THEY_ARE, runs=3, seed=8)
    assert (gained, error) == (0.0, 0.0)


def test_the_drift_alarm_is_rare_without_drift_and_soon_with_it():
    """5 shops for six weeks: none of them, and all of those whose rates rise by half on day 25."""
    steady = Shop(days=42)
    assert alarms(steady, runs=5, seed=5) == [None] * 5
    raised = alarms(replace(steady, after=(0.075, 0.0825, 0.09), changes=25), runs=5, seed=6)
    assert all(day is not None and 25 <= day <= 33 for day in raised)
