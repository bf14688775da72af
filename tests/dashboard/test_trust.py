"""The checks people read: worst first, with what to do; what is in order stands folded away."""

from typing import Any

from dashboard import trust
from tests.dashboard.fake_service import report

Json = dict[str, Any]


def check(name: str, state: str, remedy: str | None = None) -> Json:
    return {"name": name, "state": state, "detail": f"{name} was looked at", "remedy": remedy}


def test_the_worst_stands_first_and_equal_ones_as_the_service_has_them() -> None:
    states = {"a": "ok", "b": "info", "c": "warn", "d": "never_heard_of", "e": "reached", "f": "warn"}
    found = trust.checks({"checks": [check(name, state) for name, state in states.items()]}, {})
    assert "".join(item["name"] for item in found) == "ecfdba"


def test_what_an_alarm_tells_already_is_not_said_twice() -> None:
    told = {"checks": [check("stop_rule", "reached"), check("srm", "warn")]}
    raised = {"alarms": [{"name": "stop_rule", "state": "reached"}]}
    assert [item["name"] for item in trust.checks(told, raised)] == ["srm"]


def test_beside_the_verdict_only_warnings_are_named() -> None:
    told = {"checks": [check("crossover", "ok"), check("maturity", "info"), check("srm", "warn", "Look.")]}
    (hint,) = trust.hints(told, {})
    assert "Split as its shares say" in hint
    assert "Look." not in hint  # what to do stands once, in the section
    assert trust.hints({"checks": told["checks"][:2]}, {}) == []


def test_the_page_says_what_to_do_and_folds_away_what_is_in_order(fake, page_of) -> None:
    page = page_of(fake.url)
    page.assert_calm()
    assert "1 check in order" in [box.label for box in page.app.expander]
    assert page.html.index("Costs known.</b>") < page.html.index("Windows closed.</b>")
    assert page.html.index("Windows closed.</b>") < page.html.index("One person, one variant.</b>")
    assert "<b>What to do:</b> Send cost with the orders" in page.html


def test_the_services_own_remedy_is_preferred(fake, page_of) -> None:
    fake.report["checks"] = [check("srm", "warn", "Compare how each variant reports.")]
    html = page_of(fake.url).html
    assert "<b>What to do:</b> Compare how each variant reports." in html
    fake.report["checks"] = report()["checks"][1:2]
    html = page_of(fake.url).html
    assert "Nothing found that speaks against them." in html
    assert "What to do" not in html
