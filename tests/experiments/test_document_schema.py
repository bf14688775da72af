"""The schema is one that any validator understands, and our interpreter agrees with another's."""

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from experiments.document import experiment_schema
from experiments.errors import FieldError
from experiments.json_schema import INVALID, KEYWORDS, check
from tests.experiments.documents import FULL, SMALL, changed, paths


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: object, value: object) -> bool:
    return _is_integer(_, value) or (isinstance(value, float) and math.isfinite(value))


# The two documented ways in which ours is stricter: no NaN, and 1290.0 is not an integer.
_checker = Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
REFERENCE = extend(Draft202012Validator, type_checker=_checker)(experiment_schema())


def faults_of(document: object) -> list[FieldError]:
    faults: list[FieldError] = []
    check(experiment_schema(), document, "", faults)
    return faults


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    yield schema
    children = [*schema.get("properties", {}).values()]
    children += [schema[name] for name in ("items", "propertyNames") if name in schema]
    if isinstance(schema.get("additionalProperties"), dict):
        children.append(schema["additionalProperties"])
    for child in children:
        yield from subschemas(child)


def test_the_schema_is_a_schema_and_nobody_can_change_it():
    Draft202012Validator.check_schema(experiment_schema())
    experiment_schema()["properties"].clear()
    assert "key" in experiment_schema()["properties"]


def test_the_interpreter_knows_every_keyword_of_the_schema():
    for schema in subschemas(experiment_schema()):
        assert schema.keys() <= KEYWORDS


def test_objects_are_closed_numbers_bounded_and_text_limited():
    for schema in subschemas(experiment_schema()):
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if "object" in types:
            assert schema["additionalProperties"] is False or "maxProperties" in schema
        if {"integer", "number"} & set(types):
            assert {"minimum", "exclusiveMinimum"} & schema.keys()
            assert {"maximum", "exclusiveMaximum"} & schema.keys()
        if "string" in types:
            assert {"maxLength", "pattern", "enum"} & schema.keys()
        if "array" in types:
            assert "maxItems" in schema


def test_every_field_is_described_and_every_optional_one_has_a_default():
    for schema in subschemas(experiment_schema()):
        for name, member in schema.get("properties", {}).items():
            assert member["description"].endswith("."), name
            operator = name in ("eq", "ne", "in", "not_in", "gt", "gte", "lt", "lte", "exists")
            if name not in schema.get("required", ()) and not operator:
                assert "default" in member, name


def test_good_documents_are_accepted_by_both():
    for document in (FULL, SMALL):
        assert faults_of(document) == []
        assert REFERENCE.is_valid(document)


ODD_NUMBERS = [0, 1, -1, 2**63, 2**70, 0.0, 1.0, -0.5, 0.5, 1e300, math.nan, math.inf, -math.inf]
ODD_TEXTS = ["", "a", "A", "none", "7d", "0d", "7 d", "never", "EUR", "eur", "a b", "é", "\u0007", "thompson"]
ODD_TEXTS += ["segment", "mean", "up", "upsell", "2026-01-01T00:00:00Z", "x" * 65, "x" * 129, "x" * 5000]
ODD_LISTS = [[], [1], ["a"], [[]], [None], list(range(200))]
ODD_OBJECTS = [{}, {"a": 1}, {"kind": "none"}, {"gte": 5}, {"in": []}, {"eq": None}, {"exists": "no"}]
ODD_OBJECTS += [{str(number): number for number in range(65)}]
ODD = st.sampled_from([None, True, False, *ODD_NUMBERS, *ODD_TEXTS, *ODD_LISTS, *ODD_OBJECTS])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({name for s in subschemas(experiment_schema()) for name in s.get("properties", {})})


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    document = deepcopy(draw(st.sampled_from([FULL, SMALL])))
    for _ in range(draw(st.integers(1, 3))):
        places = paths(document)
        if not places:
            break
        *way, key = draw(st.sampled_from(places))
        parent: Any = document
        for token in way:
            parent = parent[token]
        match draw(st.sampled_from(["odd", "odd", "any", "delete", "add"])):
            case "odd":
                parent[key] = deepcopy(draw(ODD))
            case "any":
                parent[key] = draw(JSON)
            case "delete":
                del parent[key]
            case _ if isinstance(parent, list):
                parent.append(deepcopy(draw(st.one_of(ODD, st.sampled_from(parent or [None])))))
            case _:
                parent[draw(st.sampled_from(NAMES) | st.text(max_size=3))] = deepcopy(draw(ODD))
    return document


def _ends_in_line_feed(document: Any) -> bool:
    # Python's $ accepts one where ECMA's, which JSON Schema means, does not: the reference is wrong there.
    if isinstance(document, dict):
        return any(str(k).endswith("\n") or _ends_in_line_feed(v) for k, v in document.items())
    if isinstance(document, list):
        return any(map(_ends_in_line_feed, document))
    return isinstance(document, str) and document.endswith("\n")


