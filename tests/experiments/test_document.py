import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from experiments.document import parse_document, to_document
from experiments.errors import InvalidDocument
from experiments.model import (
    NO_OFFER,
    Anchor,
    Condition,
    ConditionOp,
    CustomMetric,
    Direction,
    Experiment,
    Guardrail,
    MetricKind,
    Offer,
    OfferKind,
    PolicyKind,
    PolicySettings,
    Prior,
    StopAction,
    StopRule,
    UnitKind,
    Variant,
    WarmSource,
    WarmStart,
    Winsorise,
)
from tests.experiments.documents import FULL, REMOVE, SMALL, changed, faults
from tests.experiments.test_document_schema import JSON, mutated


def test_the_full_document_says_what_it_says():
    assert parse_document(FULL) == Experiment(
        key="checkout-addon",
        name="An add-on at checkout",
        hypothesis="socks at checkout raise margin per visitor and hurt nothing",
        touchpoint="checkout",
        unit=UnitKind.CUSTOMER,
        currency="EUR",
        anchor=Anchor.EXPOSURE,
        attribution_window=timedelta(days=7),
        refund_window=timedelta(days=30),
        reassign_after=timedelta(days=8),
        audience=(
            Condition("cart_value", ConditionOp.GTE, 2000),
            Condition("cart_value", ConditionOp.LT, 100_000),
            Condition("consent", ConditionOp.EQ, True),
            Condition("country", ConditionOp.NOT_IN, ("CA", "US")),
            Condition("device", ConditionOp.IN, ("mobile", "tablet")),
        ),
        policy=PolicySettings(
            kind=PolicyKind.THOMPSON,
            objective="visit_value",
            control_share=0.2,
            floor=0.05,
            cadence=timedelta(seconds=90),
            burn_in=500,
            discount_half_life=timedelta(days=28),
            prior=Prior(mean=10, kappa=2, nu=3.5, scale=400),
            warm_start=WarmStart(variants={"bundle.3": WarmSource("spring", "bundle", 0.5)}),
        ),
        variants=(
            Variant("none", Offer(OfferKind.NONE, headline="Thank you"), is_control=True),
            Variant(
                "socks",
                Offer(
                    OfferKind.CROSS_SELL,
                    sku="SOCK-3",
                    price_minor=1290,
                    cost_minor=410,
                    headline="Running socks (3 pairs)",
                    benefit="No blisters on long runs",
                    payload={"one_click": True, "image": "/socks.png", "weight": 0.25, "badge": None},
                    category="clothing",
                ),
            ),
            Variant("bundle.3", Offer(OfferKind.BUNDLE, sku="BUNDLE")),
        ),
        guardrails=(
            Guardrail("conversion_rate", 0.01, 0.02, 0.04),
            Guardrail("visit_rate", 0.1, 0.1, 0.4),
        ),
        metrics=(
            CustomMetric("visit_rate", MetricKind.PROPORTION, "Visit", prior=Prior(alpha=2, beta=20)),
            CustomMetric("visit_value", MetricKind.MEAN, "Visit", window=timedelta(days=3)),
            CustomMetric("wait", MetricKind.RATIO, "Wait", direction=Direction.DOWN),
        ),
        winsorise=Winsorise(0.001, 0.99),
        priority=5,
        layer="checkout",
        stop_rule=StopRule(
            value_remaining_below=10_000,
            loss_below=0.5,
            prob_best_above=0.99,
            futility_below=0.05,
            rope=0.02,
            at=datetime(2026, 12, 31, 22, 59, 59, tzinfo=UTC),
            action=StopAction.PROMOTE,
        ),
        salt="2026-12",
    )


def test_the_defaults_of_the_schema_are_those_of_the_types():
    assert parse_document(SMALL) == Experiment(
        key="small",
        touchpoint="cart",
        currency="EUR",
        variants=(
            Variant("none", NO_OFFER, is_control=True),
            Variant("socks", Offer(OfferKind.CROSS_SELL, sku="SOCK-3")),
        ),
        salt="small",
    )


def test_the_currency_of_the_store_stands_in():
    document = changed(SMALL, ("/currency", REMOVE))
    assert parse_document(document, currency_default="RON").currency == "RON"
    assert parse_document(SMALL, currency_default="RON").currency == "EUR"
    assert faults(document) == [("/currency", "required")]


