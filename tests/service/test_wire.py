"""Bodies into values: the field at fault is named wherever it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.paging import cursor_of, place_of
from service.problems import Problem
from service.wire import CallerId, Wire, decode, merge_patch, open_map_faults

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


class Line(Wire, frozen=True):
    price: Annotated[int, msgspec.Meta(ge=0)]
    tags: dict[str, str] = msgspec.field(default_factory=dict)


class Order(Wire, frozen=True):
    id: CallerId
    lines: list[Line] = msgspec.field(default_factory=list)
    rates: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)


def pointer_of(raw: bytes, kind: Any = Order) -> tuple[str, str]:
    with pytest.raises(Problem) as caught:
        decode(raw, kind)
    assert caught.value.status == 400
    (fault,) = caught.value.errors
    return fault.pointer, fault.code


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (b'{"id": "a", "lines": [{"price": 1}, {"price": -1}]}', "/lines/1/price", "too_small"),
        (b'{"id": "a", "lines": [{"price": 1, "x": 1}]}', "/lines/0/x", "unknown_field"),
        (b'{"id": "a", "lines": [{}]}', "/lines/0/price", "required"),
        (
            b'{"id": "a", "lines": [{"price": 1, "tags": {"a": "b", "c": 1}}]}',
            "/lines/0/tags/c",
            "wrong_type",
        ),
        (b'{"id": "a", "rates": {"a": {"b": 1}, "...": {"x/y": "1"}}}', "/rates/.../x~1y", "wrong_type"),
        (b'{"id": "a", "rates": {"a": {"b": 1, "c": NaN}}}', "/rates/a/c", "not_a_number"),
        (b'{"id": "a", "lines": [1e999]}', "/lines/0", "not_a_number"),
        (b'{"id": ""}', "/id", "too_short"),
        (b'{"id": "a\\u0000"}', "/id", "bad_format"),
        (b'{"id": "a\\n"}', "/id", "bad_format"),
        (b'{"id": 1, "rates": ', "", "malformed_json"),
    ],
)
def test_the_field_is_named(raw: bytes, pointer: str, code: str) -> None:
    assert pointer_of(raw) == (pointer, code)


def test_an_id_is_128_code_points_not_bytes() -> None:
    assert decode(msgspec.json.encode({"id": "€" * 128}), Order).id == "€" * 128
    assert pointer_of(msgspec.json.encode({"id": "€" * 129})) == ("/id", "too_long")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_problem(raw: bytes) -> None:
    for kind in (Order, dict[str, Any]):
        refused = problem_of(lambda kind=kind: decode(raw, kind))
        assert refused is None or (refused.status == 400 and refused.errors)


def problem_of(run: Callable[[], Any]) -> Problem | None:
    """What it raises, if that is a problem; anything else passes through and fails the test."""
    try:
        run()
    except Problem as problem:
        return problem
    return None


@given(values)
def test_what_is_accepted_is_finite_json(value: Any) -> None:
    assert decode(msgspec.json.encode({"v": value}), dict[str, Any]).keys() == {"v"}


def test_open_maps_hold_scalars_only() -> None:
    faults = open_map_faults({"a": 1, "b": {}, "c/d": [], "e": "x" * 5000, "f": 2**70, "g": None}, "/context")
    assert [(f.pointer, f.code) for f in faults] == [
        ("/context/b", "not_a_scalar"),
        ("/context/c~1d", "not_a_scalar"),
        ("/context/e", "too_long"),
        ("/context/f", "out_of_range"),
    ]
    assert open_map_faults({str(n): n for n in range(64)}, "") == []
    assert [f.code for f in open_map_faults({str(n): n for n in range(65)}, "")] == ["too_many"]


def test_merge_patches_as_in_the_specification() -> None:
    """The test cases of RFC 7396, appendix A."""
    cases: list[tuple[Any, Any, Any]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]
    for target, patch, expected in cases:
        assert merge_patch(target, patch) == expected


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3))
def test_a_cursor_is_read_back(place: list[int]) -> None:
    cursor = cursor_of(place)
    assert place_of(cursor, len(place)) == place
    with pytest.raises(Problem):
        place_of(cursor, len(place) + 1)


@given(st.text(max_size=20))
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    refused = problem_of(lambda: place_of(text, 1))
    assert refused is None or refused.errors[0].pointer == "?cursor"
