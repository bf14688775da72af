"""Checks of what came, what did not and what came late; each beside what must not set it off."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from experiments.ages import age_bin, binned
from experiments.analysis.checks_aa import FALSE_ALARM
from experiments.analysis.checks_outcomes import LateEvents
from experiments.analysis.read_out import read_out
from experiments.analysis.report import Check, Report
from experiments.model import NO_OFFER, CustomMetric, Experiment, MetricKind, Variant
from experiments.statistics import Cell
from tests.experiments.cells import DAY, cell_of, experiment_of

KEYS = ("none", "socks")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
SAME = Experiment(
    "aa", "checkout", "EUR", (Variant("none", NO_OFFER, is_control=True), Variant("socks", NO_OFFER))
)


def cell(key: str, n: int = 2000, **more: object) -> Cell:
    return cell_of(key, n=n, **({"candidates": KEYS} | more))  # type: ignore[arg-type]


def report_of(
    cells: list[Cell], now: datetime = NOW, experiment: Experiment | None = None, **more: object
) -> Report:
    return read_out(experiment or experiment_of("socks"), cells, time_zone="UTC", now=now, **more)  # type: ignore[arg-type]


def check(report: Report, name: str) -> Check:
    return next(found for found in report.checks if found.name == name)


@pytest.mark.parametrize(("orders", "state"), [(13, "ok"), (14, "warn")])
def test_a_variant_without_orders_is_missed_once_fourteen_were_to_be_expected(orders, state):
    """exp(-14) = 8e-7: once in a million by chance."""
    cells = [cell("none", orders=np.arange(2000) < orders), cell("socks")]
    found = check(report_of(cells), "missing_outcomes")
    assert found.state == state
    if state == "warn":
        assert found.detail == "no orders of socks (about 14 expected from the others)"
        assert found.remedy is not None


def test_many_orders_of_few_units_say_no_more_than_those_few():
    """13 units with 10 orders each: s^2 / ss = 13."""
    cells = [cell("none", orders=10 * (np.arange(2000) < 13)), cell("socks")]
    assert check(report_of(cells), "missing_outcomes").state == "ok"


def test_refunds_are_missed_among_orders_and_custom_events_among_units():
    metric = CustomMetric("signup", MetricKind.PROPORTION, "newsletter")
    ones = np.ones(2000, int)
    cells = [
        cell("none", orders=ones, refunded_orders=np.arange(2000) < 40, **{"signup:count": ones}),
        cell("socks", orders=np.arange(2000) < 100),
    ]
    found = check(report_of(cells, experiment=experiment_of("socks", metrics=(metric,))), "missing_outcomes")
    assert found.detail == "no newsletter events of socks (about 2000 expected from the others)"
    none_back = [cells[0], cell("socks", orders=ones)]
    assert "no refunds of socks (about 40" in check(report_of(none_back), "missing_outcomes").detail


def days(orders_until: int, n_days: int = 12, n: int = 200) -> list[Cell]:
    """A tenth of the units of a day order within the hour, until a day from which none does."""
    found = []
    for day in range(n_days):
        for key in KEYS:
            orders = (np.arange(n) < n // 10) & (day < orders_until)
            one = cell(key, n, orders=orders, day=DAY + timedelta(days=day))
            if day < orders_until:
                one.histograms[binned("orders", age_bin(3600, 7 * 86400))] = {1: n // 10}
            found.append(one)
    return found


def test_orders_that_stopped_are_seen_from_the_curve_before_any_window_has_closed():
    now = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=12)
    found = check(report_of(days(11), now), "outcomes_stopped")
    assert (found.state, found.detail) == (
        "warn",
        "no orders of those enrolled since 2026-03-13 (about 38 expected by now)",
    )
    assert check(report_of(days(12), now), "outcomes_stopped").state == "ok"


def test_what_has_not_had_its_time_is_not_missed():
    """Without ages on record open windows say nothing; once they close, they do."""
    cells = days(6)
    for one in cells:
        one.histograms.clear()
    early = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=12)
    assert check(report_of(cells, early), "outcomes_stopped").state == "ok"
    late = check(report_of(cells), "outcomes_stopped")
    assert late.detail == "no orders of those enrolled since 2026-03-08 (about 240 expected by now)"


def test_events_recorded_late_are_told_and_warned_of_when_they_move_closed_cohorts():
    cells = [cell(key, orders=np.arange(2000) < 500) for key in KEYS]
    few = check(report_of(cells, late=LateEvents(40, 10)), "late_events")
    assert few.state == "ok"
    assert few.detail == (
        "40 events (4.0% of outcomes) were recorded over a day after they occurred, "
        "10 after the window of their unit had closed"
    )
    many = check(report_of(cells, late=LateEvents(40, 11, is_more=True)), "late_events")
    assert (many.state, many.detail[:20]) == ("warn", "more than 40 events ")
    assert many.remedy is not None
    assert not [one for one in report_of(cells).checks if one.name == "late_events"]


def test_variants_that_show_the_same_are_a_test_of_the_instrument():
    rng = np.random.default_rng(1)
    cells = [
        cell(key, converted=(rng.random(2000) < 0.1).astype(int), margin=rng.poisson(9, 2000)) for key in KEYS
    ]
    found = check(report_of(cells, experiment=SAME), "aa")
    assert found.state == "ok"
    assert found.detail.startswith("socks and none show the same: what they differ in is chance or a fault; ")
    assert "0 outside their 95 % interval (chance: 1 in 20), and " in found.detail
    assert not [one for one in report_of(cells).checks if one.name == "aa"]
    assert check(report_of([], experiment=SAME), "aa").state == "info"


def test_an_aa_test_alarms_where_one_variant_loses_orders_and_not_by_chance():
    """100 sound ones: at most FALSE_ALARM of them; then every tenth order of one variant is lost."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(100):
        cells = [cell(key, converted=(rng.random(2000) < 0.3).astype(int)) for key in KEYS]
        alarms += check(report_of(cells, experiment=SAME, metric="aov"), "aa").state == "warn"
    assert stats.binomtest(alarms, 100, FALSE_ALARM, alternative="greater").pvalue > 1e-3
    lossy = [
        cell(key, 40_000, converted=(rng.random(40_000) < rate).astype(int))
        for key, rate in zip(KEYS, (0.3, 0.27), strict=True)
    ]
    found = check(report_of(lossy, experiment=SAME), "aa")
    assert found.state == "warn"
    assert "conversion rate of socks is off by more than chance gives" in found.detail
    assert found.remedy is not None


def test_the_crossover_check_says_what_the_objective_is_without_them():
    rng = np.random.default_rng(3)
    cells = [
        cell(key, margin=rng.poisson(mean, 2000), crossover=(np.arange(2000) < 30).astype(int))
        for key, mean in zip(KEYS, (900, 950), strict=True)
    ]
    found = check(report_of(cells), "crossover")
    assert found.state == "warn"
    assert "without them the margin per visitor of socks" in found.detail
    assert found.remedy is not None


def test_what_is_wrong_says_what_to_do_and_what_is_well_does_not():
    cells = [
        cell(
            "none",
            exposed=np.ones(2000, int),
            unknown_cost_orders=np.arange(2000) < 5,
            orders=np.ones(2000, int),
        ),
        cell("socks", unconverted_orders=np.arange(2000) < 5, crossover=np.arange(2000) < 90),
        cell("socks", candidates=("socks", "mug"), candidate_set=6),
    ]
    found = report_of(cells).checks
    assert {one.name for one in found if one.state == "warn"} >= {
        "crossover", "exposure_gap", "missing_outcomes", "cost_unknown", "unconverted", "candidate_sets",
    }  # fmt: skip
    assert all((one.remedy is None) == (one.state == "ok") for one in found if one.state != "info")