@settings(max_examples=1000, deadline=None)
@given(mutated())
def test_mutated_documents_fare_as_with_the_reference(document: dict[str, Any]):
    if not _ends_in_line_feed(document):
        assert (not faults_of(document)) == REFERENCE.is_valid(document)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_anything_else_fares_as_with_the_reference(document: Any):
    assert (not faults_of(document)) == REFERENCE.is_valid(document)


def at_the_limits(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """Values on both sides of every limit the schema sets for this place."""
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if name in schema:
            yield from (schema[name] + step for step in (-1, 0, 1))
    for name in ("minLength", "maxLength"):
        if name in schema:
            yield from ("x" * max(0, schema[name] + step) for step in (-1, 0, 1))
    for name in ("minItems", "maxItems"):
        if name in schema and isinstance(value, list):
            yield from ((value[:1] * (schema[name] + 1))[: schema[name] + step] for step in (-1, 0, 1))
    for name in ("minProperties", "maxProperties"):
        if name in schema:
            yield from ({f"k{i}": 0.5 for i in range(schema[name] + step)} for step in (-1, 0, 1))
    if "enum" in schema:
        yield from (*schema["enum"], schema["enum"][0].upper())
    if "pattern" in schema or "additionalProperties" in schema:
        yield from ("A", "a", "7d", "7w", "EUR", "never", {"Bad\u0007": 0.5, "": 0.5}, {"unheard-of": {}})
    yield from (None, True, 0, 1, 0.5, "x", [], {})


def limits(schema: dict[str, Any], value: Any, way: tuple[Any, ...] = ()) -> Iterator[dict[str, Any]]:
    """The full document with one place at a time at a limit, or missing."""
    if way:
        *above, key = way
        for candidate in (..., *at_the_limits(schema, value)):
            document = deepcopy(FULL)
            parent: Any = document
            for token in above:
                parent = parent[token]
            if candidate is ...:
                del parent[key]
            else:
                parent[key] = candidate
            yield document
    if isinstance(value, dict):
        for name, child in value.items():
            yield from limits(
                schema.get("properties", {}).get(name) or schema["additionalProperties"], child, (*way, name)
            )
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from limits(schema["items"], child, (*way, index))


LIMITS = [(document, REFERENCE.is_valid(document)) for document in limits(experiment_schema(), FULL)]


def test_both_draw_every_limit_at_the_same_place():
    verdicts = [valid for _, valid in LIMITS]
    assert min(verdicts.count(True), verdicts.count(False)) > 200
    for document, valid in LIMITS:
        assert (not faults_of(document)) == valid


def without(schema: Any, keyword: str) -> Any:
    if isinstance(schema, dict):
        return {name: without(member, keyword) for name, member in schema.items() if name != keyword}
    return [without(member, keyword) for member in schema] if isinstance(schema, list) else schema


CONSTRAINTS = ["enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"]
CONSTRAINTS += [
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "required",
]


@pytest.mark.parametrize("keyword", CONSTRAINTS)
def test_an_interpreter_that_forgot_a_keyword_would_be_caught(keyword: str):
    """The planted bug: the same schema, read without this one keyword."""
    careless = without(experiment_schema(), keyword)
    disagreements = 0
    for document, valid in LIMITS:
        faults: list[FieldError] = []
        check(careless, document, "", faults)
        disagreements += (not faults) != valid
    assert disagreements


@pytest.mark.parametrize("key", ["good\n", "\ngood", "go\nod"])
def test_a_line_feed_does_not_slip_past_a_pattern(key: str):
    assert [fault.pointer for fault in faults_of(changed(SMALL, ("/key", key)))] == ["/key"]


def test_half_a_surrogate_pair_is_refused_everywhere():
    assert [f.code for f in faults_of(changed(SMALL, ("/name", "\ud800")))] == ["bad_format"]
    document = changed(SMALL, ("/variants/1/offer/payload", {"a": "\udfff"}))
    assert [f.pointer for f in faults_of(document)] == ["/variants/1/offer/payload/a"]


def test_field_names_that_are_no_text_are_faults_not_crashes():
    assert [f.code for f in faults_of({**SMALL, 5: 1})] == ["unknown_field"]
    assert [f.code for f in faults_of(changed(SMALL, ("/audience", {5: 1})))] == ["wrong_type"]


def test_a_flood_of_unknown_fields_is_summed_up():
    faults = faults_of({**SMALL, **{f"x{number}": 0 for number in range(10_000)}})
    assert len(faults) == 21
    assert faults[-1].remedy.startswith("and 9980 more")


def test_cleaning_keeps_what_is_sound():
    faults: list[FieldError] = []
    broken = changed(SMALL, ("/unit", "nobody"), ("/variants/-", 7), ("/policy/floor", "low"))
    cleaned = check(experiment_schema(), broken, "", faults)
    assert {fault.pointer for fault in faults} == {"/unit", "/variants/2", "/policy/floor"}
    assert cleaned["key"] == "small"
    assert cleaned["anchor"] == "assignment"  # the default
    assert cleaned["variants"][2] is INVALID
    assert "unit" not in cleaned
    assert "floor" not in cleaned["policy"]
    assert cleaned["policy"]["burn_in"] == 200
