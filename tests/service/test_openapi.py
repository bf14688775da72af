"""The description of the API says what the routes are, and can be read without a network."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct

from service.api.asking import AssignRequest
from service.api.events import EventList
from service.app import CALLS
from service.event_types import AnyEvent
from tests.service.conftest import Shop, document


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [r for member in value.values() for r in references(member)]
    return [r for member in value for r in references(member)] if isinstance(value, list) else []


def test_every_route_is_described_with_its_problems(shop: Shop) -> None:
    spec = shop.client.get("/schema/openapi.json").json()
    described = {(m.upper(), p) for p, methods in spec["paths"].items() for m in methods}
    declared = {(method, re.sub(r"{(\w+):\w+}", r"{\1}", path)) for method, path, _ in CALLS}
    assert described == declared
    for methods in spec["paths"].values():
        for call in methods.values():
            for status, response in call["responses"].items():
                expected = "application/problem+json" if status >= "400" else None
                assert expected is None or list(response["content"]) == [expected]
    names = spec["components"]["schemas"].keys()
    assert {r.rsplit("/", 1)[1] for r in references(spec)} <= names
    for schema in spec["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_described_answer_is_the_one_given(shop: Shop) -> None:
    spec = shop.client.get("/schema/openapi.json").json()
    made = shop.post("/v1/experiments", document())
    call = spec["paths"]["/v1/experiments"]["post"]
    for part, value in (
        (call["responses"]["201"], made.json()),
        (call["requestBody"], document()),
        (call["responses"]["409"], shop.post("/v1/experiments", document(name="other")).json()),
    ):
        (content,) = part["content"].values()
        schema = {**content["schema"], "components": spec["components"]}
        Draft202012Validator(schema).validate(value)
    assert not Draft202012Validator(content["schema"] | {"components": spec["components"]}).is_valid({})


def test_the_page_needs_nothing_from_elsewhere(shop: Shop) -> None:
    page = shop.client.get("/schema").text
    assert "/schema/openapi.json" in page
    assert re.findall(r"https?://|//[a-z]+\.", page) == []


def test_the_counts_name_routes_and_no_ids(shop: Shop) -> None:
    shop.get("/v1/units/anna")
    counts = shop.client.get("/metrics").text
    assert 'rialto_requests_total{method="GET",route="/v1/units/{unit_id}",status="404"} 1' in counts
    assert "anna" not in counts
    assert re.search(r"^rialto_writer_queue \d+$", counts, re.MULTILINE)


def described_fields(spec: dict[str, Any], name: str) -> tuple[set[str], set[str]]:
    """The fields a component names, and those of them it requires."""
    schema = spec["components"]["schemas"][name]
    assert schema["additionalProperties"] is False
    return set(schema["properties"]), set(schema["required"])


@pytest.mark.parametrize("struct", [AssignRequest, EventList, *get_args(AnyEvent)], ids=lambda s: s.__name__)
def test_what_the_hot_calls_read_is_what_is_described(shop: Shop, struct: type[Struct]) -> None:
    """Field by field: what the decoder takes, what it misses, and what it refuses."""
    spec = shop.client.get("/schema/openapi.json").json()
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag = {"type"} if struct.__struct_config__.tag is not None else set()
    path = "/v1/assign" if struct is AssignRequest else "/v1/events"
    content = spec["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (component,) = [
        name
        for name in (reference.rsplit("/", 1)[1] for reference in references(content))
        if re.fullmatch(rf"(.*\.)?{struct.__name__}", name)  # two lists of events have their module in front
    ]
    named, required = described_fields(spec, component)
    assert named == fields.keys() | tag
    assert required == {name for name, field in fields.items() if field.required} | tag
    kind = {"type": struct.__struct_config__.tag} if tag else {}
    listed = {"events": []} if struct is EventList else {}
    refused = shop.post(path, {**kind, **listed, "no_such_field": 1}).json()
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("unknown_field", "/no_such_field")
    for name in required - tag:
        missing = shop.post(path, {**kind, **dict.fromkeys(required - tag - {name}, "x")}).json()
        assert missing["status"] == 400, name
