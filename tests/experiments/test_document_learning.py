"""`policy.delay` and `policy.model` in the document: read, written back, refused where they mean nothing."""

from typing import Any

import pytest

from experiments.document import parse_document, to_document
from experiments.errors import InvalidDocument
from experiments.model import DelayHandling, Discounting, TotalsModel
from tests.experiments.documents import SMALL, changed


def with_policy(**policy: Any) -> dict[str, Any]:
    return changed(SMALL, ("/policy", {"kind": "thompson", **policy}))


def test_the_delay_model_and_the_hurdle_are_read_and_written_back() -> None:
    modelled = parse_document(with_policy(delay="model"))
    assert modelled.policy.delay is DelayHandling.MODEL
    hurdled = parse_document(with_policy(model="hurdle"))
    assert hurdled.policy.model is TotalsModel.HURDLE
    waiting = parse_document(with_policy(discount_half_life="14d", discount="after_drift"))
    assert waiting.policy.discount is Discounting.AFTER_DRIFT
    for experiment in (modelled, hurdled, waiting):
        assert parse_document(to_document(experiment)) == experiment


def test_documents_in_store_stay_as_they_are() -> None:
    written = to_document(parse_document(with_policy()))["policy"]
    assert not written.keys() & {"delay", "model", "discount"}
    assert parse_document(with_policy(delay="matured", model="student_t")) == parse_document(with_policy())


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"discount": "after_drift"}, [("/policy/discount", "without_half_life")]),
        ({"delay": "never"}, [("/policy/delay", "not_one_of")]),
        ({"kind": "fixed", "delay": "model"}, [("/policy/delay", "not_for_this_policy")]),
        ({"kind": "fixed", "model": "hurdle"}, [("/policy/model", "not_for_this_policy")]),
        ({"delay": "model", "objective": "repeat_rate"}, [("/policy/delay", "not_for_this_metric")]),
        ({"model": "hurdle", "objective": "aov"}, [("/policy/model", "not_for_this_metric")]),
        (
            {"model": "hurdle", "prior": {"mean": 1, "kappa": 1, "nu": 1, "scale": 1}},
            [("/policy/model", "not_with_prior")],
        ),
        ({"model": "hurdle", "delay": "model"}, [("/policy/model", "needs_matured")]),
    ],
)
def test_what_they_cannot_be_used_for_is_refused_with_a_remedy(
    policy: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parse_document(with_policy(**policy))
    assert all(fault.remedy for fault in caught.value.errors)
    assert [(fault.pointer, fault.code) for fault in caught.value.errors] == expected
