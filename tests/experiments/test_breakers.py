"""Circuit breakers by hand, and how often they trip when nothing is the matter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson

from experiments.allocation.breakers import (
    HOUR_US,
    Breaker,
    BreakerState,
    Mark,
    Totals,
    breaker_of,
    judged,
    mark_of,
)
from experiments.model import Anchor, Breakers, CustomMetric, Experiment, MetricKind, PolicySettings
from experiments.statistics import custom_features
from tests.experiments.cells import cell_of, experiment_of

ALL = frozenset(("none", "socks", "cap"))
OUTCOMES = Breakers(exposure_gap=None, fallback_above=None)
EXPOSURE = Breakers(outcomes_below=None, fallback_above=None)
FALLBACKS = Breakers(outcomes_below=None, exposure_gap=None)


def experiment(breakers: Breakers, **more: Any) -> Experiment:
    return experiment_of("socks", "cap", settings=PolicySettings(breakers=breakers), **more)


def hours(counts: Sequence[tuple[int, int]], start: int = 0) -> list[Mark]:
    """A mark an hour: (units, outcomes) that came in each."""
    units, outcomes, marks = 0, 0, [Mark(start * HOUR_US, {"none": Totals(0, 0, 0)})]
    for hour, (more, came) in enumerate(counts, start=start + 1):
        units, outcomes = units + more, outcomes + came
        marks.append(Mark(hour * HOUR_US, {"none": Totals(units, 0, outcomes)}))
    return marks


def one(
    settings: Breakers, marks: Sequence[Mark], before: Sequence[BreakerState] = (), **more: Any
) -> BreakerState:
    (found,) = judged(experiment(settings, **more), ALL, marks, before)
    return found


STEADY = [(100, 10)] * 48
DEAD = [(100, 0)] * 3


def test_outcomes_that_stop_arriving_trip_it_and_half_of_them_do_not():
    """30 are expected of 300 units in 3 hours."""
    found = one(OUTCOMES, hours(STEADY + DEAD))
    assert (found.is_tripped, found.found, found.since_us) == (True, 0.0, 51 * HOUR_US)
    assert found.detail == "0 outcomes in the last hours where 30 were to be expected"
    assert not one(OUTCOMES, hours(STEADY + DEAD[:2])).is_tripped  # 10 of 30 yet
    assert not one(OUTCOMES, hours(STEADY + [(100, 5)] * 3)).is_tripped
    assert one(OUTCOMES, hours([*STEADY, (100, 0), (100, 2), (100, 0)])).is_tripped
    assert not one(OUTCOMES, hours(STEADY + [(100, 1)] * 3)).is_tripped  # 3 of 30 is no less than a tenth


def test_a_quiet_night_is_no_outage_and_a_sudden_crowd_neither():
    assert not one(OUTCOMES, hours(STEADY + [(2, 0)] * 3)).is_tripped
    assert not one(OUTCOMES, hours(STEADY + [(5000, 10)] * 3)).is_tripped  # expected as of 300 units


def test_few_hours_or_few_outcomes_say_nothing():
    assert not one(OUTCOMES, hours(DEAD)).is_tripped
    assert not one(OUTCOMES, hours([(100, 6)] * 48 + DEAD)).is_tripped  # 18 expected: below 20
    assert not one(OUTCOMES, hours([(0, 0)] * 10 + DEAD)).is_tripped
    assert not one(OUTCOMES, hours([(100, 10)] * 2)).is_tripped


def test_it_needs_more_than_chance():
    """A part of 0.9: 24 of 30 is below it, but comes by chance in one of seven."""
    eager = replace(OUTCOMES, outcomes_below=0.9)
    marks = hours(STEADY + [(100, 8)] * 3)
    assert 0.1 < poisson.cdf(24, 30) < 0.2
    assert not one(eager, marks).is_tripped
    assert one(eager, hours(STEADY + [(100, 1)] * 3)).is_tripped


def test_it_stays_tripped_by_the_yardstick_from_before_and_is_over_at_twice_the_part():
    tripped = BreakerState(Breaker.OUTCOMES, is_tripped=True, since_us=51 * HOUR_US)
    long_dead = STEADY + [(100, 0)] * 200
    assert one(OUTCOMES, hours(long_dead), [tripped]).is_tripped
    assert one(OUTCOMES, hours([*long_dead, (100, 1), (100, 2), (100, 2)]), [tripped]).is_tripped
    over = one(OUTCOMES, hours([*long_dead, (100, 2), (100, 2), (100, 2)]), [tripped])
    assert (over.is_tripped, over.since_us) == (False, 251 * HOUR_US)
    assert one(OUTCOMES, hours(STEADY + [(0, 0)] * 3), [tripped]).is_tripped  # nobody there says nothing


def test_another_objective_is_another_count():
    marks = hours(STEADY)
    now = replace(marks[-1], at_us=60 * HOUR_US, outcome="took", variants={"none": Totals(5000, 0, 3)})
    assert not one(OUTCOMES, [*marks, now]).is_tripped


def test_false_trips_of_steady_and_of_bursty_shops():
    """20 to 40 outcomes expected: none of 3,000 Poisson windows, none of 3,000 three times as variable."""
    rng = np.random.default_rng(3)
    past = [(100, 10)] * 100
    for outcomes in (rng.poisson(30, 3000), rng.negative_binomial(15, 1 / 3, 3000)):
        tripped = [
            one(OUTCOMES, hours([*past, (100, 0), (100, 0), (100, int(n))])).is_tripped for n in outcomes
        ]
        assert not any(tripped)


def exposed(*totals: tuple[int, int], at: int = 100) -> Mark:
    keys = ("none", "socks", "cap")
    return Mark(at * HOUR_US, {k: Totals(n, x, 0) for k, (n, x) in zip(keys, totals, strict=True)})


def test_a_variant_whose_slot_is_not_drawn_trips_the_exposure_breaker():
    found = one(EXPOSURE, [exposed((1000, 0), (1000, 900), (1000, 650))])
    assert found.is_tripped
    assert found.detail == "90% of socks's units were exposed, 65% of cap's"
    assert not one(EXPOSURE, [exposed((1000, 0), (1000, 900), (1000, 701))]).is_tripped
    assert not one(EXPOSURE, [exposed((1000, 0), (1000, 900), (199, 0))]).is_tripped  # too few to tell


def test_the_control_is_compared_where_the_anchor_is_the_exposure():
    mark = exposed((1000, 0), (1000, 900), (1000, 900))
    assert not one(EXPOSURE, [mark]).is_tripped
    assert one(EXPOSURE, [mark], anchor=Anchor.EXPOSURE).is_tripped


def test_exposures_are_of_the_last_day_and_hysteresis_holds():
    before = exposed((1000, 0), (1000, 900), (1000, 0), at=10)
    good = exposed((2000, 0), (2000, 1800), (2000, 850), at=40)
    assert not one(EXPOSURE, [before, good]).is_tripped
    tripped = BreakerState(Breaker.EXPOSURE, is_tripped=True, since_us=1)
    middling = exposed((2000, 0), (2000, 1800), (2000, 750), at=40)
    assert not one(EXPOSURE, [before, middling]).is_tripped
    assert one(EXPOSURE, [before, middling], [tripped]).is_tripped
    assert not one(EXPOSURE, [before, good], [tripped]).is_tripped


def test_chance_at_two_hundred_units_does_not_trip_exposure():
    """A true gap of 0.15, limit 0.3 and 5 standard errors: 0 of 2,000."""
    rng = np.random.default_rng(4)
    draws = zip(rng.binomial(200, 0.8, 2000), rng.binomial(200, 0.65, 2000), strict=True)
    marks = (exposed((0, 0), (200, int(a)), (200, int(b))) for a, b in draws)
    assert not any(one(replace(EXPOSURE, exposure_gap=0.3), [mark]).is_tripped for mark in marks)


def test_answers_without_the_ledger_trip_and_untrip():
    def mark(hour: int, answers: int, fallbacks: int) -> Mark:
        return Mark(hour * HOUR_US, {}, answers=answers, fallbacks=fallbacks)

    assert not one(FALLBACKS, [mark(0, 0, 0), mark(1, 99, 99)]).is_tripped
    found = one(FALLBACKS, [mark(0, 1000, 0), mark(1, 1100, 21)])
    assert (found.is_tripped, found.found) == (True, 0.21)
    assert found.detail == "21 of 100 answers were given without the ledger"
    assert not one(FALLBACKS, [mark(0, 1000, 0), mark(1, 1100, 20)]).is_tripped
    assert one(FALLBACKS, [mark(0, 1000, 0), mark(1, 1100, 10)], [found]).is_tripped
    assert not one(FALLBACKS, [mark(0, 1000, 0), mark(1, 1100, 9)], [found]).is_tripped
    assert not one(FALLBACKS, [mark(1, 100, 50)]).is_tripped, "what was before the experiment says nothing"


def test_answers_are_compared_whatever_the_objective_was():
    earlier = Mark(0, {}, outcome="took", answers=1000)
    assert one(FALLBACKS, [earlier, Mark(HOUR_US, {}, answers=1100, fallbacks=50)]).is_tripped


def test_each_can_be_switched_off():
    off = Breakers(outcomes_below=None, exposure_gap=None, fallback_above=None)
    assert judged(experiment(off), ALL, hours(STEADY), []) == []
    assert [
        state.breaker for state in judged(experiment(Breakers()), ALL, [exposed((0, 0), (0, 0), (0, 0))], [])
    ] == [*Breaker]


def test_a_state_is_kept_as_json():
    state = BreakerState(Breaker.EXPOSURE, is_tripped=True, since_us=1, found=0.4, limit=0.2, detail="so")
    assert breaker_of(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize(
    ("objective", "feature"),
    [
        ("margin_per_unit", "orders"),
        ("conversion_rate", "orders"),
        ("take_rate", "took"),
        ("rating_mean", "ratings"),
        ("visits", custom_features("visits")[1]),
    ],
)
def test_an_outcome_is_what_the_objective_is_made_of(objective: str, feature: str):
    metrics = (CustomMetric("visits", MetricKind.MEAN, "visit"),)
    features: dict[str, Any] = {feature: [0, 1, 0, 2], "exposed": [1, 1, 1, 0]}
    cells = [cell_of(key, n=4, candidates=sorted(ALL), **features) for key in ALL]
    made = experiment_of("socks", "cap", objective=objective, metrics=metrics)
    found = mark_of(made, [*cells, cells[0]], 7, answers=3, fallbacks=2)
    assert found.variants[cells[0].key.variant] == Totals(8, 6, 6)
    assert found.variants[cells[1].key.variant] == Totals(4, 3, 3)
    assert (found.outcome, found.at_us, found.answers, found.fallbacks) == (feature, 7, 3, 2)
