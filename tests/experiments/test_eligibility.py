import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.eligibility import (
    Eligibility,
    RequestContext,
    conditions_hold,
    eligible,
    mapping_of,
    parse_conditions,
    showable,
)
from experiments.errors import InvalidDocument
from experiments.model import NO_OFFER, Condition, ConditionOp, Offer, OfferKind, Variant, VariantState

NONE = Variant("none", NO_OFFER, is_control=True)
SOCKS = Variant("socks", Offer(OfferKind.CROSS_SELL, sku="SOCK-3"))
LACES = Variant("laces", Offer(OfferKind.CROSS_SELL, sku="LACE-1"))
VARIANTS = (NONE, SOCKS, LACES)
NOTHING: frozenset[str] = frozenset()


def holds(mapping: dict[str, Any], segment: str | None = None, **context: Any) -> bool:
    return conditions_hold(parse_conditions(mapping, "/audience"), RequestContext(**context), segment)


def test_everything_is_a_candidate_when_nothing_forbids_it():
    answer = eligible(VARIANTS, {}, RequestContext(), NOTHING)
    assert answer == Eligibility(("none", "socks", "laces"), {})
    assert answer.enrols


@pytest.mark.parametrize(
    ("states", "context", "out_of_stock", "rule"),
    [
        ({"socks": VariantState.RETIRED}, RequestContext(), NOTHING, "retired"),
        ({"socks": VariantState.KILLED}, RequestContext(), NOTHING, "killed"),
        ({}, RequestContext(cart_skus=frozenset({"SOCK-3", "SHOE"})), NOTHING, "in_cart"),
        ({}, RequestContext(item_sku="SOCK-3"), NOTHING, "in_cart"),
        ({}, RequestContext(), frozenset({"SOCK-3"}), "out_of_stock"),
        (
            {"socks": VariantState.KILLED},
            RequestContext(item_sku="SOCK-3"),
            frozenset({"SOCK-3"}),
            "killed",
        ),
    ],
)
def test_each_rule_takes_out_its_variant_and_no_other(
    states: dict[str, VariantState], context: RequestContext, out_of_stock: frozenset[str], rule: str
):
    assert eligible(VARIANTS, states, context, out_of_stock) == Eligibility(
        ("none", "laces"), {"socks": rule}
    )


def test_a_unit_that_could_only_get_the_control_is_not_enrolled():
    answer = eligible(VARIANTS, {}, RequestContext(item_sku="LACE-1"), frozenset({"SOCK-3"}))
    assert answer.candidates == ("none",)
    assert not answer.enrols
    assert answer.rejected == {"socks": "out_of_stock", "laces": "in_cart"}


def test_a_control_that_is_an_offer_stays_a_candidate_but_may_not_be_showable():
    control = Variant("old", Offer(OfferKind.UPSELL, sku="PRO"), is_control=True)
    context = RequestContext(cart_skus=frozenset({"PRO"}))
    assert eligible((control, SOCKS), {}, context, NOTHING).candidates == ("old", "socks")
    assert showable(control, VariantState.ACTIVE, context, NOTHING) == "in_cart"
    assert showable(control, VariantState.ACTIVE, RequestContext(), NOTHING) is None


def test_a_control_without_offer_can_always_be_shown():
    for state in VariantState:
        assert showable(NONE, state, RequestContext(), frozenset({"SOCK-3"})) is None


def test_a_treatment_without_offer_can_be_shown_until_retired():
    blank = Variant("blank", NO_OFFER)
    assert showable(blank, VariantState.ACTIVE, RequestContext(), NOTHING) is None
    assert showable(blank, VariantState.RETIRED, RequestContext(), NOTHING) == "retired"


CART = {"cart_value_minor": 5000, "cart_items": 2, "item_sku": "SHOE", "item_price_minor": 9900}


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({}, True),
        ({"device": "mobile"}, True),
        ({"device": "desktop"}, False),
        ({"device": ["tablet", "mobile"]}, True),
        ({"device": ["tablet"]}, False),
        ({"device": {"ne": "mobile"}}, False),
        ({"device": {"not_in": ["mobile", "tablet"]}}, False),
        ({"device": {"not_in": ["tablet"]}}, True),
        ({"device": {"exists": True}}, True),
        ({"device": {"exists": False}}, False),
        ({"device": "mobile", "country": "IT"}, True),
        ({"device": "mobile", "country": "RO"}, False),
        ({"segment": "loyal"}, True),
        ({"segment": ["new", "loyal"]}, True),
        ({"cart_value": {"gte": 5000, "lt": 5001}}, True),
        ({"cart_value": {"gt": 5000}}, False),
        ({"cart_value": {"lte": 5000}}, True),
        ({"cart_items": {"lt": 2}}, False),
        ({"item.price": 9900.0}, True),
        ({"item.sku": "SHOE"}, True),
        ({"item.category": "shoes"}, True),
        ({"visits": {"gt": 2.5}}, True),
        ({"since": {"gte": "2026-01-01"}}, True),
    ],
)
def test_conditions(mapping: dict[str, Any], expected: bool):
    fields = {"device": "mobile", "country": "IT", "visits": 3, "since": "2026-02-01"}
    assert holds(mapping, "loyal", **CART, item_category="shoes", fields=fields) is expected


