"""Who gets what, by segment and by context: the rows people read, and the page with them."""

import copy
from typing import Any

from dashboard import reading, where
from tests.dashboard.fake_service import experiment, policy, report

Json = dict[str, Any]
DOCUMENT = experiment()["document"]


def one_set(socks: float, n: int, best: float | None = 0.99) -> Json:
    shares = {"none": round(1 - socks - 0.1, 6), "socks": socks, "insoles": 0.05, "race-pack": 0.05}
    found = {key: {"mean": 600.0, "sd": 50.0, "n": n} for key in shares}
    odds = {"none": 0.01, "socks": best, "insoles": 0.0, "race-pack": 0.0}
    return {
        "candidates": list(shares),
        "shares": shares,
        "prob_best": odds if best else None,
        "posteriors": found,
    }


def by_segment() -> Json:
    found = policy()
    found["policy"] = {**found["policy"], "kind": "segment"}
    segments = {
        "new": [one_set(0.85, 100)],
        "": [one_set(0.4, 30, 0.85)],
        "loyal": [one_set(0.02, 500, None)],
    }
    for late in found["versions"][30:]:
        late["segments"] = segments
    return {**found, "segments": segments}


def by_context() -> Json:
    found = policy()
    found["policy"] = {**found["policy"], "kind": "contextual"}

    def place(feature: str, value: Any, part: float | None, best: float) -> Json:
        one = {"value": 1600.0, "ci_low": 1400.0, "ci_high": 1800.0, "ci_prob": 0.95, "share": 0.1}
        lift = {"value": 250.0, "ci_low": -50.0, "ci_high": 550.0}
        variants = {
            "none": {**one, "lift_abs": None, "prob_best": 1 - best, "share": 0.9},
            "socks": {**one, "lift_abs": lift, "prob_best": best},
        }
        return {"feature": feature, "value": value, "units_share": part, "variants": variants}

    where_told = [
        place("device", "<phone>", 0.33, 0.999),
        place("device", None, 0.67, 0.6),
        place("cart_value", 6970.0, None, 0.9),
        place("visits", 3.25, None, 0.1),
    ]
    drawn = {"model": "linear", "draws": 1000, "coefficients": {}, "where": where_told}
    return {**found, "contextual": drawn}


def test_segments_stand_with_the_largest_first_and_everybody_else_last() -> None:
    found = by_segment()
    assert reading.segments(found) == ["loyal", "new", ""]
    rows = where.segment_rows(DOCUMENT, report(), found)
    assert [row[0] for row in rows] == [
        '<td>loyal<span class="sub">2,000 visitors</span></td>',
        '<td>new<span class="sub">400 visitors</span></td>',
        '<td>No segment<span class="sub">120 visitors</span></td>',
        '<td>All together<span class="sub">for everybody else</span></td>',
    ]
    assert [row[-1] for row in rows] == [
        "<td>not known yet</td>",
        "<td>socks</td>",
        "<td>leaning to socks</td>",
        "<td>leaning to socks</td>",
    ]
    assert rows[1][2] == (
        '<td>85.0\u202f%<span class="sub">P(best) 99.0\u202f%</span>'
        '<span class="sub">€6.00 (€5.02 to €6.98)</span></td>'
    )
    assert "P(best)" not in rows[0][2]


def test_a_segment_has_the_shares_of_all_until_it_has_its_own() -> None:
    found = by_segment()
    rows = reading.share_rows(found, None, segment="loyal")
    socks = [row["value"] for row in rows if row["variant"] == "socks"]
    assert socks[0] == found["versions"][0]["sets"][0]["shares"]["socks"]
    assert socks[-1] == 0.02


def test_contexts_are_named_in_words_with_figures_against_the_control() -> None:
    rows = where.context_rows(DOCUMENT, report(), by_context())
    assert [row[0] for row in rows] == [
        '<td>Device: &lt;phone&gt;<span class="sub">33\u202f% of visitors</span></td>',
        '<td>Device: any other<span class="sub">67\u202f% of visitors</span></td>',
        "<td>Cart value about €69.70</td>",
        "<td>Visits about 3.25</td>",
    ]
    assert rows[0][2] == (
        '<td>10.0\u202f%<span class="sub">P(best) 99.9\u202f%</span><span class="sub">€16.00</span>'
        '<span class="sub">+€2.50 (−€0.50 to +€5.50)</span></td>'
    )
    assert "vs" not in rows[0][1]
    assert "€2.50" not in rows[0][1], "the control has no difference to itself"
    assert [row[-1] for row in rows] == [
        "<td>socks</td>",
        "<td>open</td>",
        "<td>leaning to socks</td>",
        "<td>leaning to none</td>",
    ]
    assert rows[0][3] == "<td>–</td>", "insoles came after the draws"


def test_the_page_by_segment(fake, page_of) -> None:
    fake.policy = by_segment()
    page = page_of(fake.url)
    page.assert_calm()
    for part in ("shares by segment", "Share, all together", "Shares over time, all together", "No segment"):
        assert part in page.html, part
    assert page.charts == 6 + 3
    fake.policy = {**by_segment(), "segments": {}}
    page = page_of(fake.url)
    page.assert_calm()
    assert "No segment has shares of its own yet" in page.html


def test_the_page_by_context(fake, page_of) -> None:
    fake.policy = by_context()
    page = page_of(fake.url)
    page.assert_calm()
    for part in (
        "where each variant does well",
        "Average share",
        "Shares over time, on average",
        "by context, on",
    ):
        assert part in page.html, part
    assert "Who was shown a variant depended on the context" in page.html
    assert "shares by segment" not in page.html
    for drawn in (None, {"model": "linear", "draws": 10, "coefficients": {}}):
        fake.policy = {**by_context(), "contextual": drawn}
        page = page_of(fake.url)
        page.assert_calm()
        assert "Nothing is known of contexts yet" in page.html


def test_what_is_said_by_an_alarm_is_not_said_again(fake, page_of) -> None:
    fake.policy |= {
        "held": {"reason": "breaker", "detail": "the circuit breaker of outcomes is tripped"},
        "alarms": [{"name": "stop_rule", "state": "reached", "detail": "stopping is recommended"}],
    }
    fake.report["checks"].append({"name": "stop_rule", "state": "info", "detail": "stopping is recommended"})
    html = page_of(fake.url).html
    assert "Shares are held where they are" not in html
    assert html.count("topping is recommended") == 1


def test_value_remaining_is_money_only_where_the_objective_is(fake, page_of) -> None:
    assert "at most €288.00 a week more than socks" in page_of(fake.url).html
    fake.report = copy.deepcopy(fake.report) | {"objective": "conversion_rate"}
    assert "at most 28,800 (conversion rate times the visitors of a week) a week" in page_of(fake.url).html
    fake.report["value_remaining"]["per_week"] = 0.2
    assert "No other variant is likely to bring more than socks (95 %)." in page_of(fake.url).html
    fake.report["value_remaining"]["per_week"] = 28800
    fake.report["verdict"]["kind"] = "toxic"
    assert "a week more than" not in page_of(fake.url).html
