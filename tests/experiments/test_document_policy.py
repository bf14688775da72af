"""Warm starts and stop rules in the document: what is read, what is refused and how it is said."""

from typing import Any

import pytest

from experiments.document import parse_document, to_document
from experiments.errors import InvalidDocument
from experiments.model import StopAction, WarmSource, WarmStart
from tests.experiments.documents import SMALL, changed

SHARES = {"none": 0.4, "socks": 0.6}
EXPERT = {"shares": SHARES, "units": 200}
LEARNT = {"variants": {"socks": {"experiment": "spring", "variant": "trainers"}}}


def with_policy(warm: Any, **policy: Any) -> dict[str, Any]:
    return changed(SMALL, ("/policy", {"kind": "thompson", "warm_start": warm, **policy}))


def faults(document: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDocument) as caught:
        parse_document(document)
    assert all(fault.remedy for fault in caught.value.errors)
    return [(fault.pointer, fault.code) for fault in caught.value.errors]


def test_a_warm_start_is_read_and_written_back() -> None:
    rate = with_policy({**EXPERT, "rate": 0.03}, objective="conversion_rate")
    read = parse_document(rate)
    assert read.policy.warm_start == WarmStart(shares=SHARES, units=200.0, rate=0.03)
    assert parse_document(to_document(read)) == read
    learnt = parse_document(with_policy(LEARNT))
    assert learnt.policy.warm_start == WarmStart(variants={"socks": WarmSource("spring", "trainers", 1.0)})
    assert parse_document(to_document(learnt)) == learnt
    assert "warm_start" not in to_document(parse_document(SMALL))["policy"]


@pytest.mark.parametrize(
    ("warm", "policy", "expected"),
    [
        ({}, {}, [("", "empty")]),
        ({"units": 200}, {}, [("", "empty"), ("/units", "without_shares")]),
        (EXPERT, {"kind": "fixed"}, [("", "not_for_this_policy")]),
        (EXPERT, {"objective": "aov"}, [("", "not_for_this_metric")]),
        (EXPERT, {"objective": "conversion_rate"}, [("/rate", "required")]),
        ({**EXPERT, "rate": 0.03}, {}, [("/rate", "not_for_this_metric")]),
        ({**LEARNT, "rate": 0.03}, {"objective": "conversion_rate"}, [("/rate", "without_shares")]),
        ({"shares": SHARES}, {}, [("/units", "required")]),
        ({**EXPERT, "units": 99, "rate": 0.03}, {"objective": "conversion_rate"}, [("/units", "too_few")]),
        ({**EXPERT, "units": 3}, {}, [("/units", "too_small")]),
        ({**EXPERT, "shares": {"none": 0.4, "socks": 0.5}}, {}, [("/shares", "shares_sum")]),
        ({**EXPERT, "shares": {"socks": 0.999}}, {}, [("/shares", "shares_sum")]),
        ({**EXPERT, "shares": {"none": 1, "socks": 0.5}}, {}, [("/shares/none", "too_large")]),
        ({**EXPERT, "shares": 1}, {}, [("/shares", "wrong_type")]),
        ({**EXPERT, "shares": {"none": 0.4, "hat": 0.6}}, {}, [("/shares/hat", "unknown_variant")]),
        ({**EXPERT, **LEARNT}, {}, [("/variants/socks", "duplicate")]),
        (
            {"variants": {"hat": {"experiment": "a", "variant": "b"}}},
            {},
            [("/variants/hat", "unknown_variant")],
        ),
        ({"variants": {"socks": {"experiment": "a"}}}, {}, [("/variants/socks/variant", "required")]),
        (
            {"variants": {"socks": {"experiment": "a", "variant": "b", "discount": 0}}},
            {},
            [("/variants/socks/discount", "too_small")],
        ),
    ],
)
def test_a_faulty_warm_start_names_its_fault(warm: Any, policy: Any, expected: Any) -> None:
    places = [(f"/policy/warm_start{pointer}", code) for pointer, code in expected]
    assert faults(with_policy(warm, **policy)) == places


def test_what_cannot_be_told_of_a_warm_start_is_not_guessed() -> None:
    unreadable = changed(with_policy(EXPERT), ("/variants/1/key", "S O C K S"))
    assert faults(unreadable) == [("/variants/1/key", "bad_format")]
    unknown = with_policy({**EXPERT, "rate": "high"}, objective="conversion_rate")
    assert faults(unknown) == [("/policy/warm_start/rate", "wrong_type")]


def test_a_promotion_by_rule_needs_evidence() -> None:
    """A date, or futility, says nothing for the leader."""
    for rule in ({}, {"at": "2026-12-31T00:00:00Z"}, {"futility_below": 0.05}):
        document = changed(SMALL, ("/stop_rule", {**rule, "action": "promote"}))
        assert faults(document) == [("/stop_rule/action", "needs_evidence")]
    for name, value in (("value_remaining_below", 100), ("loss_below", 0), ("prob_best_above", 0.95)):
        read = parse_document(changed(SMALL, ("/stop_rule", {name: value, "action": "promote"})))
        assert read.stop_rule.action is StopAction.PROMOTE


def test_a_contextual_policy_may_have_every_stop_rule() -> None:
    policy = {
        "kind": "contextual",
        "objective": "conversion_rate",
        "features": [{"name": "device", "kind": "category", "values": ["mobile"]}],
    }
    rule = {"loss_below": 1, "futility_below": 0.05, "at": "2026-12-31T00:00:00Z", "action": "promote"}
    read = parse_document(changed(SMALL, ("/policy", policy), ("/stop_rule", rule)))
    assert (read.stop_rule.loss_below, read.stop_rule.action) == (1, StopAction.PROMOTE)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("prob_best_above", 0.4, "too_small"),
        ("prob_best_above", 1, "too_large"),
        ("futility_below", 0, "too_small"),
        ("futility_below", 0.6, "too_large"),
        ("rope", 1, "too_large"),
        ("action", "stop", "not_one_of"),
    ],
)
def test_stop_rules_are_bounded(name: str, value: Any, code: str) -> None:
    assert faults(changed(SMALL, ("/stop_rule", {name: value}))) == [(f"/stop_rule/{name}", code)]
