"""`POST /v1/plan`: the core's plan on the wire, refusals that name the field, who may ask."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from experiments.model import Guardrail, VerdictSettings
from experiments.planning.baselines import Shop as Figures
from experiments.planning.contrasts import Split, even_split
from experiments.planning.plan import Question, plan
from tests.service.conftest import Shop

SHOP = {
    "conversion_rate": 0.05,
    "order_value": 8_000,
    "order_value_cv": 1.2,
    "margin_rate": 0.4,
    "refund_rate": 0.1,
}
FIGURES = Figures(0.05, 8_000, 1.2, 0.4, 0.1)


def request(**changes: Any) -> dict[str, Any]:
    return {"visitors_per_day": 2_000, "shop": SHOP, "effects": [0.1]} | changes


def rail(metric: str, throttle: float, kill: float) -> dict[str, Any]:
    return {"metric": metric, "throttle": throttle, "kill": kill}


def test_a_plan_is_that_of_the_core_and_as_described(shop: Shop) -> None:
    rails = [
        {"metric": "refund_rate", "throttle": 0.2, "kill": 0.4},
        {"metric": "nps", "throttle": 1, "kill": 2},
    ]
    asked = request(
        objective="margin_per_unit",
        effects=[0.1, -0.05, 0],
        variants=3,
        control_share=0.4,
        power=0.9,
        rope=0.05,
        attribution_window="2d",
        refund_window="36h",
        guardrails=rails,
        currency="RON",
    )
    answered = shop.post("/v1/plan", asked)
    assert answered.status_code == 200, answered.text
    found = answered.json()
    question = Question(
        "margin_per_unit",
        FIGURES,
        2_000,
        even_split(3, 0.4),
        2,
        power=0.9,
        verdict=VerdictSettings(rope=0.05),
        attribution_window=timedelta(days=2),
        refund_window=timedelta(hours=36),
        guardrails=(Guardrail("refund_rate", 0.2, 0.2, 0.4),),
    )
    told = plan(question, [0.1, -0.05, 0.0])
    for shown, effect in zip(found["effects"], told.effects, strict=True):
        assert (shown["units"], shown["power"]) == (effect.units, effect.power)
        assert shown["regret_minor"] == effect.regret_minor
        assert (shown["looking"] or {}).get("false_alarms") == (
            effect.looking and effect.looking.false_alarms
        )
    assert [effect["found"] for effect in found["effects"]] == ["better", "worse", "better"]
    assert found["effects"][2]["units"] is None
    assert found["guardrails"][0]["kill"]["units_expected"] == told.guardrails[0].kill.units_expected  # type: ignore[union-attr]
    assert (found["currency"], found["not_planned"]) == ("RON", ["nps"])
    assert not found["is_of_first_shares"]
    spec = shop.client.get("/schema/openapi.json").json()
    schema = spec["paths"]["/v1/plan"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": spec["components"]}).validate(found)


def test_an_experiment_brings_its_design_and_the_request_goes_before_it(shop: Shop) -> None:
    policy = {"kind": "thompson", "control_share": 0.2, "floor": 0.05, "objective": "margin_per_unit"}
    rails = [{"metric": "conversion_rate", "warn": 0.01, "throttle": 0.02, "kill": 0.04}]
    shop.running(policy=policy, attribution_window="1d", guardrails=rails)
    found = shop.post("/v1/plan", request(experiment="checkout-addon")).json()
    assert found["objective"] == "margin_per_unit"
    assert found["is_of_first_shares"]
    assert (found["control_share"], found["treatment_share"]) == (0.2, 0.8)
    assert (
        found["guardrails"][0]["kill_at_floor"]["units_expected"]
        > found["guardrails"][0]["kill"]["units_expected"]
    )
    days = found["effects"][0]["days"]
    assert days["decision"] - days["enrolling"] == pytest.approx(1.0)
    other = shop.post(
        "/v1/plan",
        request(
            experiment="checkout-addon",
            objective="conversion_rate",
            control_share=0.5,
            guardrails=[],
            days=10,
        ),
    ).json()
    assert (other["objective"], other["control_share"], other["guardrails"]) == ("conversion_rate", 0.5, [])
    assert other["effects"][0]["units"] == 20_000
    assert other["detectable"] == pytest.approx(
        plan(Question("conversion_rate", FIGURES, 2_000, Split(0.5, 0.5), length_days=10), []).detectable
    )


@pytest.mark.parametrize(
    "measured",
    [
        {"kind": "proportion", "mean": 0.2},
        {"kind": "mean", "mean": 150, "sd": 900, "is_margin": True},
        {"kind": "ratio", "mean": 8_000, "sd": 9_000, "per_unit": 0.05, "direction": "down"},
    ],
)
def test_a_metric_as_measured(shop: Shop, measured: dict[str, Any]) -> None:
    asked = request(measured=measured, objective="anything")
    del asked["shop"]
    found = shop.post("/v1/plan", asked).json()["effects"][0]
    assert found["units"] > 0
    assert (found["regret_minor"] is not None) == ("is_margin" in measured)
    assert found["found"] == ("worse" if measured.get("direction") == "down" else "better")


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"effects": []}, "/effects", "too_short"),
        ({"effects": [-1.0]}, "/effects/0", "too_small"),
        ({"effects": [0.1, 0.00001]}, "/effects/1", "out_of_range"),
        ({"effects": [19.5]}, "/effects/0", "out_of_range"),
        ({"visitors_per_day": 0}, "/visitors_per_day", "too_small"),
        ({"visitor_per_day": 10}, "/visitor_per_day", "unknown_field"),
        ({"shop": {"conversion_rate": 1}}, "/shop/conversion_rate", "too_large"),
        ({"shop": {"conversion_rate": 0.1}, "objective": "aov"}, "/shop/order_value", "required"),
        ({"shop": SHOP | {"refund_rate": 0}, "objective": "refund_rate"}, "/shop/refund_rate", "required"),
        ({"objective": "take_rate"}, "/objective", "not_planned"),
        ({"measured": {"kind": "mean", "mean": 1}}, "/shop", "required"),
        (
            {"guardrails": [rail("aov", 0.2, 0.1)]},
            "/guardrails/0/kill",
            "out_of_order",
        ),
        ({"currency": "XXX"}, "/currency", "unknown_currency"),
        ({"attribution_window": "a week"}, "/attribution_window", "bad_format"),
    ],
)
def test_refusals_name_the_field(shop: Shop, changes: dict[str, Any], pointer: str, code: str) -> None:
    refused = shop.post("/v1/plan", request(**changes))
    assert refused.status_code == 400, refused.text
    (error,) = refused.json()["errors"]
    assert (error["pointer"], bool(error["remedy"])) == (pointer, True)
    assert error["code"] == code


@pytest.mark.parametrize(
    ("measured", "pointer"),
    [({"kind": "mean", "mean": 1}, "/measured/sd"), ({"kind": "proportion", "mean": 1}, "/measured/mean")],
)
def test_a_measured_metric_has_what_it_needs(shop: Shop, measured: dict[str, Any], pointer: str) -> None:
    asked = request(measured=measured)
    del asked["shop"]
    assert shop.post("/v1/plan", asked).json()["errors"][0]["pointer"] == pointer


def test_another_stores_experiment_is_not_found(shop: Shop) -> None:
    shop.running()
    assert (
        shop.post("/v1/plan", request(experiment="checkout-addon"), key=shop.other.secret_key).status_code
        == 404
    )
    assert shop.post("/v1/plan", request(), key=shop.keys.publishable_key).status_code == 403


@pytest.mark.parametrize(
    "hard",
    [
        {"tail": 0.5, "power": 0.5},
        {"shop": SHOP | {"order_value_cv": 0}, "objective": "aov"},
        {"shop": {"conversion_rate": 1e-6}, "effects": [0.0001, -0.99], "visitors_per_day": 0.001},
        {"shop": {"conversion_rate": 0.999999}, "effects": [-0.99]},
        {"days": 0.01},
        {"variants": 100, "control_share": 0.999},
        {
            "guardrails": [
                {"metric": "margin_per_unit", "throttle": 1, "kill": 1e9},
                {"metric": "aov", "throttle": 0.5, "kill": 30},
            ]
        },
    ],
)
def test_the_edges_of_what_may_be_asked_are_answered(shop: Shop, hard: dict[str, Any]) -> None:
    answered = shop.post("/v1/plan", request(**hard))
    assert answered.status_code == 200, answered.text
