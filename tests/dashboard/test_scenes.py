"""What a policy has to say, in Chromium over a running service: alarms, guardrails, newcomers, shares."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page as Tab

from dashboard import words
from tests.dashboard.processes import Running, Store, served
from tests.dashboard.scenes import DOCUMENTS, live
from tests.dashboard.screenshot import browse, take
from tests.dashboard.test_browser import browser_there as browser_there

pytestmark = pytest.mark.slow

NAMES = {str(one["key"]): str(one["name"]) for one in DOCUMENTS}
SAID = {
    "drifting": ["Drift", "The last full week", "all variants have moved together", "discount_half_life"],
    "guarded": ["Toxic", "held at its floor", "taken out; a person resumes it", "resumed by a person"],
    "by-segment": [
        "shares by segment",
        "desktop",
        "mobile",
        "tablet",
        "All together",
        "Shares over time, all together",
    ],
    "by-context": [
        "where each variant does well",
        "Device: mobile",
        "Device: any other",
        "Cart value about €",
    ],
    "newcomer": [
        "cap is new: at most 1\u202f% of the traffic",
        "(step 1 of 3)",
        "A variant was added",
        "cap",
    ],
    "collapsed": ["Alarm", "Exploration has collapsed", "Raise policy.floor"],
    "season": [
        "The methods do not agree",
        "Corrected in a second way",
        "Not corrected",
        "What is booked, and what will stay",
        "in order",
    ],
    "quiet": ["By segment, all at once", "The last fit was refused", "units bought, 20 are needed"],
    "broken": ["Tripped", "Circuit breaker: outcomes", "shares held", "See whether orders still reach"],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with served(tmp_path_factory.mktemp("scenes")) as opened:
        live(opened.http)
        yield opened


@pytest.fixture(scope="module")
def dashboard_url(store: Store) -> Iterator[str]:
    running = Running(store.url, store.secret_key)
    try:
        yield running.url
    finally:
        running.stop()


def choose(page: Tab, name: str) -> None:
    """Pick the experiment in its box; the box then says so."""
    box = page.locator('[data-testid="stSelectbox"]', has_text="Experiment").first
    box.wait_for(timeout=60_000)
    box.locator("input").click()
    page.get_by_role("option", name=name, exact=True).click()


def expected(store: Store, key: str) -> list[str]:
    """What the page says of an experiment: its words, and figures of the service itself."""
    policy: dict[str, Any] = store.http.get(f"/v1/experiments/{key}/policy").json()
    said = [*SAID[key], words.percent(policy["sets"][0]["shares"]["none"])]
    if key == "by-segment":
        said += [words.percent(sets[0]["shares"]["socks"]) for sets in policy["segments"].values()]
    if key == "by-context":
        there = [place["variants"]["socks"] for place in policy["contextual"]["where"]]
        said += [words.percent(one["share"]) for one in there]
        said += [words.change(one["lift_abs"]["value"], "money", "EUR") for one in there]
    if key == "season":
        said += in_season(store)
    return said


def in_season(store: Store) -> list[str]:
    """The lift by every method, booked and expected money, and what to do of each warning."""
    report: dict[str, Any] = store.http.get("/v1/experiments/season/report").json()
    block = report["variants"][1]["metrics"]["margin_per_unit"]
    lifts = [block["lift_abs"], block["naive"]["lift_abs"], block["aipw"]["lift_abs"]]
    values = [block["booked"]["value"], block["value"], block["expected_final"]["value"]]
    said = [words.change(one["value"], "money", "EUR") for one in lifts]
    said += [words.money(value, "EUR") for value in values]
    warned = [check for check in report["checks"] if check["state"] == "warn"]
    return [*said, *(check["remedy"] for check in warned), report["verdict"]["sentence"]]


@pytest.mark.parametrize(
    ("width", "keys"),
    [(1280, list(NAMES)), (400, ["guarded", "by-segment", "by-context", "season", "quiet", "broken"])],
)
def test_each_is_told_and_nothing_is_cut(
    store: Store, dashboard_url: str, tmp_path: Path, width: int, keys: list[str]
) -> None:
    with browse(dashboard_url, width=width) as page:
        for key in keys:
            choose(page, NAMES[key])
            page.get_by_text(SAID[key][0]).first.wait_for(timeout=60_000)
            facts = take(page, tmp_path / f"{key}.png")
            text = str(facts["text"])
            assert [part for part in expected(store, key) if part not in text] == [], key
            assert (facts["exceptions"], facts["overflow"], facts["cut"]) == (0, 0, 0), key
            assert facts["drawn"] == facts["charts"], key
            assert text.count("Alarms") == (key in ("drifting", "collapsed", "broken")), key
