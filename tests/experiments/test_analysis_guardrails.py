from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.guardrails import (
    Evidence,
    GuardrailState,
    guardrail_report,
    next_state,
    prob_beyond,
    worst_state,
)
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import watch_guardrails
from experiments.analysis.reading import Reading, read_metric
from experiments.analysis.report import Margins
from experiments.model import Guardrail
from experiments.posteriors.log_normal import ShiftedLogNormal
from experiments.statistics import FIXED_POINT, Cell
from tests.experiments.cells import cell_of, experiment_of

UNKNOWN, OK, WARN, THROTTLE, KILL = GuardrailState
KEYS = ("none", "socks")
EXPERIMENT = experiment_of("socks")


def read(key: str, cells: list[Cell]) -> Reading:
    return read_metric(
        EXPERIMENT, cohort_of(cells), metric_definitions(EXPERIMENT)[key], by_epoch=False, seed=1
    )


def pair_in(reading: Reading) -> Pair:
    pair = reading.pairs["socks"]
    assert isinstance(pair, Pair)
    return pair


def converting(key: str, hits: int, n: int) -> Cell:
    return cell_of(key, n=n, candidates=KEYS, converted=np.arange(n) < hits)


@pytest.mark.parametrize(
    ("previous", "warn", "throttle", "kill", "expected"),
    [
        (UNKNOWN, 0.5, 0.1, 0.0, OK),
        (OK, 0.95, 0.1, 0.0, OK),  # more than, not at least
        (OK, 0.951, 0.1, 0.0, WARN),
        (OK, 0.99, 0.951, 0.0, THROTTLE),
        (WARN, 0.81, 0.1, 0.0, WARN),  # hysteresis
        (WARN, 0.79, 0.1, 0.0, OK),
        (OK, 0.81, 0.1, 0.0, OK),  # the same odds without a past
        (THROTTLE, 0.99, 0.81, 0.0, THROTTLE),
        (THROTTLE, 0.99, 0.79, 0.0, WARN),
        (THROTTLE, 0.85, 0.5, 0.0, WARN),
        (THROTTLE, 0.79, 0.5, 0.0, OK),
        (WARN, 0.99, 0.81, 0.0, WARN),
        (OK, 0.999, 0.999, 0.991, KILL),
        (OK, 0.999, 0.999, 0.99, THROTTLE),
        (KILL, 0.0, 0.0, 0.0, KILL),  # only a person undoes it
    ],
)
def test_states_and_hysteresis(previous, warn, throttle, kill, expected):
    assert next_state(previous, Evidence(Margins(warn, throttle, kill), 1000, 1000)) is expected


@pytest.mark.parametrize(
    ("units", "at_floor", "throttle", "expected"),
    [
        ((999, 5000), False, 0.999, THROTTLE),
        ((5000, 999), False, 0.999, THROTTLE),
        ((5000, 200), True, 0.995, KILL),  # spent at its floor
        ((5000, 200), False, 0.995, THROTTLE),
        ((4999, 200), True, 0.995, THROTTLE),
        ((5000, 200), True, 0.99, THROTTLE),  # within = 0.01 is not below 0.01
    ],
)
def test_a_kill_needs_units(units, at_floor, throttle, expected):
    evidence = Evidence(Margins(0.999, throttle, 0.999), *units, is_at_floor=at_floor)
    assert next_state(OK, evidence) is expected


def test_no_evidence_changes_nothing():
    assert [next_state(state, None) for state in GuardrailState] == list(GuardrailState)


def test_worst_state():
    assert worst_state({"a": OK, "b": THROTTLE, "c": WARN}) is THROTTLE
    assert worst_state({}) is OK


def test_a_falling_proportion_against_monte_carlo():
    """P(v < 0.96 c) of Beta(571, 431) and Beta(611, 391), 1e6 draws, within 5 standard errors."""
    reading = read("conversion_rate", [converting("none", 610, 1000), converting("socks", 570, 1000)])
    rng = np.random.default_rng(1)
    below = (rng.beta(571, 431, 10**6) < 0.96 * rng.beta(611, 391, 10**6)).mean()
    found = prob_beyond(reading.definition, pair_in(reading), 0.04)
    assert abs(found - below) < 5 * (below * (1 - below) / 1e6) ** 0.5


def test_a_ratio_to_a_control_that_may_be_nothing_is_refused():
    """P(control <= 0) = 1/2: "a hundredth worse than the control" has no meaning, so it is no probability."""
    reading = read("conversion_rate", [converting("none", 610, 1000), converting("socks", 570, 1000)])
    pair = replace(pair_in(reading), control_posterior=ShiftedLogNormal(-1.0, 0.0, 1.0))
    assert float(pair.control_posterior.cdf(0.0)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="control's posterior must be positive"):
        prob_beyond(reading.definition, pair, 0.01)


def refunding(key: str, refunded: int, orders: int, n: int) -> Cell:
    placed = np.arange(n) < orders
    return cell_of(key, n=n, candidates=KEYS, orders=placed, refunded_orders=np.arange(n) < refunded)


def test_a_rising_ratio_against_monte_carlo_where_control_is_near_zero():
    """Control refunds 9 of 300 orders, too near 0 for a ratio's posterior, yet P(v > 1.4 c) stands."""
    reading = read("refund_rate", [refunding("none", 9, 300, 600), refunding("socks", 30, 300, 600)])
    pair = pair_in(reading)
    rng = np.random.default_rng(2)
    draws = [
        posterior.location + posterior.scale * rng.standard_t(posterior.df, 10**6)
        for posterior in (pair.treatment_posterior, pair.control_posterior)
    ]
    above = (draws[0] > 1.4 * draws[1]).mean()
    found = prob_beyond(reading.definition, pair, 0.40)
    assert found > 0.9
    assert abs(found - above) < 5 * (above * (1 - above) / 1e6) ** 0.5
    report = guardrail_report(
        Guardrail("refund_rate", 0.1, 0.2, 0.4), reading, "socks", cohort_of([*reading_cells(reading)])
    )
    assert report.lift.reason == "control_near_zero"
    assert report.density is None
    assert report.prob_breach is not None


