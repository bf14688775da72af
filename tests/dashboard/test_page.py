"""The page, run by Streamlit's AppTest against the fake service: what people read in each situation."""

import copy

import pytest

from tests.dashboard.fake_service import experiment, missing, null_metric, problem


def test_the_page_shows_verdict_cards_guardrails_table_charts_and_checks(fake, page_of) -> None:
    page = page_of(fake.url)
    page.assert_calm()
    html = page.html
    assert "Healthy" in html
    assert "more than none and keeps every guardrail" in html
    # Headline cards: the lift of the order value, and values with intervals in the currency.
    assert "+3.0\u202f%" in html
    assert "+0.9\u202f% to +5.1\u202f%" in html
    assert "€6.29" in html
    assert "€6.15 to €6.43" in html
    assert "98.7\u202f%" in html
    # Three posteriors with margins (ratings have no data yet), shares, P(best), enrolments.
    assert page.charts == 6
    assert "Comparable" not in html  # no check of that name was sent
    assert "Send cost with the orders, or set" in html


def test_another_variant_can_be_read(fake, page_of) -> None:
    page = page_of(fake.url)
    page.app.selectbox(key="variant-checkout-addon").select("race-pack").run()
    page.assert_calm()
    assert "Headline: race-pack against none" in page.html
    assert "The service gives no verdict on this variant" in page.html


def test_the_box_does_not_name_a_leader_who_may_change_while_it_stands_there(fake, page_of) -> None:
    """Streamlit goes on showing the label chosen once: with the leader in it, it named the old one."""
    page = page_of(fake.url)
    before = page.app.selectbox(key="variant-checkout-addon").options
    assert "Headline: socks against none" in page.html
    fake.report["verdict"] = {**fake.report["verdict"], "variant": "race-pack"}
    page.app.run()
    assert "Headline: race-pack against none" in page.html
    assert page.app.selectbox(key="variant-checkout-addon").options == before


def test_a_chosen_experiment_stays_chosen_when_its_state_changes(fake, page_of) -> None:
    """Two of the same name are told apart; the label holds nothing that a refresh may change."""
    name = fake.experiments[0]["document"]["name"]
    fake.experiments.append(experiment("another-one"))
    fake.experiments[1]["document"]["name"] = name
    page = page_of(fake.url)
    box = page.app.selectbox(key="experiment")
    assert sorted(box.options) == [f"{name} (another-one)", f"{name} (checkout-addon)"]
    box.select("another-one").run()
    fake.experiments[1]["state"] = "paused"
    fake.seen.clear()
    page.app.run()
    page.assert_calm()
    assert page.app.selectbox(key="experiment").options == [
        f"{name} (checkout-addon)",
        f"{name} (another-one)",
    ]
    assert [path for path, _ in fake.seen if path.endswith("/report")] == [
        "/v1/experiments/another-one/report"
    ]


def test_the_verdict_of_the_variant_itself_is_shown_when_the_report_has_one(fake, page_of) -> None:
    fake.report["variants"][3]["verdict"] = {
        "kind": "toxic",
        "sentence": "race-pack is toxic.",
        "variant": "race-pack",
    }
    page = page_of(fake.url)
    page.app.selectbox(key="variant-checkout-addon").select("race-pack").run()
    assert "race-pack is toxic." in page.html
    assert "Toxic" in page.html


def test_matured_follows_the_policy_and_can_be_switched(fake, page_of) -> None:
    page = page_of(fake.url)
    assert [query["matured"] for path, query in fake.seen if path.endswith("/report")] == ["true"]
    page.app.toggle(key="matured-checkout-addon").set_value(False).run()
    assert [query["matured"] for path, query in fake.seen if path.endswith("/report")][-1] == "false"

    fake.experiments[0]["document"]["policy"] = {"kind": "fixed"}
    fake.seen.clear()
    page_of(fake.url)
    assert [query["matured"] for path, query in fake.seen if path.endswith("/report")] == ["false"]


def test_unmatured_figures_of_an_adaptive_policy_are_labelled(fake, page_of) -> None:
    label = "include visitors whose window is still open"
    assert label not in page_of(fake.url).html
    fake.report["matured"] = False
    assert label in page_of(fake.url).html