@pytest.mark.parametrize("document", [FULL, SMALL], ids=["full", "small"])
def test_writing_and_reading_gives_the_experiment_back(document: dict[str, Any]):
    experiment = parse_document(document)
    written = to_document(experiment)
    assert parse_document(json.loads(json.dumps(written))) == experiment
    assert to_document(parse_document(written)) == written


def test_the_canonical_form_is_pinned():
    """Stores keep documents in this form: a change here needs a migration."""
    canonical = (Path(__file__).parent / "golden" / "document_canonical.json").read_text("utf-8")
    assert json.dumps(to_document(parse_document(FULL)), indent=1) + "\n" == canonical


@pytest.mark.parametrize(
    "edits",
    [
        [("/attribution_window", "7d"), ("/reassign_after", "192h")],
        [("/salt", "2026-12"), ("/policy/discount_half_life", "672h")],
        [("/audience/device", {"in": ["tablet", "mobile"]}), ("/audience/consent", {"eq": True})],
        [("/policy/shares", REMOVE), ("/winsorise/lower", 0.001)],
        [("/variants/2/offer", {"kind": "bundle", "sku": "BUNDLE", "payload": {}, "cost": None})],
        [("/stop_rule/at", "2026-12-31T22:59:59Z")],
        [("/policy/prior/mean", 10.0), ("/audience/cart_value", {"lt": 1e5, "gte": 2000.0})],
        [("/policy/prior/alpha", None), ("/metrics/2/window", None)],
    ],
)
def test_documents_equal_in_meaning_are_equal_experiments(edits: list[tuple[str, Any]]):
    document = changed(FULL, *edits)
    assert json.dumps(document) != json.dumps(FULL)
    assert parse_document(document) == parse_document(FULL)
    assert json.dumps(to_document(parse_document(document))) == json.dumps(to_document(parse_document(FULL)))


GOOD = [
    [("/policy", {"kind": "fixed", "shares": {"none": 0.5, "socks": 0.3, "bundle.3": 0.2}})],
    [("/policy", {"kind": "fixed", "shares": {"none": 1, "socks": 0, "bundle.3": 5e-7}})],
    [("/policy/kind", "top_two")],
    [("/winsorise", None), ("/layer", None), ("/guardrails", []), ("/reassign_after", "never")],
    [("/reassign_after", "7d")],
    [("/policy/floor", 0), ("/policy/burn_in", 0)],
    [
        ("/variants/0/offer", {"kind": "upsell", "sku": "A"}),
        ("/policy/objective", "take_rate"),
        ("/policy/prior", {"alpha": 1, "beta": 3}),
    ],
    [("/policy/floor", 0.2)],
    [("/attribution_window", "3650d"), ("/reassign_after", "3650d")],
    [("/variants/1/offer/price", 0), ("/currency", "JPY")],
]


@pytest.mark.parametrize("edits", GOOD)
def test_good_documents_are_accepted(edits: list[tuple[str, Any]]):
    parse_document(changed(FULL, *edits))


