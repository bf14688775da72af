"""What the pages on policies tell a reader to write is taken, and what they say `/policy` shows is there."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from experiments.document import parse_document
from tests.markdown import blocks
from tests.service.asking import ask
from tests.service.conftest import ROOT, Shop, document

PAGES = ("arms", "guardrails", "policies", "delay-and-drift")
NEW = {"key": "mittens", "offer": {"kind": "cross_sell", "sku": "MITT-1", "price": 900, "cost": 300}}


def parts_of(page: str) -> list[dict[str, Any]]:
    return [yaml.safe_load(b.text) for b in blocks(ROOT / "docs" / f"{page}.md") if b.language == "yaml"]


@pytest.mark.parametrize("page", PAGES)
def test_every_part_shown_is_taken_started_and_served(shop: Shop, page: str) -> None:
    trainers = {"key": "trainers", "offer": {"kind": "cross_sell", "sku": "T-1", "price": 9900, "cost": 4000}}
    none = {"key": "none", "is_control": True, "offer": {"kind": "none"}}
    shop.running("spring-addon", touchpoint="elsewhere", variants=[none, trainers])
    parts = parts_of(page)
    assert len(parts) >= 2
    for number, part in enumerate(parts):
        key = f"part-{number}"
        shop.running(key, **{"touchpoint": key, **part})
        kept = parse_document(shop.get(f"/v1/experiments/{key}").json()["document"])
        assert kept == parse_document(document(key, currency="EUR", **{"touchpoint": key, **part}))
        context = {"device": "mobile", "cart": [{"sku": "A", "price": 7500, "quantity": 1}]}
        made = ask(shop, touchpoint=key, context=context)
        assert made["reason"] == "assigned"
        told = shop.get(f"/v1/decisions/{made['decision_id']}/explain").json()
        assert told["propensity"] == made["propensity"]
        if part.get("policy", {}).get("features"):
            assert told["features"] == {"device": "mobile", "cart_value": 7500}


def test_calls_on_variants_do_what_arms_says(shop: Shop) -> None:
    """Added, retired, replaced with a quarter of what the old one told; who is gone is on no ramp."""
    path = "/v1/experiments/checkout-addon"
    shop.running(policy={"kind": "thompson", "ramp": {"steps": [0.01, 0.05, 0.25, 0.5]}})
    cap = {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1", "price": 900, "cost": 300}}
    assert shop.post(f"{path}/variants", cap).status_code == 201
    assert [ramp["variant"] for ramp in shop.get(f"{path}/policy").json()["ramps"]] == ["cap"]
    assert shop.post(f"{path}/variants/cap/retire").status_code == 200
    replaced = shop.post(f"{path}/variants/socks/replace", {"variant": NEW, "discount": 0.25})
    assert replaced.status_code == 201
    variants = {variant["key"]: variant for variant in replaced.json()["variants"]}
    assert {key: variant["state"] for key, variant in variants.items()} == {
        **{"none": "active", "socks": "retired", "cap": "retired", "mittens": "active"}
    }
    assert variants["mittens"]["replaces"] == "socks"
    told = shop.get(f"{path}/policy").json()
    assert [(ramp["variant"], ramp["cap"]) for ramp in told["ramps"]] == [("mittens", 0.01)]
    assert told["warm_start"]["mittens"]["discount"] == 0.25
    assert told["exploration"]["collapsed"] == [], "a ramp is no collapse"
    again = shop.post(f"{path}/variants", {**cap, "key": "socks"})
    assert again.json()["errors"][0]["pointer"] == "/key", again.text
    assert shop.post(f"{path}/variants/cap/resume").status_code == 200
    assert [ramp["variant"] for ramp in shop.get(f"{path}/policy").json()["ramps"]] == ["cap", "mittens"]
    assert shop.get(f"{path}/guardrail-changes").json()["items"] == []


def test_every_figure_named_in_the_tables_of_health_is_there(shop: Shop) -> None:
    shop.running(policy={"kind": "thompson"}, stop_rule={"loss_below": 10})
    told = shop.get("/v1/experiments/checkout-addon/policy").json()
    page = (ROOT / "docs" / "arms.md").read_text("utf-8").partition("## Health of exploration")[2]
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {"entropy", "entropy_trend_per_day", "min_propensity"} <= set(named)
    for name in named:
        assert name.split(".")[0] in told["exploration"], name
