"""`POST /v1/plan` under whatever may be sent: an answer of finite figures, or a refusal; never a failure."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from jsonschema import Draft202012Validator

from tests.service.conftest import Shop

EDGES: dict[str, list[Any]] = {
    "visitors_per_day": [0.001, 1, 2_000, 1e9],
    "effects": [[0.1], [0], [-0.99, 20], [1e-4, -1e-4], [19.9] * 20, [0.0, 0.5, -0.5]],
    "objective": ["conversion_rate", "aov", "margin_per_unit", "revenue_per_unit", "refund_rate", "nps"],
    "variants": [2, 3, 100],
    "control_share": [0.001, 0.5, 0.999],
    "power": [0.5, 0.8, 0.999],
    "days": [0.01, 30, 1e5],
    "tail": [1e-6, 0.025, 0.5],
    "rope": [0.0001, 0.01, 0.999],
    "attribution_window": ["0s", "1d", "999999d"],
    "refund_window": ["0s", "30d", "999999d"],
    "currency": ["EUR", "JPY", "XXX", "BHD"],
    "guardrails": [
        [],
        [{"metric": "refund_rate", "throttle": 1e-9, "kill": 1e9}],
        [
            {"metric": "margin_per_unit", "throttle": 10, "kill": 20},
            {"metric": "aov", "throttle": 0.1, "kill": 0.9},
        ],
        [{"metric": "refund_rate", "throttle": 0.2, "kill": 0.1}],
    ],
}
SHOPS: list[dict[str, Any]] = [
    {
        "conversion_rate": rate,
        "order_value": value,
        "order_value_cv": cv,
        "margin_rate": margin,
        "refund_rate": back,
    }
    for rate in (1e-6, 0.05, 0.999999)
    for value, cv in ((1, 0), (8_000, 1.2), (1_000_000_000, 100))
    for margin in (1e-6, 1)
    for back in (0, 0.1, 0.999)
]
MEASURED: list[dict[str, Any]] = [
    {"kind": "mean", "mean": 1e-6, "sd": 1e15},
    {"kind": "mean", "mean": 1e12, "sd": 0, "is_margin": True},
    {"kind": "mean", "mean": 100, "sd": 250, "direction": "down"},
    {"kind": "proportion", "mean": 0.999999},
    {"kind": "ratio", "mean": 1e-6, "sd": 1e15, "per_unit": 1e-6},
    {"kind": "ratio", "mean": 4.2, "sd": 1.1, "per_unit": 1e6, "direction": "down"},
]
NONSENSE: list[Any] = [
    None,
    "",
    "many",
    -1,
    0,
    1e308,
    -1e308,
    [],
    {},
    True,
    [[]],
    "1d" * 20,
    "\u0000",
    10**400,
]


def requests(count: int, seed: int) -> list[dict[str, Any]]:
    """Every other one of edges alone, the rest with a field or two that cannot be."""
    rng = random.Random(seed)
    found: list[dict[str, Any]] = []
    for number in range(count):
        one: dict[str, Any] = {"visitors_per_day": 2_000, "effects": [0.1]}
        for name in rng.sample(sorted(EDGES), rng.randrange(len(EDGES))):
            one[name] = rng.choice(EDGES[name])
        base = rng.choice(["shop", "measured"])
        one[base] = dict(rng.choice(SHOPS if base == "shop" else MEASURED))
        for _ in range(rng.randrange(1, 3) if number % 2 else 0):
            of = rng.choice([one, one[base]]) if isinstance(one.get(base), dict) else one
            of[rng.choice([*of, "nobody"])] = rng.choice(NONSENSE)
        found.append(one)
    return found


def test_whatever_is_asked_is_answered_or_refused(shop: Shop) -> None:
    spec = shop.client.get("/schema/openapi.json").json()
    schema = spec["paths"]["/v1/plan"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    described = Draft202012Validator({**schema, "components": spec["components"]})
    answered = 0
    for asked in requests(240, seed=1):
        found = shop.client.post(
            "/v1/plan",
            content=json.dumps(asked),
            headers={"Authorization": f"Bearer {shop.keys.secret_key}", "Content-Type": "application/json"},
        )
        assert found.status_code in (200, 400), (found.status_code, asked, found.text)
        if found.status_code == 400:
            assert found.json()["errors"], asked
            continue
        answered += 1
        assert "NaN" not in found.text
        assert "Infinity" not in found.text
        described.validate(found.json())
        for effect in found.json()["effects"]:
            _is_a_plan(effect, asked)
    assert answered > 40


def _is_a_plan(effect: dict[str, Any], asked: dict[str, Any]) -> None:
    assert -1e-9 <= effect["power"] <= 1 + 1e-9, asked
    for name in ("units", "units_enrolled", "regret", "regret_minor"):
        assert effect[name] is None or (effect[name] >= 0 and math.isfinite(effect[name])), (name, asked)
    looking = effect["looking"]
    if looking is not None:
        for name in ("power", "prob_wrong", "false_alarms"):
            assert -1e-6 <= looking[name] <= 1 + 1e-6, (name, looking[name], asked)
        assert looking["units_expected"] <= effect["units"] * (1 + 1e-9), asked
    if effect["days"] is not None:
        assert 0 <= effect["days"]["enrolling"] <= effect["days"]["decision"] <= effect["days"]["final"]