def test_a_segment_can_be_chosen_when_the_report_holds_some(fake, page_of) -> None:
    place = f"segment-{fake.experiments[0]['key']}"
    assert place not in {box.key for box in page_of(fake.url).app.selectbox}
    fake.report["segments"] = ["loyal", "new"]
    page = page_of(fake.url)
    page.app.selectbox(key=place).select("loyal").run()
    page.assert_calm()
    assert [query.get("segment") for path, query in fake.seen if path.endswith("/report")][-1] == "loyal"


def test_a_breach_is_said_in_words_and_for_the_other_variants_too(fake, page_of) -> None:
    for guardrail in fake.report["guardrails"]:
        if guardrail["variant"] == "socks" and guardrail["metric"] == "refund_rate":
            guardrail["state"] = "kill"
    fake.experiments[0]["variants"][1]["state"] = "killed"
    fake.report["verdict"] = {
        "variant": "socks",
        "kind": "toxic",
        "reason": "breach",
        "sentence": "socks raises order value but refunds rise beyond the margin.",
    }
    page = page_of(fake.url)
    page.assert_calm()
    assert "Toxic" in page.html
    assert "</span> Killed</span>" in page.html
    assert "</span> Killed</span>" in page.html  # the variant's own state, in the table
    assert "race-pack, refund rate" in page.html
    assert "Throttled" in page.html


def test_missing_figures_show_their_reason_and_never_a_zero(fake, page_of) -> None:
    for variant in fake.report["variants"]:
        variant["metrics"] = {
            "aov": null_metric("insufficient_data"),
            "take_rate": null_metric("insufficient_data"),
            "margin_per_unit": null_metric("cost_unknown"),
        }
    fake.report["verdict"] = {
        "variant": None,
        "kind": "insufficient_data",
        "reason": "x",
        "sentence": "Too early to say.",
    }
    for guardrail in fake.report["guardrails"]:
        guardrail |= {
            "state": "unknown",
            "prob_breach": None,
            "density": None,
            "lift": missing("insufficient_data"),
        }
    fake.policy["versions"] = []
    fake.report["days"], fake.report["checks"] = [], []
    fake.policy["held"] = {"reason": "cost_unknown", "detail": "5 orders have no known cost"}
    page = page_of(fake.url)
    page.assert_calm()
    assert "The cost of some orders is unknown" in page.html
    assert "Not enough data yet." in page.html
    assert "Shares are held where they are. 5 orders have no known cost." in page.html
    assert "€0" not in page.html
    assert ">0" not in page.html
    assert page.charts == 0


def test_a_report_that_lacks_whole_blocks_does_not_break_the_page(fake, page_of) -> None:
    kept = ("experiment", "units_assigned")
    fake.report = {name: fake.report[name] for name in kept} | {
        "variants": [{"key": "none", "is_control": True}]
    }
    fake.policy = {}
    page = page_of(fake.url)
    page.assert_calm()
    assert "The service gives no verdict on this variant." in page.html
    assert page.charts == 0


def test_service_down_says_how_to_start_it(page_of) -> None:
    page = page_of("http://127.0.0.1:9")  # the discard port: nobody listens
    page.assert_calm()
    assert "The service does not answer" in page.html
    assert page.commands[0].startswith("rialto serve")


@pytest.mark.parametrize(
    ("status", "said"), [(401, "does not accept this key"), (403, "may not read reports")]
)
def test_a_refused_key_says_what_is_needed(fake, page_of, status, said) -> None:
    fake.refuse = status
    page = page_of(fake.url)
    page.assert_calm()
    assert said in page.html
    assert f"rialto dashboard --url {fake.url}" in page.commands[0]


def test_no_key_is_said_before_anything_is_asked(fake, page_of) -> None:
    page = page_of(fake.url, "")
    page.assert_calm()
    assert "needs a key" in page.html
    assert fake.seen == []


def test_no_experiments_says_how_to_make_one(fake, page_of) -> None:
    fake.experiments = []
    page = page_of(fake.url)
    page.assert_calm()
    assert "No experiment yet" in page.html
    assert "rialto apply experiment.yaml --start" in page.commands


def test_a_draft_says_how_to_start_it(fake, page_of) -> None:
    fake.experiments = [experiment(state="draft")]
    page = page_of(fake.url)
    page.assert_calm()
    assert "has not started" in page.html
    assert "/report" not in "".join(path for path, _ in fake.seen)


def test_nobody_assigned_and_nobody_matured_are_told_apart(fake, page_of) -> None:
    fake.report["units_assigned"] = 0
    page = page_of(fake.url)
    page.assert_calm()
    assert "window has closed yet" in page.html
    page.app.toggle(key="matured-checkout-addon").set_value(False).run()
    page.assert_calm()
    assert "Nobody has been assigned yet" in page.html
    assert "/v1/assign" in page.commands[0]


