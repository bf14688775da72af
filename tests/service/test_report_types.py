"""The report is what the OpenAPI document says it is, every field of it described."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.service.conftest import Shop
from tests.service.test_definitions import clock
from tests.service.test_trust import DAY, report, trade


def components(shop: Shop) -> dict[str, Any]:
    """The document's schemas, each closed: what is not described is found."""
    found = shop.client.get("/schema/openapi.json").json()["components"]["schemas"]
    return {name: {**schema, "additionalProperties": False} if "properties" in schema else schema
            for name, schema in found.items()}  # fmt: skip


def reached(schemas: dict[str, Any], name: str) -> set[str]:
    """The schemas that one is made of, itself among them."""
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {ref for one in new for ref in references(schemas[one])} - found
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rsplit("/", 1)[1]
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from references(member)


@pytest.mark.parametrize("kind", ["fixed", "thompson"])
def test_a_report_is_as_described(simulated_shop: Shop, kind: str) -> None:
    """With refunds to come, money, guardrails, sequences; under Thompson with naive and AIPW figures."""
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy={"kind": kind}, attribution_window="1d", refund_window="7d")
    told = report(shop)
    trade(shop, days=4)
    clock(shop, 4 * DAY)
    schemas = components(shop)
    validator = Draft202012Validator(schemas["ReportView"] | {"components": {"schemas": schemas}})
    full = report(shop)
    for one in (told, full):
        assert not [(list(error.path), error.message) for error in validator.iter_errors(one)]
    seen = {name for variant in full["variants"] for metric in variant["metrics"].values() for name in metric}
    wanted = {"sequential", "prior", "sensitivity", "booked", "expected_final", "prob_in_rope", "cuped"}
    wanted |= {"aipw", "naive"} if kind == "thompson" else set()
    assert seen >= wanted
    full["verdict"]["mood"] = "good"  # planted
    assert [list(error.path) for error in validator.iter_errors(full)] == [["verdict"]]


def test_every_field_of_a_report_is_described(shop: Shop) -> None:
    schemas = components(shop)
    names = reached(schemas, "ReportView")
    assert len(names) > 12
    bare = [
        f"{name}.{field}"
        for name in names
        for field, schema in schemas[name]["properties"].items()
        if "description" not in schema
    ]
    assert not bare
