"""Why shares moved, in words: every cause the service writes, whom it was about, and what it did."""

from typing import Any

import pytest

from dashboard import causes, learning, record, words
from experiments.allocation.breakers import Breaker
from experiments.allocation.drift import DriftState
from experiments.allocation.published import Cause
from experiments.analysis.guardrails import GuardrailState
from experiments.analysis.reading import Reason
from experiments.model import Lifecycle, PolicyKind, VariantState
from tests.dashboard.fake_service import changes, experiment, policy

Json = dict[str, Any]
AT = "2026-03-20T09:30:00Z"
DOCUMENT = experiment()["document"]
EVEN = {"none": 0.5, "socks": 0.5}
HELD = {"reason": "cost_unknown", "detail": "5 orders have no known cost"}


def version(shares: dict[str, float] = EVEN, cause: str = "shares_moved", **more: Any) -> Json:
    return {"policy_version": 9, "published_at": AT, "cause": cause, "sets": [{"shares": shares}], **more}


def told(*versions: Json, found: list[Json] | None = None) -> causes.Told:
    return causes.told(DOCUMENT, {"versions": list(versions)}, found or [])[-1]


def test_every_cause_state_and_reason_the_service_writes_has_words() -> None:
    assert set(words.CAUSES) == {cause.value for cause in Cause}
    assert set(words.ROUTINE) <= set(words.CAUSES)
    states = [*GuardrailState, *Lifecycle, *VariantState]
    for state in states:
        if state is not VariantState.ACTIVE:  # which is not said
            assert words.state(state.value)[1] != "•", state
    assert DriftState.DRIFTING.value == "drifting"
    for reason in Reason:
        assert words.reason(reason.value) != words.spoken(reason.value) + ".", reason
    for breaker in Breaker:
        said = record.said(DOCUMENT, [{**changes()[4], "subject": breaker.value}])
        assert said[0].startswith("Circuit breaker"), breaker
        alarm = {"name": f"breaker_{breaker.value}", "state": "tripped", "detail": "x"}
        assert learning.alarm_items({"alarms": [alarm]})[0][1].startswith("Circuit breaker"), breaker
    assert set(words.POLICIES) == {kind.value for kind in PolicyKind} - {"fixed"}


@pytest.mark.parametrize(
    ("cause", "before", "after", "line"),
    [
        ("added", EVEN, {**EVEN, "cap": 0.0}, "A variant was added: cap"),
        ("retired", EVEN, {"none": 1.0}, "Somebody retired a variant: socks"),
        (
            "replaced",
            EVEN,
            {"none": 0.5, "cap": 0.5},
            "A variant took another's place: cap in place of socks",
        ),
        ("edited", EVEN, EVEN, "Somebody edited the experiment"),
        ("ramp", EVEN, EVEN, "A ramp took a step"),
    ],
)
def test_who_came_and_who_left_is_named(cause: str, before: Json, after: Json, line: str) -> None:
    found = told(version(before), version(after, cause))
    assert found.line == line
    assert not found.is_routine


def test_a_promotion_names_the_variant_and_is_said_once() -> None:
    first = version(cause="promoted", promoted="socks")
    assert told(version(), first).details == ("socks gets all but the control's share",)
    assert told(first, version(cause="daily", promoted="socks")).details == ()


def test_a_guardrail_s_and_a_breaker_s_part_is_told_from_the_record() -> None:
    throttled = told(version(), version(cause="guardrail"), found=changes()[:2])
    assert throttled.line == "A guardrail changed: race-pack, conversion rate: throttled"
    tripped = version(cause="breaker", held={"reason": "breaker", "detail": "outcomes stopped"})
    assert told(version(), tripped, found=[changes()[4]]).details == (
        "Circuit breaker: outcomes arriving: tripped",
        "shares held",
    )
    other = [{**changes()[1], "policy_version": 8}]
    assert told(version(), version(cause="guardrail"), found=other).details == ()


def test_burn_in_and_held_shares_are_not_called_results() -> None:
    """Their cause is shares_moved too: the version is published because the state changed."""
    burning, held = version(burn_in=True, held=HELD), version(held=HELD)
    assert told(version(cause="started", burn_in=True)).details == ("burn-in, every variant has its minimum",)
    assert told(burning, burning).title == "Burn-in goes on"
    assert told(burning, version()).title == "Burn-in is over"
    begun = told(version(), held)
    assert (begun.line, begun.is_routine) == ("Shares are held: 5 orders have no known cost.", False)
    assert told(held, version()).title == "Shares follow the results again"
    assert told(held, version(cause="daily", held=HELD)).details == (
        "shares held, 5 orders have no known cost",
    )
    moved = told(version(), version({"none": 0.4, "socks": 0.6}))
    assert (moved.line, moved.is_routine) == ("Shares followed the results", True)
    assert told(version(), version()).details == ("shares stay as they were",)


def test_the_table_has_the_latest_and_what_was_no_routine_newest_first() -> None:
    found = policy()
    found["versions"][20]["cause"] = "edited"
    found["versions"][41]["cause"] = "stop_rule"
    found["versions"][58]["cause"] = "resumed"
    every = causes.told(DOCUMENT, found, [])
    rows = causes.rows_of(every, found, "none")
    numbers = [60, 59, 58, 57, 56, 42, 21, 7, 1]
    assert [row[0].partition("version ")[2].partition("<")[0] for row in rows] == [str(n) for n in numbers]
    assert "Burn-in is over" in rows[-2][1]
    assert [row["cause"] for row in causes.notable(every)] == [
        "Started: burn-in, every variant has its minimum",
        "Burn-in is over: shares follow the results from now on",
        "Somebody edited the experiment",
        "The stop rule changed",
        "Somebody resumed a variant",
    ]
    assert len(causes.rows_of(every * 20, found, "none")) == 12
    assert causes.told(DOCUMENT, {}, []) == []


def test_shares_stand_with_their_change_in_points() -> None:
    pair = {"versions": [version({"a": 0.4, "b": 0.6}), version({"a": 0.45, "c": 0.55})]}
    rows = causes.rows_of(causes.told(DOCUMENT, pair, []), pair, "c")
    assert rows[0][2] == "<td>c 55.0\u202f% (+55.0), a 45.0\u202f% (+5.0), b out</td>"


def test_the_segment_that_changed_most_is_named() -> None:
    def of(mobile: float, desktop: float) -> Json:
        segments = {
            name: [{"shares": {"none": 1 - share, "socks": share}, "posteriors": {"none": {"n": 10}}}]
            for name, share in (("mobile", mobile), ("desktop", desktop))
        }
        return version(segments=segments)

    found = {"versions": [of(0.5, 0.5), of(0.52, 0.2)]}
    shown = {**found, "segments": found["versions"][1]["segments"]}
    rows = causes.rows_of(causes.told(DOCUMENT, found, []), shown, "none")
    assert "desktop: none 80.0\u202f% (+30.0), socks 20.0\u202f% (−30.0)" in rows[0][2]
    assert "Shares followed the results" in rows[0][1], "of all together nothing moved, there it did"


def test_the_page_of_a_service_of_old_knows_no_burn_in_per_version(fake, page_of) -> None:
    for one in fake.policy["versions"]:
        for name in ("burn_in", "held", "promoted"):
            del one[name]
    page = page_of(fake.url)
    page.assert_calm()
    assert "Why shares moved" in page.html
