from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.cohorts import units_per_week
from experiments.analysis.read_out import read_out
from experiments.analysis.report import Check, DayCount, Report
from experiments.model import PolicyKind, PolicySettings, StopRule
from experiments.statistics import Cell
from tests.experiments.cells import DAY, cell_of, experiment_of

KEYS = ("none", "socks")
NOW = datetime(2026, 3, 20, tzinfo=UTC)


def cell(key: str, n: int = 2000, **more: object) -> Cell:
    return cell_of(key, n=n, **({"candidates": KEYS} | more))  # type: ignore[arg-type]


def report_of(cells: list[Cell], now: datetime = NOW, **more: object) -> Report:
    return read_out(experiment_of("socks", **more), cells, time_zone="UTC", now=now)  # type: ignore[arg-type]


def check(report: Report, name: str) -> Check:
    return next(found for found in report.checks if found.name == name)


@pytest.mark.parametrize(("crossed", "state"), [(0, "ok"), (20, "ok"), (21, "warn")])
def test_crossover_warns_above_one_percent(crossed, state):
    cells = [cell("none", 1000), cell("socks", 1000, crossover=np.arange(1000) < crossed)]
    assert check(report_of(cells), "crossover").state == state


@pytest.mark.parametrize(
    ("none", "socks", "state"),
    [(1800, 1800, "ok"), (1800, 1700, "warn"), (1800, 1775, "ok"), (0, 1800, "warn"), (0, 0, "ok")],
)
def test_an_exposure_gap_must_be_large_and_sure(none, socks, state):
    cells = [cell(k, exposed=np.arange(2000) < m) for k, m in zip(KEYS, (none, socks), strict=True)]
    found = check(report_of(cells), "exposure_gap")
    assert found.state == state


def test_the_exposure_gaps_chance_is_pearsons():
    cells = [cell(k, exposed=np.arange(2000) < m) for k, m in (("none", 1800), ("socks", 1750))]
    p = stats.chi2_contingency([[1800, 200], [1750, 250]], correction=False).pvalue
    assert f"{p:.2g}" in check(report_of(cells), "exposure_gap").detail


def test_unconverted_orders_are_counted():
    cells = [cell("none"), cell("socks", unconverted_orders=np.arange(2000) < 7)]
    found = check(report_of(cells), "unconverted")
    assert (found.state, found.detail[:8]) == ("warn", "7 orders")


def test_units_that_can_not_be_compared_are_said():
    cells = [cell("none"), cell("socks"), cell("socks", 1000, candidates=("socks", "mug"), candidate_set=6)]
    found = check(report_of(cells), "candidate_sets")
    assert found.state == "warn"
    assert "80.0%" in found.detail


def test_burn_in_concerns_policies_that_learn():
    cells = [cell("none", 500), cell("socks", 150)]
    learning = report_of(cells, policy=PolicyKind.THOMPSON)
    assert check(learning, "burn_in").state == "info"
    assert "socks 150" in check(learning, "burn_in").detail
    assert (
        check(report_of([cell("none"), cell("socks")], policy=PolicyKind.THOMPSON), "burn_in").state == "ok"
    )
    assert not [found for found in report_of(cells).checks if found.name == "burn_in"]


def test_maturity_counts_closed_and_final_units():
    """Window 7 d, refunds 30 d: on 20 March the cohort of 2 March is closed, not final."""
    found = check(report_of([cell("none"), cell("socks", day=DAY + timedelta(days=15))]), "maturity")
    assert found.state == "info"
    assert found.detail.startswith("2000 of 4000 units have their window of 7d closed; 0 are final")
    done = report_of([cell("none"), cell("socks")], now=datetime(2026, 6, 1, tzinfo=UTC))
    assert check(done, "maturity").state == "ok"


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        (StopRule(at=NOW), "reached"),
        (StopRule(at=NOW + timedelta(seconds=1)), "ok"),
        (StopRule(loss_below=1e-3), "reached"),
        (StopRule(loss_below=1e-12), "ok"),
        (StopRule(value_remaining_below=1), "reached"),
        (StopRule(value_remaining_below=0), "ok"),
    ],
)
def test_stop_rules(rule, state):
    policy = PolicySettings(objective="conversion_rate")
    cells = [cell(k, converted=np.arange(2000) < hits) for k, hits in (("none", 500), ("socks", 650))]
    assert check(report_of(cells, stop_rule=rule, settings=policy), "stop_rule").state == state


def test_a_stop_rule_without_any_figure_goes_on_but_for_its_date():
    """Nothing has come: no loss is small enough to stop for, yet a date that has passed has."""
    policy = PolicySettings(objective="conversion_rate")
    found = check(report_of([], stop_rule=StopRule(loss_below=1e9), settings=policy), "stop_rule")
    assert found.state == "ok"
    dated = StopRule(loss_below=1e9, at=NOW)
    assert check(report_of([], stop_rule=dated, settings=policy), "stop_rule").state == "reached"


def test_no_stop_rule_is_no_check():
    assert not [found for found in report_of([]).checks if found.name == "stop_rule"]


def test_units_per_week_is_the_pace_of_the_last_seven_days_with_any():
    days = [DayCount(DAY + timedelta(days=d), "none", 100, 100) for d in range(20)]
    assert units_per_week(days) == 700
    assert units_per_week(days[:2]) == 700
    assert units_per_week([]) == 0


def test_value_remaining_shrinks_as_the_leader_proves_itself():
    policy = PolicySettings(objective="conversion_rate")
    found = []
    for n in (200, 2000, 20000):
        cells = [cell(k, n, converted=np.arange(n) < n * r) for k, r in (("none", 0.25), ("socks", 0.27))]
        remaining = report_of(cells, settings=policy).value_remaining
        assert remaining is not None
        assert remaining.leader == "socks"
        assert remaining.per_week == pytest.approx(remaining.per_unit * 2 * n * 7)
        found.append(remaining.per_unit)
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.03
    assert found[-1] == 0.0


def test_no_interval_of_a_rate_reaches_beyond_what_a_rate_can_be():
    """Two refunds in 200 orders, read by epoch: the Normal's lower end would lie at -0.4 %."""
    policy = PolicySettings(kind=PolicyKind.THOMPSON)
    cells = [
        cell(
            key,
            200,
            orders=np.ones(200, int),
            converted=np.ones(200, int),
            refunded_orders=np.arange(200) < 2,
        )
        for key in KEYS
    ]
    metrics = report_of(cells, settings=policy).variant("socks").metrics
    refunds, conversion = metrics["refund_rate"].figures, metrics["conversion_rate"].figures
    assert refunds.value == pytest.approx(0.01)
    assert refunds.ci_low == 0.0
    assert 0.01 < (refunds.ci_high or 0) < 0.03
    assert conversion.ci_high is None or conversion.ci_high <= 1.0
