"""Ramp and circuit breakers in the document: what is read, what is refused and how it is said."""

from datetime import timedelta
from typing import Any

import pytest

from experiments.document import parse_document, to_document
from experiments.errors import InvalidDocument
from experiments.model import BreakerAction, Breakers, Ramp
from tests.experiments.documents import SMALL, changed


def with_policy(**policy: Any) -> dict[str, Any]:
    return changed(SMALL, ("/policy", {"kind": "thompson", **policy}))


def test_left_out_they_have_their_defaults_and_are_not_written():
    policy = parse_document(SMALL).policy
    assert (policy.ramp, policy.breakers) == (None, Breakers())
    assert not {"ramp", "breakers"} & to_document(parse_document(SMALL))["policy"].keys()


def test_they_are_read_and_written_back():
    read = parse_document(
        with_policy(
            ramp={"steps": [0.1, 1], "every": "12h", "units": 50, "from_start": True},
            breakers={"outcomes_below": None, "exposure_gap": 0.5, "action": "pause"},
        )
    )
    assert read.policy.ramp == Ramp((0.1, 1.0), timedelta(hours=12), 50, from_start=True)
    assert read.policy.breakers == Breakers(None, 0.5, 0.2, BreakerAction.PAUSE)
    assert parse_document(to_document(read)) == read
    assert parse_document(with_policy(ramp={})).policy.ramp == Ramp()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"ramp": {"steps": [0.05, 0.01]}}, ("/policy/ramp/steps", "steps_order")),
        ({"ramp": {"steps": [0.05, 0.05]}}, ("/policy/ramp/steps", "steps_order")),
        ({"ramp": {"steps": [0.5, 2]}}, ("/policy/ramp/steps/1", "too_large")),
        ({"ramp": {"every": "0s"}}, ("/policy/ramp/every", "out_of_range")),
        ({"breakers": {"exposure_gap": 1}}, ("/policy/breakers/exposure_gap", "too_large")),
        ({"breakers": {"action": "shout"}}, ("/policy/breakers/action", "not_one_of")),
    ],
)
def test_faults_name_the_field_and_the_way_out(policy: dict[str, Any], expected: tuple[str, str]):
    with pytest.raises(InvalidDocument) as caught:
        parse_document(with_policy(**policy))
    assert [(fault.pointer, fault.code) for fault in caught.value.errors] == [expected]
    assert all(fault.remedy for fault in caught.value.errors)