def test_a_service_in_trouble_is_said_calmly_and_the_page_recovers(fake, page_of) -> None:
    fake.raw["/v1/experiments/checkout-addon/report"] = problem(500, "something broke")
    page = page_of(fake.url)
    page.assert_calm()
    assert "The service could not answer" in page.html
    assert "something broke" in page.html
    fake.raw.clear()
    page.app.run()
    assert "Healthy" in page.html


def test_an_experiment_that_vanished_is_said(fake, page_of) -> None:
    fake.raw["/v1/experiments/checkout-addon/report"] = problem(404, "there is no experiment checkout-addon")
    page = page_of(fake.url)
    page.assert_calm()
    assert "not in the store any more" in page.html


def test_running_experiments_come_first_and_names_are_escaped(fake, page_of) -> None:
    evil = experiment("aaa", "archived")
    fake.experiments = [evil, copy.deepcopy(fake.experiments[0])]
    fake.experiments[1]["document"]["hypothesis"] = "<script>alert(1)</script>"
    page = page_of(fake.url)
    page.assert_calm()
    assert page.app.selectbox(key="experiment").value == "checkout-addon"
    assert "<script>" not in page.html
    assert "&lt;script&gt;" in page.html


def test_refreshing_can_be_switched_off(fake, page_of) -> None:
    page = page_of(fake.url)
    assert page.app.toggle(key="live").value is True
    page.app.toggle(key="live").set_value(False).run()
    page.assert_calm()
    assert "Healthy" in page.html


def test_versions_are_fetched_again_only_when_there_is_a_new_one(fake, page_of) -> None:
    page = page_of(fake.url)
    page.app.run()
    assert [query for path, query in fake.seen if path.endswith("/policy")] == [{}, {"all": "true"}, {}]
    fake.policy["policy_version"] = 61
    page.app.run()
    assert [query for path, query in fake.seen if path.endswith("/policy")][3:] == [{}, {"all": "true"}]
    assert page.charts == 6


def test_plain_and_capped_figures_stand_beside_the_corrected_one(fake, page_of) -> None:
    block = fake.report["variants"][1]["metrics"]["margin_per_unit"]
    block["naive"] = {"value": 777.0, "lift_rel": {"value": 0.31, "ci_low": 0.2, "ci_high": 0.4}}
    block["aipw"] = {"lift_rel": {"value": 0.05, "ci_low": 0.035, "ci_high": 0.065}}
    block["winsorised"] = {"lift_rel": {"value": 0.05, "ci_low": 0.042, "ci_high": 0.063}}
    html = page_of(fake.url).html
    assert "plain €7.77" in html
    assert "plain lift +20.0\u202f% to +40.0\u202f%" in html
    assert "by propensity, lift +3.5\u202f% to +6.5\u202f%" in html
    assert "capped lift +4.2\u202f% to +6.3\u202f%" in html


def test_what_holds_the_shares_or_moved_them_by_hand_is_said(fake, page_of) -> None:
    fake.policy |= {"burn_in": True, "promoted": "socks"}
    html = page_of(fake.url).html
    assert "Burn-in: every variant first gets its minimum" in html
    assert "socks was promoted by hand" in html


def test_the_drift_alarm_says_which_week_what_changed_and_what_to_do(fake, page_of) -> None:
    week = {"recent": ["2026-03-09", "2026-03-15"], "before": ["2026-02-16", "2026-03-08"]}
    fake.policy |= {"drift": {"state": "drifting", "p_common": 1e-5, "p_between": 0.4, **week}}
    html = page_of(fake.url).html
    assert "The last full week (9 Mar 2026 to 15 Mar 2026) contradicts the weeks before" in html
    assert "all variants have moved together" in html
    assert "policy.discount_half_life" in html
    fake.policy |= {"drift": {"state": "drifting", "p_common": None, "p_between": 1e-4}}
    assert "the order of the variants has changed" in page_of(fake.url).html
    fake.policy["policy"] = {**fake.policy["policy"], "discount_half_life": "14d"}
    faded = page_of(fake.url).html
    assert "Old weeks fade, by half every 14d." in faded
    assert "policy.discount_half_life" not in faded
    fake.policy |= {"drift": {"state": "steady", **week}}
    assert "contradicts" not in page_of(fake.url).html
