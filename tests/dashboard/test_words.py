"""Numbers and codes in words, and the way around a report."""

import doctest

import pytest

from dashboard import headline, markup, reading, words
from experiments import money as core_money
from experiments.metric_keys import METRIC_DIRECTIONS
from experiments.model import Direction
from tests.dashboard import fake_service


def test_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(words).failed == 0


def test_exponents_agree_with_the_core_for_every_currency() -> None:
    """The dashboard may not import the core, so its small table is held against it here."""
    codes = [
        a + b + c for a in LETTERS for b in LETTERS for c in LETTERS if core_money.is_currency(a + b + c)
    ]
    assert len(codes) > 150
    assert [words.exponent(code) for code in codes] == [core_money.exponent(code) for code in codes]


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_every_metric_of_the_core_has_words_and_the_same_direction() -> None:
    for key, direction in METRIC_DIRECTIONS.items():
        about = words.metric(key)
        assert about.lower_is_better == (direction is Direction.DOWN), key
        assert about.label != words.spoken(key) or key in {"take_rate", "conversion_rate", "refund_rate"}, key


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (8159.4, "EUR", "€81.59"),
        (-1, "USD", "−$0.01"),
        (-0.2, "EUR", "€0.00"),  # no minus before a zero
        (8159.4, "JPY", "¥8,159"),
        (8159.4, "BHD", "BHD\u202f8.159"),
        (1234567, "RON", "RON\u202f12,345.67"),
        (81594, "CLF", "CLF\u202f8.1594"),
    ],
)
def test_money_has_the_currencys_decimals(minor, currency, shown) -> None:
    assert words.money(minor, currency) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, ">\u202f99.9\u202f%"),
        (0.99951, ">\u202f99.9\u202f%"),
        (0.0, "<\u202f0.1\u202f%"),
        (0.5, "50.0\u202f%"),
    ],
)
def test_probabilities_never_claim_certainty(value, shown) -> None:
    assert words.probability(value) == shown


def test_a_change_of_a_share_is_in_points_and_small_shares_have_two_decimals() -> None:
    assert words.change(-0.0042, "share", "EUR") == "−0.42 points"
    assert words.amount(0.0321, "share", "EUR") == "3.21\u202f%"
    assert words.amount(0.3211, "share", "EUR") == "32.1\u202f%"


def test_unknown_codes_are_spelled_out_not_hidden() -> None:
    assert words.reason("held_by_moon") == "Held by moon."
    assert words.state("hibernating")[2] == "Hibernating"
    assert words.metric("surveys_per_order").label == "Surveys per order"
    assert words.metric("visit_rate", custom=("proportion", "down")).lower_is_better


def test_a_check_in_order_gives_no_advice_and_one_in_trouble_does() -> None:
    assert words.check("unconverted", "ok", "0 orders") == ("Currencies converted", "0 orders.", "")
    assert "fx_rates" in words.check("unconverted", "warn", "3 orders")[2]
    assert words.check("new_check", "warn", "look") == ("New check", "Look.", "")
    assert words.check("methods", "warn", "they part", "Look at it.")[1:] == ("They part.", "Look at it.")


def test_a_remedy_that_is_null_says_that_there_is_nothing_to_do() -> None:
    item = {"name": "methods", "state": "info", "detail": "nothing to compare yet"}
    assert words.check_of(item | {"remedy": None})[2] == ""
    assert words.check_of(item)[2].startswith("Decide by")  # a service of old sends none


def test_a_sign_stays_on_the_line_of_its_amount() -> None:
    html = markup.banner("healthy", "from -€9,039. to +€14 <b>")
    assert '<span class="rl-whole">-€9,039</span>. to <span class="rl-whole">+€14</span> &lt;b&gt;' in html


def test_the_leader_is_the_verdicts_variant_else_the_most_probably_best() -> None:
    report = fake_service.report()
    report["verdict"]["variant"] = "insoles"
    assert reading.leading(report) == "insoles"
    report["verdict"]["variant"] = None
    assert reading.leading(report) == "socks"
    assert reading.leading({"variants": [{"key": "none", "is_control": True}]}) is None


def test_guardrails_that_every_shop_watches_come_first() -> None:
    found = [item["metric"] for item in reading.guardrails(fake_service.report(), "socks")]
    assert found == ["cart_abandonment_rate", "refund_rate", "conversion_rate", "rating_mean"]
    assert [item["state"] for item in reading.troubled(fake_service.report(), but="socks")] == [
        "throttle",
        "warn",
    ]


def test_a_card_without_a_figure_gives_the_reason_and_keeps_the_rest() -> None:
    block = {
        "value": 8000.0,
        "ci_low": 7900.0,
        "ci_high": 8100.0,
        "lift_rel": {"reason": "control_near_zero"},
    }
    found = reading.reading({"metrics": {"aov": block}}, "aov")
    card = headline.card("aov", words.metric("aov"), found, reading.reading({}, "aov"), "EUR")
    assert "too close to zero for a relative change" in card
    assert "€80.00" in card
    assert "%" not in card.replace("left:", "")


def test_an_interval_line_is_drawn_only_for_a_known_interval() -> None:
    assert markup.interval_line(reading.Interval(0.1, None, 0.2)) == ""
    line = markup.interval_line(reading.Interval(0.0, -0.1, 0.1))
    assert "left:50.0%" in line


def test_text_from_outside_cannot_become_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    made = [
        markup.banner(evil, evil, evil, word=evil, tongue=evil),
        markup.card(evil, evil, evil, [(evil, evil)]),
        markup.table([evil, evil], [[markup.cell(evil, [evil]), markup.why_cell(evil)]]),
        markup.listing([evil], [[markup.cell(evil, [evil])]]),
        markup.hints([evil]),
        markup.variant_cell(evil, evil, is_control=True),
        markup.checks([(evil, evil, evil, evil)]),
        markup.fact(evil, evil),
    ]
    assert "<img" not in "".join(made)


def test_a_lift_is_told_for_every_look_where_the_report_has_it() -> None:
    """In the table of all figures; without a sequence it says nothing of it."""
    lift = {"value": 0.01, "ci_low": 0.002, "ci_high": 0.018}
    block = {"value": 0.61, "ci_low": 0.6, "ci_high": 0.62, "lift_abs": lift, "lift_rel": lift}
    with_it = block | {"sequential": {"value": 0.01, "ci_low": -0.004, "ci_high": 0.024}}
    for told in (block, with_it):
        found = reading.reading({"metrics": {"conversion_rate": told}}, "conversion_rate")
        full = markup.full_cell(found, "share", "EUR", is_control=False)
        assert (f"{markup.EVERY_LOOK} −0.40 points to +2.40 points" in full) == (told is with_it)
