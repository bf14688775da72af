"""The report is what the OpenAPI document says it is, and every field of the API is described there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service.api.descriptions import EVERYWHERE, OF
from tests.service.conftest import Shop
from tests.service.test_definitions import clock
from tests.service.test_trust import DAY, report, trade


def components(shop: Shop) -> dict[str, Any]:
    """The document's schemas, each closed: what is not described is found."""
    found = shop.client.get("/schema/openapi.json").json()["components"]["schemas"]
    return {name: {**schema, "additionalProperties": False} if "properties" in schema else schema
            for name, schema in found.items()}  # fmt: skip


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


def test_every_field_of_every_schema_is_described(shop: Shop) -> None:
    """And of the table of descriptions every one is used, for the field that it is written for."""
    schemas = components(shop)
    said = {
        (name.rpartition(".")[2], field): member.get("description")
        for name, schema in schemas.items()
        for field, member in schema.get("properties", {}).items()
    }
    assert len(said) > 400
    assert not [place for place, text in said.items() if not text]
    assert {field: text for (_, field), text in said.items() if text == EVERYWHERE.get(field)} == EVERYWHERE
    for schema, fields in OF.items():
        assert {field: said[schema, field] for field in fields} == fields
