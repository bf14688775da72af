"""Money booked, so far, and in the end: what stands in the table."""

from dashboard import refunds
from tests.dashboard.fake_analysis import with_all
from tests.dashboard.fake_service import experiment, missing, report

DOCUMENT = experiment()["document"]


def test_booked_so_far_and_expected_stand_side_by_side_each_with_control_and_change() -> None:
    (row,) = refunds.money_rows(DOCUMENT, with_all(report()), "socks")
    name, booked, so_far, final, seen = row
    assert "Margin per visitor" in name
    assert [part in booked for part in ("€7.02", "control €6.71", "change +€0.30")] == [True] * 3
    assert "€6.29" in so_far
    assert [part in final for part in ("€6.11", "control €5.99", "(−€0.04 to +€0.28)")] == [True] * 3
    assert "71\u202f%" in seen
    assert "control 78\u202f%" in seen


def test_nothing_is_said_where_no_refund_can_change_anything() -> None:
    assert refunds.money_rows(DOCUMENT, report(), "socks") == []


def test_an_expectation_that_cannot_be_had_says_why_and_keeps_the_rest() -> None:
    found = with_all(report())
    found["variants"][1]["metrics"]["margin_per_unit"]["expected_final"] = missing("insufficient_data")
    (row,) = refunds.money_rows(DOCUMENT, found, "socks")
    assert "Not enough data yet." in row[3]
    assert "€7.02" in row[1]
    assert row[4].startswith("<td>–")
