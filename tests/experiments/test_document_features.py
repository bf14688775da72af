"""Features of a contextual policy: read, refused with a remedy, written back, frozen at the start."""

from typing import Any

import pytest

from experiments.document import parse_document, to_document
from experiments.document_changes import check_change
from experiments.errors import FrozenField, InvalidDocument
from experiments.model import Feature, FeatureKind, PolicyKind
from tests.experiments.documents import SMALL, changed

DEVICE = {"name": "device", "kind": "category", "values": ["mobile", "desktop"]}
CART = {"name": "cart_value", "kind": "number", "scale": 5000}


def contextual(*features: Any, **policy: Any) -> dict[str, Any]:
    settings = {"kind": "contextual", "features": list(features), "objective": "conversion_rate", **policy}
    return changed(SMALL, ("/policy", settings))


def faults(document: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDocument) as caught:
        parse_document(document)
    assert all(fault.remedy for fault in caught.value.errors)
    return [(fault.pointer, fault.code) for fault in caught.value.errors]


def test_features_are_read_and_written_back() -> None:
    experiment = parse_document(contextual(DEVICE, {**CART, "center": 2000}, draws=500))
    assert experiment.policy.kind is PolicyKind.CONTEXTUAL
    assert experiment.policy.features == (
        Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop")),
        Feature("cart_value", FeatureKind.NUMBER, center=2000.0, scale=5000.0),
    )
    written = to_document(experiment)
    assert written["policy"]["draws"] == 500
    assert parse_document(written) == experiment


def test_features_may_be_recorded_before_a_policy_uses_them() -> None:
    experiment = parse_document(changed(SMALL, ("/policy", {"kind": "thompson", "features": [CART]})))
    written = to_document(experiment)["policy"]
    assert "draws" not in written
    assert written["features"] == [{"name": "cart_value", "kind": "number", "center": 0.0, "scale": 5000.0}]
    segment = parse_document(changed(SMALL, ("/policy", {"kind": "segment", "draws": 200})))
    assert parse_document(to_document(segment)) == segment


BAD = [
    ([], {}, ("/policy/features", "required")),
    ([{**CART, "scale": None}], {}, ("/policy/features/0/scale", "required")),
    ([{"name": "device", "kind": "category"}], {}, ("/policy/features/0/values", "required")),
    ([{**CART, "values": ["a"]}], {}, ("/policy/features/0/values", "not_for_this_kind")),
    ([{**DEVICE, "scale": 2}], {}, ("/policy/features/0/scale", "not_for_this_kind")),
    ([{**DEVICE, "values": ["a", "b", "a"]}], {}, ("/policy/features/0/values", "duplicate")),
    ([{**CART, "name": "cart.size"}], {}, ("/policy/features/0/name", "unknown_field")),
    ([DEVICE, {**CART, "name": "device"}], {}, ("/policy/features/1/name", "duplicate")),
    ([DEVICE], {"objective": "aov"}, ("/policy/objective", "not_for_this_policy")),
    ([DEVICE], {"delay": "model"}, ("/policy/delay", "not_for_this_policy")),
    ([DEVICE], {"objective": "margin_per_unit", "model": "hurdle"}, ("/policy/model", "not_for_this_policy")),
    ([CART], {"objective": "repeat_rate"}, ("/policy/objective", "needs_categories")),
    ([DEVICE], {"draws": 99}, ("/policy/draws", "too_small")),
    ([{**CART, "scale": 0}], {}, ("/policy/features/0/scale", "too_small")),
    ([{**CART, "kind": "text"}], {}, ("/policy/features/0/kind", "not_one_of")),
]


@pytest.mark.parametrize(("features", "policy", "fault"), BAD)
def test_what_is_wrong_is_named_with_what_to_do(features: Any, policy: Any, fault: tuple[str, str]) -> None:
    assert fault in faults(contextual(*features, **policy))


def test_true_and_one_are_two_values() -> None:
    assert parse_document(contextual({**DEVICE, "values": [True, 1]})).policy.features[0].values == (True, 1)


def test_no_more_coefficients_than_traffic_could_tell() -> None:
    wide = [{"name": f"f{n}", "kind": "category", "values": [*map(str, range(64))]} for n in range(8)]
    assert ("/policy/features", "too_many") in faults(contextual(*wide))
    assert ("/policy/draws", "too_many") in faults(contextual(*wide[:2], draws=10_000))
    parse_document(contextual(*wide[:2], draws=3800))


def test_features_are_frozen_once_started_and_the_kind_is_not() -> None:
    before = parse_document(contextual(DEVICE))
    other = parse_document(contextual(CART))
    check_change(before, other, started=False)
    with pytest.raises(FrozenField) as caught:
        check_change(before, other, started=True)
    assert [fault.pointer for fault in caught.value.errors] == ["/policy/features"]
    thompson = parse_document(contextual(DEVICE, kind="thompson"))
    check_change(thompson, before, started=True)
