"""The study of refunds still to come, in short: intervals hold, and the figures so far would not."""

from __future__ import annotations

import pytest
from scipy import stats

from sim.calibration import cuped
from sim.calibration import refunds as study


def test_expected_refunds_hold_the_truth_where_the_figures_so_far_do_not() -> None:
    """The latter are what a curve that has seen all refunds would give: the planted error."""
    rows = {row.metric: row for row in study.coverage("short", 20_000, 25, runs=40, seed=7)}
    for row in rows.values():
        assert stats.binomtest(round(40 * row.expected), 40, 0.95).pvalue > 1e-3, row
        assert stats.binomtest(round(40 * row.lift), 40, 0.95).pvalue > 1e-3, row
    assert rows["refund_rate"].so_far < 0.4
    assert rows["refund_value_rate"].so_far < 0.7


def test_every_row_is_told() -> None:
    rows = study.coverage("2,000 visitors, day 25", 2_000, 25, runs=2, seed=1)
    lines = study.text({"2,000 visitors, day 25": rows}).splitlines()
    assert len([line for line in lines if line.startswith("| 2,000 visitors, day 25 |")]) == 6


def test_cuped_saves_the_variance_that_it_says() -> None:
    """Correlation 0.8: 0.36 is left; of 200 runs a ratio of variances has a standard error of a fifth."""
    row = cuped.cuped(0.8, runs=200, seed=5)
    assert stats.binomtest(round(200 * row.coverage), 200, 0.95).pvalue > 1e-3
    assert row.left == pytest.approx(0.36, abs=0.2)
    assert row.said == pytest.approx(0.64, abs=0.02)
    assert cuped.cuped(0.8, runs=1, seed=5).left is None
