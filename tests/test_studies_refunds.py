"""The study of refunds still to come, in short: intervals hold, and the figures so far would not."""

from __future__ import annotations

from pathlib import Path

from scipy import stats

from sim.calibration import refunds as study


def test_expected_refunds_hold_the_truth_where_the_figures_so_far_do_not() -> None:
    """The latter are what a curve that has seen all refunds would give: the planted error."""
    rows = {row.metric: row for row in study.coverage("short", 20_000, 25, runs=40, seed=7)}
    for row in rows.values():
        assert stats.binomtest(round(40 * row.expected), 40, 0.95).pvalue > 1e-3, row
        assert stats.binomtest(round(40 * row.lift), 40, 0.95).pvalue > 1e-3, row
    assert rows["refund_rate"].so_far < 0.4
    assert rows["refund_value_rate"].so_far < 0.7


def test_the_study_writes_its_part_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "calibration.md"
    page.write_text(
        "a\n<!-- refunds: written by make studies -->\nold\n<!-- end of refunds -->\nb\n", "utf-8"
    )
    study.refunds(runs=3, seed=1, page=page)
    text = page.read_text("utf-8")
    assert text.startswith("a\n<!-- refunds")
    assert text.endswith("-->\nb\n")
    assert "old\n" not in text
    assert text.count("| 2,000 visitors, day 25 |") == 5
    assert text.count("\n| 0.") == 3
