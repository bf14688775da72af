"""Alarms, newcomers, priors, causes and exploration: what people read of them."""

import copy
from typing import Any

import pytest

from dashboard import learning
from tests.dashboard.fake_service import policy

SINCE = "2026-03-20T09:30:00Z"
STOP = {
    "name": "stop_rule",
    "state": "reached",
    "since": SINCE,
    "detail": "stopping is recommended: socks is the best with probability 0.991 (not promoted: refund_rate "
    "is not held)",
}
COLLAPSE = {
    "name": "exploration_collapsed",
    "state": "alarm",
    "since": SINCE,
    "detail": "exploration has collapsed: a variant has 0.20% of the traffic only. Raise policy.floor",
}
HEALTH = {
    "entropy": 0.372,
    "entropy_trend_per_day": -0.0161,
    "min_propensity": 0.02,
    "variants": {"none": {"units": 4200, "ess": 3911.6}, "socks": {"units": 18210, "ess": 17034.2}},
    "collapsed": [],
}
PRIORS = {
    "none": {"share": 0.4, "units": 200.0, "prior": {"alpha": 1.0}},
    "socks": {"share": 0.6, "units": 200.0, "prior": {"alpha": 1.0}},
    "race-pack": {"experiment": "spring", "variant": "pack", "discount": 0.5, "units": 812.4, "prior": {}},
    "insoles": {
        "experiment": "old",
        "variant": "x",
        "discount": 1.0,
        "prior": None,
        "reason": "cost_unknown",
    },
}


def told() -> dict[str, Any]:
    """The fake service's policy with everything of this part in it."""
    found = policy()
    found["versions"][20]["cause"] = "added"
    found["versions"][41]["cause"] = "guardrail"
    found["versions"][58]["cause"] = "replaced"
    return found | {
        "alarms": [STOP, COLLAPSE],
        "newcomers": ["race-pack"],
        "warm_start": PRIORS,
        "exploration": HEALTH,
    }


def test_alarms_are_said_with_what_to_do_and_since_when() -> None:
    stop, collapse = learning.alarm_items(told())
    assert stop[:2] == ("reached", "Stop rule")
    assert stop[2].endswith(" Since 20 Mar 2026, 09:30 UTC.")
    assert stop[3] == "Decide: promote a variant, or stop the experiment."
    assert collapse[:2] == ("alarm", "Exploration")
    promoted = {"alarms": [{**STOP, "state": "promoted", "detail": "socks was promoted by the stop rule"}]}
    ((_, _, said, remedy),) = learning.alarm_items(promoted)
    assert said.startswith("Socks was promoted by the stop rule. Since")
    assert remedy == ""
    assert learning.alarm_items({"alarms": [{"name": "new_one", "state": "alarm"}]}) == [
        ("alarm", "New one", "", "")
    ]
    assert learning.alarm_items({}) == []


def test_what_variants_began_with_is_said() -> None:
    assert learning.hints(told()) == [
        "race-pack is new: it is not compared with the others before it has enough units of its own.",
        "Shares began with an expert's P(best) (none 40\u202f%, socks 60\u202f%), worth 200 units of each.",
        "race-pack began with the results of pack of spring, worth 812 units.",
        "insoles could not begin with x of old: The cost of some orders is unknown: send it with them, or set"
        " the store's cost rate.",
    ]
    ramp = {"variant": "a", "step": 2, "cap": 0.05, "since": SINCE}
    free = {"variant": "b", "step": 4, "cap": None, "since": SINCE}
    steps = {"ramp": {"steps": [0.01, 0.05, 0.25]}}
    assert learning.hints({"newcomers": ["a"], "ramps": [ramp, free], "policy": steps}) == [
        "a is new: at most 5\u202f% of the traffic since 20 Mar 2026, 09:30 UTC (step 2 of 3), more while "
        "guardrails hold; it is not compared with the others before it has enough units of its own."
    ]
    assert learning.hints({}) == []


def test_exploration_is_said_in_one_line() -> None:
    line = " ".join(learning.exploration_line(told()))
    for part in ("0.37 of 1, −0.016 a day", "2.0\u202f%", "3,912 of 4,200", "17,034 of 18,210"):
        assert part in line
    assert learning.exploration_line({"exploration": {"entropy": None}}) == []
    steady = {**HEALTH, "entropy_trend_per_day": 0.0, "min_propensity": None}
    assert "a day" not in " ".join(learning.exploration_line({"exploration": steady}))


def test_the_page_shows_all_of_it(fake, page_of) -> None:
    fake.policy = told()
    page = page_of(fake.url)
    page.assert_calm()
    for part in (
        "Alarms",
        "Stop rule",
        "Why shares moved",
        "A variant was added",
        "race-pack is new",
        "0.37 of 1",
    ):
        assert part in page.html, part
    assert page.charts == 6


@pytest.mark.parametrize("field", ["alarms", "newcomers", "warm_start", "exploration", "versions"])
def test_a_service_of_old_lacks_it_and_the_page_is_calm(fake, page_of, field: str) -> None:
    fake.policy = copy.deepcopy(told())
    del fake.policy[field]
    page_of(fake.url).assert_calm()


def test_who_promoted_is_told_apart(fake, page_of) -> None:
    fake.policy = told() | {"promoted": "socks", "stop": {"promote": "socks"}}
    assert "promoted by hand" not in page_of(fake.url).html
    fake.policy["stop"] = {"promote": None}
    assert "socks was promoted by hand" in page_of(fake.url).html
