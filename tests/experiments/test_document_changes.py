from typing import Any

import pytest

from experiments.document import check_change, parse_document
from experiments.errors import FrozenField
from tests.experiments.documents import FULL, changed

BEFORE = parse_document(FULL)
NEW = {"key": "gift", "offer": {"kind": "upsell", "sku": "GIFT"}}


def frozen(*edits: tuple[str, Any], started: bool = True) -> list[str]:
    after = parse_document(changed(FULL, *edits))
    try:
        check_change(BEFORE, after, started=started)
    except FrozenField as error:
        faults = error.errors
    else:
        return []
    assert all(fault.code == "frozen" and fault.remedy for fault in faults)
    return [fault.pointer for fault in faults]


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/unit", "visitor"),
        ("/currency", "RON"),
        ("/anchor", "assignment"),
        ("/attribution_window", "8d"),
        ("/refund_window", "31d"),
        ("/reassign_after", "never"),
        ("/salt", "2027-01"),
        ("/variants/1/offer/kind", "upsell"),
        ("/variants/1/offer/sku", "SOCK-5"),
        ("/variants/1/offer/price", 1190),
        ("/variants/1/offer/cost", None),
    ],
)
def test_a_started_experiment_keeps_what_its_data_rest_on(pointer: str, value: Any):
    assert frozen((pointer, value)) == [pointer]
    assert frozen((pointer, value), started=False) == []


def test_the_key_is_frozen_from_the_beginning():
    for started in (True, False):
        assert frozen(("/key", "other"), started=started) == ["/key"]


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/name", "New name"),
        ("/touchpoint", "cart"),
        ("/audience", {}),
        ("/policy/floor", 0.01),
        ("/policy/kind", "top_two"),
        ("/guardrails/0/kill", 0.08),
        ("/variants/1/offer/headline", "New words"),
        ("/variants/1/offer/payload", {}),
        ("/variants/-", NEW),
        ("/attribution_window", "7d"),
    ],
)
def test_the_rest_stays_editable(pointer: str, value: Any):
    assert frozen((pointer, value)) == []


@pytest.mark.parametrize(
    "variants",
    [
        [FULL["variants"][0], FULL["variants"][2]],
        [FULL["variants"][0], FULL["variants"][2], FULL["variants"][1]],
        [NEW, *FULL["variants"]],
        [FULL["variants"][0], NEW, *FULL["variants"][1:]],
    ],
)
def test_variants_are_neither_removed_nor_moved(variants: list[Any]):
    assert frozen(("/variants", variants)) == ["/variants"]
    assert frozen(("/variants", variants), started=False) == []


def test_the_control_cannot_change():
    edits = ("/variants/0/is_control", False), ("/variants/1/is_control", True)
    assert frozen(*edits) == ["/variants/0/is_control", "/variants/1/is_control"]


def test_all_frozen_fields_are_named_at_once():
    edits = (
        ("/unit", "session"),
        ("/variants/1/offer/price", 1),
        ("/variants/1/offer/cost", 1),
        ("/name", "x"),
    )
    assert frozen(*edits) == ["/unit", "/variants/1/offer/price", "/variants/1/offer/cost"]


def test_a_removed_variant_is_named():
    with pytest.raises(FrozenField, match=r"socks removed.*retire a variant"):
        check_change(
            BEFORE,
            parse_document(changed(FULL, ("/variants", [FULL["variants"][0], FULL["variants"][2]]))),
            started=True,
        )