def reading_cells(reading: Reading) -> list[Cell]:
    return [refunding("none", 9, 300, 600), refunding("socks", 30, 300, 600)]


def test_a_rating_is_guarded_by_difference_in_points():
    """Ratings 5/5 against 4/5 half the time: the mean falls by 10 points of 100."""
    rng = np.random.default_rng(4)
    ones = np.ones(400, dtype=int)
    full = np.full(400, FIXED_POINT)
    four = np.where(rng.random(400) < 0.5, FIXED_POINT, 4 * FIXED_POINT // 5)
    cells = [
        cell_of(
            "none",
            n=400,
            candidates=KEYS,
            ratings=ones,
            rating_sum=np.where(rng.random(400) < 0.9, full, four),
        ),
        cell_of("socks", n=400, candidates=KEYS, ratings=ones, rating_sum=four),
    ]
    report = guardrail_report(
        Guardrail("rating_mean", 2.0, 5.0, 12.0), read("rating_mean", cells), "socks", cohort_of(cells)
    )
    assert report.absolute
    assert report.prob_breach is not None
    assert report.prob_breach.throttle > 0.99
    assert report.prob_breach.kill < 0.01
    assert report.lift.value == pytest.approx(-9.5, abs=1.0)


def test_the_report_of_a_guardrail():
    cells = [converting("none", 2400, 4000), converting("socks", 2000, 4000)]
    reading = read("conversion_rate", cells)
    guardrail = Guardrail("conversion_rate", 0.01, 0.02, 0.04)
    report = guardrail_report(guardrail, reading, "socks", cohort_of(cells), previous=WARN)
    assert report.state == "kill"
    assert report.lift.value == pytest.approx(-1 / 6)
    assert report.lift.ci_low < -1 / 6 < report.lift.ci_high  # type: ignore[operator]
    assert report.density is not None
    x, y = np.array(report.density.x), np.array(report.density.y)
    assert len(x) == 101
    assert np.trapezoid(y, x) == pytest.approx(0.999, abs=2e-3)
    few = guardrail_report(guardrail, reading, "socks", cohort_of([converting("none", 1, 10)]))
    assert few.state == "throttle"  # as sure, but the units whose window has closed are too few


def test_a_guardrail_that_cannot_be_computed_keeps_its_state_and_says_why():
    cells = [converting("none", 5, 100)]
    reading = read("conversion_rate", cells)
    guardrail = Guardrail("conversion_rate", 0.01, 0.02, 0.04)
    fresh = guardrail_report(guardrail, reading, "socks", cohort_of(cells))
    held = guardrail_report(guardrail, reading, "socks", cohort_of(cells), previous=THROTTLE)
    assert (fresh.state, fresh.prob_breach, fresh.reason) == ("unknown", None, "insufficient_data")
    assert held.state == "throttle"


@pytest.mark.parametrize("swap", [False, True])
def test_no_refund_at_all_in_one_arm_is_compared_all_the_same(swap):
    """0 of 300 refunds is Beta(1, 301) beside the Student-t of 60 of 300: sure one way, absent the other."""
    counts = (0, 60) if not swap else (60, 0)
    cells = [refunding(key, m, 300, 600) for key, m in zip(KEYS, counts, strict=True)]
    reading = read("refund_rate", cells)
    beyond = prob_beyond(reading.definition, pair_in(reading), 0.40)
    beats = reading.prob_beats("socks")
    assert beats is not None
    assert (beyond > 0.999) is not swap
    assert (beats > 0.999) is swap
    assert reading.ranking is not None
    assert reading.ranking.prob_best["socks"] == pytest.approx(beats, abs=1e-9)
    assert reading.ranking.expected_loss["none" if swap else "socks"] == pytest.approx(0.2, abs=0.01)
    report = guardrail_report(Guardrail("refund_rate", 0.1, 0.2, 0.4), reading, "socks", cohort_of(cells))
    assert report.prob_breach is not None


def test_the_allocator_watches_matured_cohorts_and_the_floor():
    guarded = experiment_of("socks", guardrails=(Guardrail("conversion_rate", 0.01, 0.02, 0.04),))
    # -3.7 %: beyond the throttle margin for sure, beyond the kill margin not
    cells = [converting("none", 24_000, 40_000), converting("socks", 20_800, 36_000)]
    early = datetime(2026, 3, 5, tzinfo=UTC)
    late = datetime(2026, 3, 12, tzinfo=UTC)

    def watch(now: datetime, **more: object) -> str:
        (report,) = watch_guardrails(guarded, cells, time_zone="UTC", now=now, **({"previous": {}} | more))  # type: ignore[arg-type]
        return report.state

    assert watch(early) == "unknown"
    assert watch(early, previous={("conversion_rate", "socks"): THROTTLE}) == "throttle"
    assert watch(late) == "throttle"
    assert watch(late, at_floor={"socks"}) == "kill"


def test_improvement_never_breaches():
    reading = read("conversion_rate", [converting("none", 500, 1000), converting("socks", 700, 1000)])
    assert prob_beyond(reading.definition, pair_in(reading), 0.01) < 1e-6
    reading = read("refund_rate", [refunding("none", 90, 300, 600), refunding("socks", 30, 300, 600)])
    assert prob_beyond(reading.definition, pair_in(reading), 0.01) < 1e-6