BAD: list[tuple[str, Any, str]] = [
    ("/key", "Checkout", "bad_format"),
    ("/key", "-x", "bad_format"),
    ("/key", "x" * 65, "bad_format"),
    ("/key", REMOVE, "required"),
    ("/touchpoint", REMOVE, "required"),
    ("/touchpoint", 5, "wrong_type"),
    ("/name", "x" * 201, "too_long"),
    ("/colour", "red", "unknown_field"),
    ("/unit", "basket", "not_one_of"),
    ("/anchor", "purchase", "not_one_of"),
    ("/currency", "eur", "bad_format"),
    ("/currency", "XXX", "unknown_currency"),
    ("/attribution_window", "7 days", "bad_format"),
    ("/attribution_window", 7, "wrong_type"),
    ("/attribution_window", "0d", "out_of_range"),
    ("/refund_window", "3651d", "out_of_range"),
    ("/refund_window", "999999999d", "out_of_range"),
    ("/reassign_after", "6d", "too_short"),
    ("/reassign_after", "sometimes", "bad_format"),
    ("/audience/cart_value/like", "5%", "unknown_field"),
    ("/audience/item.size", 42, "unknown_field"),
    ("/policy/kind", "greedy", "not_one_of"),
    ("/policy/objective", "profit", "unknown_metric"),
    ("/policy/control_share", 0, "too_small"),
    ("/policy/control_share", 1, "too_large"),
    ("/policy/control_share", math.nan, "not_finite"),
    ("/policy/control_share", 0.01, "below_floor"),
    ("/policy/control_share", True, "wrong_type"),
    ("/policy/cadence", "0s", "out_of_range"),
    ("/policy/burn_in", 2.5, "not_an_integer"),
    ("/policy/burn_in", 200.0, "not_an_integer"),
    ("/policy/burn_in", True, "wrong_type"),
    ("/policy/discount_half_life", "0h", "out_of_range"),
    ("/policy/shares", {"none": 0.5, "socks": 0.3, "bundle.3": 0.2}, "not_for_this_policy"),
    ("/policy/prior", {"alpha": 1, "beta": 1}, "prior_shape"),
    ("/policy/prior", {"mean": 1, "kappa": 1, "nu": 1}, "prior_shape"),
    ("/policy/prior/kappa", 0, "too_small"),
    ("/metrics/0/prior", {"alpha": 1}, "prior_shape"),
    ("/metrics/2/prior", {"alpha": 1, "beta": 1}, "not_for_this_metric"),
    ("/variants/1/key", "none", "duplicate"),
    ("/variants/1/offer/price", -1, "too_small"),
    ("/variants/1/offer/price", 12.9, "not_an_integer"),
    ("/variants/1/offer/price", "1290", "wrong_type"),
    ("/variants/1/offer/price", 10**13, "too_large"),
    ("/variants/1/offer/cost", math.inf, "not_finite"),
    ("/variants/1/offer/sku", REMOVE, "required"),
    ("/variants/1/offer/sku", "a\nb", "bad_format"),
    ("/variants/1/offer/kind", REMOVE, "required"),
    ("/variants/1/offer/kind", "gift", "not_one_of"),
    ("/variants/1/offer/payload/a", [1], "wrong_type"),
    ("/variants/1/offer/payload", {str(i): i for i in range(65)}, "too_many"),
    ("/variants/0/offer/sku", "X", "not_for_none"),
    ("/variants/0/offer/price", 1, "not_for_none"),
    ("/variants/0/offer/cost", 0, "not_for_none"),
    ("/guardrails/0/metric", "nps", "unknown_metric"),
    ("/guardrails/1/metric", "conversion_rate", "duplicate"),
    ("/guardrails/0/warn", 0, "too_small"),
    ("/guardrails/0/throttle", 0.005, "margins_order"),
    ("/guardrails/0/kill", 0.015, "margins_order"),
    ("/guardrails/0/kill", REMOVE, "required"),
    ("/metrics/2/key", "aov", "built_in"),
    ("/metrics/2/key", "visit_rate", "duplicate"),
    ("/metrics/2/kind", "median", "not_one_of"),
    ("/metrics/2/event", "", "too_short"),
    ("/metrics/2/window", "0s", "out_of_range"),
    ("/winsorise/upper", 0.001, "caps_order"),
    ("/winsorise/upper", 1.5, "too_large"),
    ("/priority", "high", "wrong_type"),
    ("/layer", "", "bad_format"),
    ("/stop_rule/at", "2026-02-30T00:00:00Z", "bad_format"),
    ("/stop_rule/at", "0001-01-01T00:00:00+10:00", "bad_format"),
    ("/stop_rule/at", "2026-02-01T00:00:00", "bad_format"),
    ("/stop_rule/loss_below", -0.5, "too_small"),
    ("/stop_rule/value_remaining_below", 0.5, "not_an_integer"),
]


@pytest.mark.parametrize(
    "pointer",
    ["/variants/1", "/variants/1/is_control", "/policy/objective", "/guardrails/0", "/guardrails/0/metric"],
)
def test_a_part_of_the_wrong_type_is_named_once_and_no_rule_that_compares_it_says_more(pointer: str):
    assert faults(changed(FULL, (pointer, 5))) == [(pointer, "wrong_type")]


@pytest.mark.parametrize(("pointer", "value", "code"), BAD)
def test_one_fault_is_named_once_at_its_place(pointer: str, value: Any, code: str):
    assert faults(changed(FULL, (pointer, value))) == [(pointer, code)]


