"""The charts as pure functions: what stands in the Vega-Lite they make."""

from typing import Any

import pytest

from dashboard import charts, reading, words
from tests.dashboard import fake_service

ORDER = list(fake_service.VARIANTS)


def values_of(chart: Any) -> list[dict[str, Any]]:
    """Every inline row of a chart, layers together."""
    found = chart.to_dict()
    layers = found.get("layer", [found])
    named = found.get("datasets", {})
    rows: list[dict[str, Any]] = []
    for layer in layers:
        data = layer.get("data", found.get("data", {}))
        rows += data.get("values") or named.get(data.get("name"), [])
    return rows


def margins_of(
    metric: str, margins: dict[str, float], absolute: bool = False, currency: str = "EUR"
) -> list[Any]:
    guardrail = {
        "margins": margins,
        "absolute": absolute,
        "density": {"x": [-0.01, 0.0, 0.01], "y": [1.0, 2.0, 1.0]},
    }
    chart = charts.density(guardrail, words.metric(metric), currency)
    return [(row["at"], row["label"]) for row in values_of(chart) if "label" in row]


def test_margins_stand_on_the_bad_side_of_each_metric() -> None:
    margins = {"warn": 0.01, "throttle": 0.025, "kill": 0.04}
    worse_high = margins_of("refund_rate", margins)
    worse_low = margins_of("conversion_rate", margins)
    assert worse_high == [(0.01, "warn +1\u202f%"), (0.025, "throttle +2.5\u202f%"), (0.04, "kill +4\u202f%")]
    assert worse_low == [
        (-0.01, "warn −1\u202f%"),
        (-0.025, "throttle −2.5\u202f%"),
        (-0.04, "kill −4\u202f%"),
    ]


def test_absolute_margins_are_in_the_metrics_own_unit() -> None:
    assert margins_of("rating_mean", {"warn": 2}, absolute=True) == [(-2.0, "warn −2.00")]
    assert margins_of("margin_per_unit", {"kill": 150}, absolute=True) == [(-1.5, "kill −€1.50")]
    assert margins_of("margin_per_unit", {"kill": 150}, absolute=True, currency="JPY") == [
        (-150.0, "kill −¥150")
    ]


def test_the_axis_holds_density_margins_and_zero() -> None:
    guardrail = fake_service.guardrail("refund_rate", "socks", 0.5, 0.01, (0.1, 0.2, 0.9), "ok")
    chart = charts.density(guardrail, words.metric("refund_rate"), "EUR").to_dict()
    low, high = chart["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert low < 0
    assert high > 0.9


@pytest.mark.parametrize("density", [None, {}, {"x": [], "y": []}, {"x": [1.0], "y": []}])
def test_without_a_density_there_is_no_chart(density) -> None:
    assert charts.density({"margins": {"warn": 0.1}, "density": density}, words.metric("aov"), "EUR") is None


def test_steps_hold_every_point_and_reach_until_now() -> None:
    policy = fake_service.policy()
    until = "2027-01-01T00:00:00+00:00"
    rows = reading.share_rows(policy, until)
    assert len(rows) == (60 + 1) * 4
    assert [row["value"] for row in rows[-4:]] == [row["value"] for row in rows[-8:-4]]
    assert {row["at"] for row in rows[-4:]} == {until}
    assert values_of(charts.steps(rows, ORDER, "none", title="Share"))[: len(rows)] == rows


def test_versions_without_p_best_leave_a_gap_not_a_zero() -> None:
    rows = reading.share_rows(fake_service.policy(), None, "prob_best")
    assert len(rows) == 54 * 4
    assert min(row["value"] for row in rows) > 0


def test_a_variant_that_is_killed_keeps_its_history_and_has_share_0_and_no_p_best_after() -> None:
    policy = fake_service.policy()
    for version in policy["versions"][40:]:
        chosen = version["sets"][0]
        version["sets"] = [
            {
                **chosen,
                "candidates": ["none", "socks", "insoles"],
                "shares": {key: share for key, share in chosen["shares"].items() if key != "race-pack"},
                "prob_best": {key: prob for key, prob in chosen["prob_best"].items() if key != "race-pack"},
            },
            chosen,
        ]
    shares = [row["value"] for row in reading.share_rows(policy, None) if row["variant"] == "race-pack"]
    assert len(shares) == 60
    assert min(shares[:40]) > 0
    assert shares[40:] == [0.0] * 20
    best = [row for row in reading.share_rows(policy, None, "prob_best") if row["variant"] == "race-pack"]
    assert len(best) == 34


def test_series_differ_by_more_than_colour_and_keep_their_colour() -> None:
    chart = charts.steps(
        reading.share_rows(fake_service.policy(), None), ORDER, "none", title="Share"
    ).to_dict()
    dashes = chart["layer"][0]["encoding"]["strokeDash"]["scale"]["range"]
    assert len({tuple(dash) for dash in dashes}) == len(ORDER)
    bars = charts.enrolments(reading.day_rows(fake_service.report()), ORDER, "none").to_dict()
    colours = chart["layer"][0]["encoding"]["color"]["scale"]["range"]
    assert bars["encoding"]["color"]["scale"]["range"] == colours
    assert len(set(colours)) == len(ORDER)


def test_enrolments_are_the_reports_days() -> None:
    rows = reading.day_rows(fake_service.report())
    drawn = values_of(charts.enrolments(rows, ORDER, "none"))
    assert sum(row["assigned"] for row in drawn) == sum(
        row["assigned"] for row in fake_service.report()["days"]
    )
    assert [row["order"] for row in drawn[:4]] == [0, 1, 2, 3]


def test_many_variants_still_get_a_colour_each_time() -> None:
    many = [f"v{number}" for number in range(12)]
    rows = [
        {"at": "2026-01-01T00:00:00Z", "variant": key, "value": 0.1, "cause": "", "version": 1}
        for key in many
    ]
    scale = charts.steps(rows, many, None, title="Share").to_dict()["layer"][0]["encoding"]["color"]["scale"]
    assert len(scale["range"]) == 12


def test_thousands_of_versions_are_thinned_to_what_a_screen_shows_and_end_with_the_last() -> None:
    policy = fake_service.policy()
    policy["versions"] = [{**policy["versions"][0], "policy_version": number} for number in range(1, 4321)]
    rows = reading.share_rows(policy, None)
    assert 300 <= len(rows) / 4 <= 400
    assert rows[-1]["version"] == 4320


def test_now_is_compared_as_time_not_as_text() -> None:
    policy = fake_service.policy()
    last = policy["versions"][-1]["published_at"]
    earlier = last.replace("+00:00", "+05:00")
    assert len(reading.share_rows(policy, earlier)) == 240


def test_a_short_history_shows_hours() -> None:
    rows = reading.share_rows(fake_service.policy(), None)
    few, all_rows = (
        charts.steps(part, ORDER, "none", title="Share").to_dict()["layer"][0]["encoding"]["x"]["axis"][
            "format"
        ]
        for part in (rows[:16], rows)
    )
    assert (few, all_rows) == ("%d %b %H:%M", "%d %b")