@pytest.mark.parametrize("fields", [{}, {"x": None}])
def test_a_missing_field_fails_all_but_the_negative_tests(fields: dict[str, None]):
    tests: dict[str, Any] = {"eq": 1, "in": [1, 2], "gt": 0, "gte": 0, "lt": 9, "lte": 9, "exists": True}
    for op, value in tests.items():
        assert not holds({"x": {op: value}}, fields=fields), op
    for op, value in {"ne": 1, "not_in": [1, 2], "exists": False}.items():
        assert holds({"x": {op: value}}, fields=fields), op
    assert not holds({"segment": "loyal"})
    assert not holds({"cart_value": {"gte": 0}})


@pytest.mark.parametrize("found", ["5", True, "", math.nan])
def test_comparing_unlike_types_does_not_hold(found: Any):
    for op in ("gt", "gte", "lt", "lte", "eq"):
        assert not holds({"x": {op: 1}}, fields={"x": found}), op
    assert holds({"x": {"ne": 1}}, fields={"x": found})


def test_true_is_not_one():
    assert not holds({"x": True}, fields={"x": 1})
    assert not holds({"x": [0, 1]}, fields={"x": True})
    assert not holds({"x": {"gte": 0}}, fields={"x": True})
    assert holds({"x": True}, fields={"x": True})


SCALARS = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.floats(-3, 3), st.booleans())
ORDERED = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.floats(-3, 3))
TESTS = st.one_of(
    SCALARS,
    st.lists(SCALARS, min_size=1, max_size=4),
    st.fixed_dictionaries(
        {"exists": st.booleans()},
        optional={
            **{op: SCALARS for op in ("eq", "ne")},
            **{op: st.lists(SCALARS, min_size=1, max_size=4) for op in ("in", "not_in")},
            **{op: ORDERED for op in ("gt", "gte", "lt", "lte")},
        },
    ),
)
MAPPINGS = st.dictionaries(st.sampled_from(["device", "segment", "cart_value", "item.sku", "a/b"]), TESTS)
FOUND = st.one_of(st.none(), SCALARS, st.floats())


@given(MAPPINGS, FOUND, st.one_of(st.none(), st.text(max_size=3)), st.integers(-3, 3))
def test_any_condition_can_be_asked_of_any_request(
    mapping: dict[str, Any], device: Any, segment: str | None, value: int
):
    """Never an exception; all hold when each holds alone; writing and reading back changes nothing."""
    conditions = parse_conditions(mapping, "/audience")
    context = RequestContext(cart_value_minor=value, fields={"device": device, "a/b": device})
    together = conditions_hold(conditions, context, segment)
    assert together == all(conditions_hold((one,), context, segment) for one in conditions)
    again = parse_conditions(mapping_of(conditions), "/audience")
    assert repr(again) == repr(conditions)
    for negative, positive in ((ConditionOp.NE, ConditionOp.EQ), (ConditionOp.NOT_IN, ConditionOp.IN)):
        for one in conditions:
            if one.op is positive:
                opposite = Condition(one.field, negative, one.value)
                assert conditions_hold((one,), context, segment) != conditions_hold(
                    (opposite,), context, segment
                )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "x"}, {"a": {"eq": "x"}}),
        ({"a": ["x", "y"]}, {"a": {"in": ["y", "x", "x"]}}),
        ({"a": ["x"]}, {"a": "x"}),
        ({"a": {"not_in": ["x"]}}, {"a": {"ne": "x"}}),
        ({"a": 5.0}, {"a": 5}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_meaning_is_equality(one: dict[str, Any], other: dict[str, Any]):
    assert parse_conditions(one, "") == parse_conditions(other, "")


def test_no_test_is_lost_when_two_say_nearly_the_same():
    mapping = {"a": {"eq": "x", "in": ["y"], "ne": "z", "not_in": ["w"]}}
    assert mapping_of(parse_conditions(mapping, "")) == mapping


@pytest.mark.parametrize(
    ("mapping", "pointer", "code"),
    [
        ({"a": {"equals": 1}}, "/segments/0/when/a/equals", "unknown_field"),
        ({"a": {}}, "/segments/0/when/a", "too_few"),
        ({"a": []}, "/segments/0/when/a", "too_few"),
        ({"a": None}, "/segments/0/when/a", "wrong_type"),
        ({"a": {"gt": True}}, "/segments/0/when/a/gt", "wrong_type"),
        ({"a": {"exists": 1}}, "/segments/0/when/a/exists", "wrong_type"),
        ({"a": {"in": "x"}}, "/segments/0/when/a/in", "wrong_type"),
        ({"a": [[1]]}, "/segments/0/when/a/0", "wrong_type"),
        ({"a": math.inf}, "/segments/0/when/a", "not_finite"),
        ({"item.colour": "red"}, "/segments/0/when/item.colour", "unknown_field"),
        ({"cart": "x"}, "/segments/0/when/cart", "unknown_field"),
        ({"": 1}, "/segments/0/when/", "too_short"),
        ([1], "/segments/0/when", "wrong_type"),
    ],
)
def test_conditions_that_cannot_be_meant_are_refused_with_their_place(mapping: Any, pointer: str, code: str):
    with pytest.raises(InvalidDocument) as caught:
        parse_conditions(mapping, "/segments/0/when")
    assert [(fault.pointer, fault.code) for fault in caught.value.errors] == [(pointer, code)]
