"""The objective's change by every method, with less noise, and with other priors: the words and the bars."""

from typing import Any

import pytest

from dashboard import assumptions, estimates, headline, reading, words
from tests.dashboard.fake_analysis import with_all
from tests.dashboard.fake_service import interval, null_metric, report

Json = dict[str, Any]
METHODS = {
    "name": "methods",
    "state": "warn",
    "detail": "margin_per_unit of socks: corrected lift 16.5, naive 29, 3.4 standard errors apart",
    "remedy": "Decide by the corrected figures.",
}


def block(**changes: Any) -> Json:
    found = reading.block(reading.variant(with_all(report()), "socks"), "margin_per_unit")
    return {**found, **changes}


def variant(**changes: Any) -> Json:
    return {"metrics": {"margin_per_unit": block(**changes)}}


def test_the_intervals_to_decide_by_come_first_and_the_plain_one_last() -> None:
    once, looks, second, plain = estimates.estimates(variant(), "margin_per_unit")
    assert "credible interval" in once.note
    assert "visitors of the same time" in once.note
    assert "however often you look" in looks.note
    assert (looks.lift.high or 0) > (once.lift.high or 0)
    assert (second.lift.value, plain.lift.value) == (17.4, 29.0)
    assert "do not decide by them" in plain.note


def test_fixed_shares_need_no_correction_and_an_exact_sequence_says_so() -> None:
    told = variant(naive=None, aipw=None, sequential={**interval(16.0, 21.0), "exact": True})
    once, looks = estimates.estimates(told, "margin_per_unit")
    assert "Corrected" not in once.note
    assert "with few visitors too" in looks.note


def test_a_sequence_over_open_windows_is_called_rough() -> None:
    method = "asymptotic, normal mixture, windows still open"
    told = variant(sequential={**interval(16.0, 21.0), "exact": False, "method": method})
    assert "roughly" in estimates.estimates(told, "margin_per_unit")[1].note


def test_what_cannot_be_had_gives_its_reason_and_no_bar() -> None:
    told = variant(
        sequential={"value": None, "reason": "insufficient_data"}, naive={"reason": "not_comparable"}
    )
    found = estimates.estimates(told, "margin_per_unit")
    html = estimates.bars(found, words.metric("margin_per_unit"), "EUR")
    assert "Not enough data yet." in html
    assert "the two cannot be compared" in html
    assert html.count("rl-line") == 2  # the credible interval, and by propensity
    assert "as control" not in estimates.bars(found[1:2], words.metric("margin_per_unit"), "EUR")


def test_while_nothing_can_be_compared_one_line_says_so(fake, page_of) -> None:
    fake.report["variants"][1]["metrics"]["margin_per_unit"] = null_metric("insufficient_data")
    page = page_of(fake.url)
    page.assert_calm()
    assert "How sure is the change" in page.html
    assert "If you decide once" not in page.html


def test_bars_share_one_scale_and_sides_follow_the_good_direction() -> None:
    found = estimates.estimates(variant(), "margin_per_unit")
    html = estimates.bars(found, words.metric("margin_per_unit"), "EUR")
    # The plain lift reaches to 41.1 of +-1.08 * 41.1: its bar ends at 50 + 50 / 1.08 = 96.3 %.
    left, width = (50 + 50 * 16.9 / (1.08 * 41.1)), 100 * 12.1 / (1.08 * 41.1)
    assert f"left:{left:.1f}%;width:{width:.1f}%" in html
    assert html.index("worse") < html.index("better")
    low = estimates.bars(found, words.metric("refund_rate"), "EUR")
    assert low.index("better") < low.index("worse")


def test_the_warning_stands_beside_the_figures_that_part_and_nowhere_else(fake, page_of) -> None:
    with_all(fake.report)
    fake.report["checks"].append(METHODS)
    page = page_of(fake.url)
    page.assert_calm()
    assert page.html.count("3.4 standard errors apart") == 1
    start = page.html.index("How sure is the change in margin per visitor?")
    assert start < page.html.index("The methods do not agree") < page.html.index("If you decide once")
    assert "“Corrected beside plain lifts”" in page.html  # beside the verdict, by name
    assert "What is booked, and what will stay" in page.html
    assert "Would less noise, or other assumptions, change the answer?" in [
        e.label for e in page.app.expander
    ]


def test_saved_variance_is_told_in_visitors() -> None:
    assert assumptions.saved(0.2) == "As sure as with 25\u202f% more visitors."
    assert assumptions.saved(-0.3) == "It saves nothing here."
    assert assumptions.saved(None) == ""
    cuped, mixed, crossed = assumptions.adjusted(block())
    assert "45\u202f% more visitors" in cuped.note  # 1 / (1 - 0.31)
    assert "saves nothing" in mixed.note
    assert crossed.lift.value == 16.3


def test_an_adjustment_that_cannot_be_made_says_why() -> None:
    told = block(cuped={"lift_abs": {"reason": "no_pre_period"}, "reason": "no_pre_period"})
    assert next(one.name for one in assumptions.adjusted(told)) == "With the same mix of segments"
    (why,) = assumptions.not_adjusted(told)
    assert "in the 30 days before" in why


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ({"kind": "flat"}, "rest on no prior"),
        ({"kind": "expert"}, "rest on the prior that the experiment's document states"),
        (
            {"kind": "historic", "source": {"experiment": "spring", "variant": "none", "discount": 0.1}},
            "what none of the experiment spring found, its visitors counting 10\u202f% each",
        ),
        ({"kind": "default", "reason": "no_such_experiment"}, "cannot be had: No such experiment."),
    ],
)
def test_the_prior_in_force_is_named(prior: Json, said: str) -> None:
    assert said in assumptions.prior_words({"prior": prior})


def test_each_prior_has_its_lift_and_its_chance_of_being_best() -> None:
    default, flat, sceptic = assumptions.sensitivity(block())
    assert "P(best) 93.0\u202f%" in default.note
    assert flat.lift.value != sceptic.lift.value == 14.1
    assert assumptions.sensitivity({}) == []


def test_the_card_leaves_the_interval_for_every_look_to_its_own_place() -> None:
    found = reading.reading(variant(), "margin_per_unit")
    card = headline.card("margin_per_unit", words.metric("margin_per_unit"), found, found, "EUR")
    assert "however often" not in card
