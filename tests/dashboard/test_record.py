"""What the page says of that which guardrails did."""

from __future__ import annotations

from typing import Any

from dashboard import learning, record
from dashboard.client import Client
from tests.dashboard.fake_service import KEY, changes, experiment, ok


def test_changes_stand_newest_first_with_what_was_done_and_why():
    rows = record.change_rows(experiment()["document"], {"unit": "visitor"}, changes())
    told = ["".join(row) for row in rows]
    assert len(told) == 5, "that a guardrail became known is no news"
    assert "Not enough" in told[0] or "data" in told[0]
    assert "Circuit breaker: outcomes arriving" in told[1]
    assert "shares held" in told[1]
    assert "0 outcomes in the last hours." in told[1]
    assert "resumed by a person" in told[2]
    assert "taken out; a person resumes it" in told[3]
    assert "throttle 97.0\u202f%" in told[3]
    assert "1,840 matured units, control 5,200" in told[3]


def test_a_breaker_that_pauses_says_so():
    document = {"policy": {"breakers": {"action": "pause"}}}
    rows = record.change_rows(document, {}, [changes()[4]])
    assert "the experiment was paused" in "".join(rows[0])


def test_only_the_latest_are_shown():
    assert len(record.change_rows({}, {}, changes()[1:2] * 50)) == 20


def test_the_page_shows_them_and_who_grows(fake: Any, page_of: Any) -> None:
    fake.changes = changes()
    fake.policy["ramps"] = [
        {"variant": "race-pack", "step": 2, "cap": 0.05, "since": "2026-03-07T08:00:00Z"},
        {"variant": "socks", "step": 5, "cap": None, "since": "2026-03-07T08:00:00Z"},
    ]
    page = page_of(fake.url)
    page.assert_calm()
    assert "What guardrails and circuit breakers did" in page.html
    assert "race-pack grows step by step: at most 5\u202f%" in page.html
    assert "socks grows" not in page.html


def test_a_quiet_experiment_and_a_service_of_old(fake: Any, page_of: Any) -> None:
    assert "What guardrails" not in page_of(fake.url).html, "it has none, and nothing has happened"
    fake.experiments[0]["document"]["guardrails"] = [{"metric": "conversion_rate"}]
    assert "Nothing yet." in page_of(fake.url).html
    fake.raw["/v1/experiments/checkout-addon/guardrail-changes"] = (404, b"{}")
    with Client(fake.url, KEY) as client:
        assert client.guardrail_changes("checkout-addon") == []


def test_the_record_is_followed_over_its_pages(fake: Any) -> None:
    path = "/v1/experiments/checkout-addon/guardrail-changes"
    fake.raw[path] = ok({"items": changes()[:2], "next_cursor": "two"})
    with Client(fake.url, KEY) as client:
        seen = fake.answer

        def answer(path: str, query: dict[str, str], authorization: str) -> tuple[int, bytes]:
            if query.get("cursor") == "two":
                return ok({"items": changes()[2:], "next_cursor": None})
            return seen(path, query, authorization)

        fake.answer = answer
        assert client.guardrail_changes("checkout-addon") == changes()


def test_a_tripped_breaker_is_an_alarm_with_what_to_do():
    detail = "0 outcomes in the last hours where 30 were to be expected"
    tripped = {
        "name": "breaker_outcomes",
        "state": "tripped",
        "since": "2026-03-07T08:00:00Z",
        "detail": detail,
    }
    ((state, title, said, remedy),) = learning.alarm_items({"alarms": [tripped]})
    assert (state, title) == ("tripped", "Circuit breaker: outcomes")
    assert said.startswith(f"{detail}. Since 7 Mar 2026")
    assert remedy == "See whether orders still reach the service."
