"""The dashboard in Chromium over a running service: the figures on the screen are the service's own."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboard import words
from tests.dashboard.conftest import Page
from tests.dashboard.processes import Running, Store, served
from tests.dashboard.screenshot import browse, take
from tests.dashboard.test_browser import browser_there as browser_there

pytestmark = pytest.mark.slow

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 5
PER_DAY = 120
DOCUMENT: dict[str, Any] = {
    "key": "checkout-addon",
    "name": "An add-on at checkout",
    "touchpoint": "checkout",
    "currency": "EUR",
    "attribution_window": "1d",
    "refund_window": "1d",
    "policy": {"kind": "thompson", "control_share": 0.2, "burn_in": 50, "cadence": "1h"},
    "variants": [
        {"key": "none", "is_control": True, "offer": {"kind": "none"}},
        {"key": "socks", "offer": {"kind": "cross_sell", "sku": "SOCK-3", "price": 1290, "cost": 410}},
    ],
    "guardrails": [
        {"metric": "conversion_rate", "warn": 0.05, "throttle": 0.1, "kill": 0.2},
        {"metric": "refund_rate", "warn": 0.2, "throttle": 0.4, "kill": 0.8},
        {"metric": "cart_abandonment_rate", "warn": 0.05, "throttle": 0.1, "kill": 0.2},
    ],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with served(tmp_path_factory.mktemp("store")) as opened:
        yield opened


def post(http: httpx.Client, path: str, body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def trade(http: httpx.Client) -> None:
    """Five days of visitors: socks are taken by a third and raise orders; every sixth order comes back."""
    post(http, "/v1/clock", {"now": START.isoformat()})
    post(http, "/v1/experiments", DOCUMENT)
    post(http, "/v1/experiments/checkout-addon/start", {})
    for day in range(DAYS):
        visitors = [f"v{day}-{number}" for number in range(PER_DAY)]
        requests = [{"touchpoint": "checkout", "ids": {"visitor": visitor}} for visitor in visitors]
        decisions = post(http, "/v1/assign/batch", {"requests": requests})["decisions"]
        events = [
            event
            for number, (visitor, decision) in enumerate(zip(visitors, decisions, strict=True))
            for event in behaviour(number, visitor, decision)
        ]
        for first in range(0, len(events), 500):
            answer = post(http, "/v1/events", {"events": events[first : first + 500]})
            assert answer["rejected"] == []
        post(http, "/v1/clock", {"now": (START + timedelta(days=day + 1)).isoformat()})


def behaviour(number: int, visitor: str, decision: dict[str, Any]) -> list[dict[str, Any]]:
    """What a visitor does: sees the slot, maybe takes the offer, opens a cart, maybe orders and returns."""
    decided, ids = {"decision_id": decision["decision_id"]}, {"ids": {"visitor": visitor}}
    took = decision["variant"] == "socks" and number % 3 == 0
    cart = {"cart_id": f"c-{visitor}"}
    events: list[dict[str, Any]] = [{"type": "exposure", **decided}, {"type": "cart", **ids, **cart}]
    if took:
        events.append({"type": "accept", **decided})
    if number % 2 == 0:
        amount = 8000 + 37 * (number % 50) + (1290 if took else 0)
        order = {"order_id": f"o-{visitor}", "amount": amount, "currency": "EUR", "cost": amount // 2}
        events.append({"type": "order", **ids, **cart, **order})
        if number % 12 == 0:
            events.append({"type": "refund", "order_id": f"o-{visitor}"})
    return [{"event_id": f"e-{visitor}-{place}", **event} for place, event in enumerate(events)]


def test_the_figures_on_the_screen_are_the_services(store: Store, page_of, tmp_path: Path) -> None:
    page: Page = page_of(store.url, store.secret_key)
    assert "No experiment yet" in page.html
    trade(store.http)

    report = store.http.get("/v1/experiments/checkout-addon/report?matured=true").json()
    control, socks = report["variants"]
    assert socks["metrics"]["take_rate"]["value"] > 0.2
    expected = [
        report["verdict"]["sentence"],
        words.percent(socks["metrics"]["aov"]["lift_rel"]["value"], signed=True),
        words.amount(socks["metrics"]["take_rate"]["value"], "share", "EUR"),
        words.money(socks["metrics"]["margin_per_unit"]["value"], "EUR"),
        words.money(control["metrics"]["margin_per_unit"]["value"], "EUR"),
        words.percent(socks["share"]),
    ]
    page.app.run()
    page.assert_calm()
    for part in expected:
        assert part in page.text, part
    # Shares, P(best), enrolments, and every guardrail whose change the service could tell.
    charts = 3 + sum(guardrail["density"] is not None for guardrail in report["guardrails"])
    assert charts > 4
    assert page.charts == charts

    running = Running(store.url, store.secret_key)
    try:
        with browse(running.url) as opened:
            facts = take(opened, tmp_path / "real.png", whole_page=True)
    finally:
        running.stop()
    text = str(facts["text"])
    assert [part for part in expected if part not in text] == []
    assert (facts["charts"], facts["exceptions"], facts["overflow"], facts["cut"]) == (charts, 0, 0, 0)


def test_a_key_without_scope_read_is_told_so_by_the_service_itself(store: Store, page_of) -> None:
    narrow = post(store.http, "/v1/keys", {"kind": "sk", "scopes": ["events"]})
    page: Page = page_of(store.url, narrow["key"])
    page.assert_calm()
    assert "This key may not read reports" in page.html
    unknown: Page = page_of(store.url, "sk_unknown")
    unknown.assert_calm()
    assert "does not accept this key" in unknown.html
