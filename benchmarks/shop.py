"""What is served and asked in every benchmark: one experiment of ten variants, its shoppers, their events.

Nothing is left out to be fast: an audience that has to be tested, a cart and a stock that rule variants out,
a key that is checked, an origin, a limiter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from benchmarks.wrk import BenchmarkFailed, Load

ORIGIN = "https://shop.example"
KNOWN_UNITS = 20_000
BATCH = 1000
EXPERIMENT: dict[str, Any] = {
    "key": "bench",
    "touchpoint": "checkout",
    "attribution_window": "1d",
    "policy": {"kind": "fixed"},
    "audience": {"device": ["mobile", "desktop"], "cart_value": {"gte": 1000}, "country": {"ne": "US"}},
    "variants": [
        {"key": "none", "is_control": True, "offer": {"kind": "none"}},
        *(
            {
                "key": f"offer-{n}",
                "offer": {
                    "kind": "cross_sell",
                    "sku": f"OFFER-{n}",
                    "price": 990 + 100 * n,
                    "cost": 400,
                    "headline": f"Running socks, {n} pairs",
                },
            }
            for n in range(1, 10)
        ),
    ],
}
SETTINGS = {"out_of_stock": ["OFFER-9"], "origins": [ORIGIN]}
CONTEXT = {
    "device": "mobile",
    "country": "IT",
    "cart": [
        {"sku": "SHOE-1", "price": 8900, "quantity": 1},
        {"sku": "OFFER-2", "price": 1190, "quantity": 2},
    ],
}

EVENTS = {
    "exposure": '{"event_id":"<key>","type":"exposure","decision_id":"<decision>"}',
    "click": '{"event_id":"<key>","type":"click","decision_id":"<decision>"}',
    "view": '{"event_id":"<key>","type":"product_view","unit_id":"<unit>","sku":"SHOE-1"}',
    "cart": '{"event_id":"<key>","type":"cart","unit_id":"<unit>","cart_id":"c<item>"}',
    "checkout": '{"event_id":"<key>","type":"checkout_started","unit_id":"<unit>","cart_id":"c<item>"}',
    "order": '{"event_id":"<key>","type":"order","unit_id":"<unit>","order_id":"o<item>",'
    '"amount":8900,"cost":4000,"currency":"EUR"}',
}
MIX = [*["exposure"] * 4, "click", *["view"] * 2, "cart", "checkout", "order"]
"""Ten events of a storefront, in turn."""


def set_up(http: httpx.Client) -> None:
    """Start the experiment and give the store its settings."""
    store = _good(http.get("/v1/store"))
    _good(http.patch("/v1/store", json=SETTINGS, headers={"If-Match": store.headers["etag"]}))
    _good(http.post("/v1/experiments", json=EXPERIMENT))
    _good(http.post(f"/v1/experiments/{EXPERIMENT['key']}/start"))


def known_units(count: int = KNOWN_UNITS) -> list[str]:
    """Ids of units that `enrol` assigns."""
    return [f"known-unit-{number:08d}" for number in range(count)]


def enrol(http: httpx.Client, units: list[str]) -> list[str]:
    """Assign these units in batches; their decision ids in order."""
    decisions: list[str] = []
    for start in range(0, len(units), BATCH):
        part = units[start : start + BATCH]
        body = {"requests": [{"touchpoint": "checkout", "unit_id": u, "context": CONTEXT} for u in part]}
        for decision in _good(http.post("/v1/assign/batch", json=body)).json()["decisions"]:
            if decision.get("reason") not in ("assigned", "sticky"):
                raise BenchmarkFailed(f"a unit was not assigned: {json.dumps(decision)[:300]}")
            decisions.append(decision["decision_id"])
    return decisions


def nothing(headers: Mapping[str, str]) -> Load:
    """The handler that does nothing, asked the least an assign asks."""
    return Load("/nothing", headers, ['{"touchpoint":"checkout","unit_id":"<random>"}'])


def naive(headers: Mapping[str, str]) -> Load:
    """The naive handler, asked the same."""
    return Load("/naive", headers, ['{"touchpoint":"checkout","unit_id":"<random>"}'])


def assign(headers: Mapping[str, str], unit: str = "<random>", units: list[str] | None = None) -> Load:
    """One decision a request, for a unit as the template says."""
    context = json.dumps(CONTEXT, separators=(",", ":"))
    item = f'{{"touchpoint":"checkout","unit_id":"{unit}","context":{context}}}'
    return Load("/v1/assign", headers, [item], counts="decisions", units=units or [])


def events(
    headers: Mapping[str, str], per_body: int, units: list[str], decisions: list[str], mix: list[str] = MIX
) -> Load:
    """Bodies of so many events each; one alone is an event, not a list of one."""
    alone = per_body == 1
    return Load(
        "/v1/events",
        headers,
        [EVENTS[name] for name in mix],
        before="" if alone else '{"events":[',
        after="" if alone else "]}",
        per_body=per_body,
        counts="events",
        units=units,
        decisions=decisions,
    )


def _good(response: httpx.Response) -> httpx.Response:
    if not response.is_success:
        raise BenchmarkFailed(f"{response.request.url.path}: {response.status_code} {response.text[:300]}")
    return response