FIXED: dict[str, Any] = {"kind": "fixed", "shares": {"none": 0.5, "socks": 0.5}}


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([("/variants/0/is_control", False)], [("/variants", "one_control")]),
        ([("/variants/1/is_control", True)], [("/variants", "one_control")]),
        ([("/variants/1", REMOVE)], [("/variants", "too_few")]),
        ([("/policy", {"floor": 0.5, "control_share": 0.5})], [("/policy/floor", "no_room")]),
        ([("/policy", FIXED | {"shares": {"none": 1}})], [("/policy/shares/socks", "required")]),
        (
            [("/policy", FIXED | {"shares": {"none": 0.5, "socks": 0.5, "shoes": 0}})],
            [("/policy/shares/shoes", "unknown_variant")],
        ),
        (
            [("/policy", FIXED | {"shares": {"none": 0.5, "socks": 0.49999}})],
            [("/policy/shares", "shares_sum")],
        ),
        (
            [("/policy", FIXED | {"shares": {"none": 1.5, "socks": -0.5}})],
            [("/policy/shares/none", "too_large"), ("/policy/shares/socks", "too_small")],
        ),
        ([("/policy", {"objective": "take_rate"})], [("/policy/objective", "needs_offers")]),
        ([("/policy", {"objective": "click_through_rate"})], [("/policy/objective", "needs_offers")]),
        (
            [("/policy", {"objective": "aov", "prior": {"alpha": 1, "beta": 1}})],
            [("/policy/prior", "not_for_this_metric")],
        ),
    ],
)
def test_faults_between_fields(edits: list[tuple[str, Any]], expected: list[tuple[str, str]]):
    found = faults(changed(SMALL, *edits))
    assert [one for one in found if one != ("/policy/shares", "shares_sum") or one in expected] == expected


def test_what_cannot_be_told_is_not_guessed():
    """With an unreadable key nobody knows which share, or which metric, is the missing one."""
    policy = FIXED | {"shares": {"none": 0.5, "socks": 0.5}}
    document = changed(SMALL, ("/policy", policy), ("/variants/1/key", "S O C K S"))
    assert faults(document) == [("/variants/1/key", "bad_format")]
    document = changed(FULL, ("/metrics/0/key", 5))
    assert faults(document) == [("/metrics/0/key", "wrong_type")]


def test_what_is_no_json_is_refused():
    """A YAML reader turns an unquoted time into a datetime."""
    at = datetime(2026, 12, 31, tzinfo=UTC)
    assert faults(changed(FULL, ("/stop_rule/at", at))) == [("/stop_rule/at", "wrong_type")]


def test_too_many_variants():
    many = [{"key": f"v{i}", "offer": {"kind": "upsell", "sku": f"S{i}"}} for i in range(128)]
    document = changed(SMALL, ("/variants", [SMALL["variants"][0], *many]), ("/policy", {"floor": 0}))
    assert faults(document) == [("/variants", "too_many")]
    parse_document(changed(document, ("/variants/128", REMOVE)))


def test_every_fault_is_named_in_one_answer():
    edits: list[tuple[str, Any]] = [(pointer, value) for pointer, value, _ in BAD[:1]]
    edits += [("/unit", "basket"), ("/variants/1/offer/price", -5), ("/variants/1/offer/colour", "red")]
    edits += [("/variants/0/is_control", False), ("/guardrails/0/metric", "nps"), ("/refund_window", "0d")]
    expected = {
        ("/key", "bad_format"),
        ("/unit", "not_one_of"),
        ("/variants/1/offer/price", "too_small"),
        ("/variants/1/offer/colour", "unknown_field"),
        ("/variants", "one_control"),
        ("/guardrails/0/metric", "unknown_metric"),
        ("/refund_window", "out_of_range"),
    }
    found = faults(changed(FULL, *edits))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_remedies_say_what_to_write():
    with pytest.raises(InvalidDocument) as caught:
        parse_document(changed(FULL, ("/variants/1/offer/price", 12.9), ("/policy/flor", 0.1)))
    price, flor = sorted(caught.value.errors, key=lambda fault: fault.pointer, reverse=True)
    assert "use minor units, e.g. 1290 for 12.90" in price.remedy
    assert "did you mean floor?" in flor.remedy


@settings(max_examples=1000, deadline=None)
@given(mutated())
def test_any_mutation_is_either_refused_or_survives_a_round_trip(document: dict[str, Any]):
    try:
        experiment = parse_document(document, currency_default="EUR")
    except InvalidDocument as error:
        found = error.errors
    else:
        assert parse_document(json.loads(json.dumps(to_document(experiment)))) == experiment
        return
    assert found
    assert len(set(found)) == len(found)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_nothing_but_invalid_document_is_ever_raised(document: Any):
    with pytest.raises(InvalidDocument):
        parse_document(document)
