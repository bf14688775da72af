"""A store whose experiments show everything a policy may have to say, one each; lived through in one go.

By hand: `python -m tests.dashboard.scenes http://127.0.0.1:8000 sk_...` on a store made with
`rialto init --simulated`.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from time import sleep
from typing import Any

import httpx

Json = dict[str, Any]
Rate = Callable[[str, str], float]
"""The probability of an order by variant and by the kind of unit."""

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
KINDS = ("mobile", "desktop", "tablet")
NO_BREAKERS = {"outcomes_below": None, "exposure_gap": None, "fallback_above": None}
POLICY: Json = {
    "kind": "thompson",
    "objective": "conversion_rate",
    "control_share": 0.2,
    "burn_in": 40,
    "cadence": "1h",
    "breakers": NO_BREAKERS,
}
RAILS = [{"metric": "conversion_rate", "warn": 0.01, "throttle": 0.02, "kill": 0.04}]
CAP = {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1", "price": 900, "cost": 300}}
FEATURES = [
    {"name": "device", "kind": "category", "values": ["mobile", "desktop"]},
    {"name": "cart_value", "kind": "number", "center": 5000, "scale": 5000},
]


def document(key: str, name: str, **changes: Any) -> Json:
    """An experiment at a touchpoint of its own, so that its visitors are its own."""
    return {
        "key": key,
        "name": name,
        "touchpoint": key,
        "currency": "EUR",
        "attribution_window": "1h",
        "policy": POLICY,
        "variants": [
            {"key": "none", "is_control": True, "offer": {"kind": "none"}},
            {"key": "socks", "offer": {"kind": "cross_sell", "sku": "SOCK-3", "price": 1290, "cost": 410}},
        ],
        **changes,
    }


DOCUMENTS = [
    document("drifting", "Rates that change", policy=POLICY | {"control_share": 0.45, "floor": 0.4}),
    document(
        "guarded", "A toxic best seller", guardrails=RAILS, policy=POLICY | {"objective": "margin_per_unit"}
    ),
    document("by-segment", "By segment", policy=POLICY | {"kind": "segment", "control_share": 0.1}),
    document(
        "by-context",
        "By context",
        policy=POLICY | {"kind": "contextual", "objective": "margin_per_unit", "features": FEATURES},
    ),
    document(
        "newcomer", "A newcomer", policy=POLICY | {"ramp": {"steps": [0.01, 0.05, 0.25], "every": "1d"}}
    ),
    document("collapsed", "Nothing explored", policy=POLICY | {"control_share": 0.01, "floor": 0.001}),
    document("broken", "Orders that stopped", policy=POLICY | {"breakers": {}}),
    document(
        "season",
        "A season that begins",
        refund_window="30d",
        policy=POLICY | {"objective": "margin_per_unit", "control_share": 0.6},
    ),
    document("quiet", "Hardly any orders"),
]
FIRST, PER_DAY = 100_000, 300
"""Visitors of `season` have numbers of their own, so many a day."""


class Shop:
    """The store over HTTP, at a time of its own."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.random = Random(11)
        self.visitors = 0

    def post(self, path: str, body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def edit(self, key: str, changes: Json) -> None:
        """Change an experiment that runs."""
        path = f"/v1/experiments/{key}"
        match = {"If-Match": self.http.get(path).headers["etag"]}
        answer = self.http.patch(path, json=changes, headers=match)
        assert answer.status_code == 200, answer.text

    def clock(self, at: timedelta) -> None:
        self.post("/v1/clock", {"now": (START + at).isoformat()})

    def trade(
        self, key: str, count: int, rate: Rate, amount: Rate = lambda variant, kind: 5000, name: str = "v"
    ) -> None:
        """So many visitors of every kind in turn: a decision each, and an order from some."""
        found: list[tuple[Json, Json, str]] = []
        requests: list[Json] = []
        for _ in range(count):
            self.visitors += 1
            kind = KINDS[self.visitors % 3]
            price = self.random.randrange(2000, 12000)
            context = {
                "segment": kind,
                "device": kind,
                "cart": [{"sku": "SHOE", "price": price, "quantity": 1}],
            }
            unit = f"{name}{self.visitors}"
            requests.append({"touchpoint": key, "unit_id": unit, "context": context})
        for first in range(0, count, 1000):
            some = requests[first : first + 1000]
            made = self.post("/v1/assign/batch", {"requests": some})["decisions"]
            found += [(r, d, r["context"]["device"]) for r, d in zip(some, made, strict=True)]
        self.send(
            order_of(request["unit_id"], self.about(amount(decision["variant"], kind)))
            for request, decision, kind in found
            if self.random.random() < rate(decision["variant"], kind)
        )

    def force(self, key: str, count: int, rate: Rate, amount: Rate = lambda variant, kind: 5000) -> None:
        """Half of so many units to each variant, whatever the shares are."""
        units = [(f"{key}-{number}", ("none", "socks")[number % 2]) for number in range(count)]
        for first in range(0, count, 1000):
            self.post(
                "/v1/assign/batch",
                {
                    "requests": [
                        {
                            "touchpoint": key,
                            "unit_id": unit,
                            "mode": "forced",
                            "variant": arm,
                            "propensity": 0.5,
                        }
                        for unit, arm in units[first : first + 1000]
                    ]
                },
            )
        self.send(
            order_of(unit, self.about(amount(arm, "")))
            for unit, arm in units
            if self.random.random() < rate(arm, "")
        )

    def about(self, amount: float) -> int:
        """An order's amount, a fifth more or less."""
        return round(amount * self.random.uniform(0.8, 1.2))

    def send(self, some: Iterator[Json]) -> None:
        """Report events, all of them accepted."""
        events = list(some)
        for first in range(0, len(events), 1000):
            answer = self.post("/v1/events", {"events": events[first : first + 1000]})
            assert answer["rejected"] == []


def order_of(unit: str, amount: int, name: str = "") -> Json:
    """An order without cost, so that all of it is margin."""
    order = {"order_id": name + unit, "unit_id": unit, "amount": amount, "currency": "EUR", "cost": 0}
    return {"event_id": f"o-{name}{unit}", "type": "order", **order}


def refund_of(unit: str, day: int) -> Json:
    """The refund of a unit's order; where it has none the refund waits for one in vain."""
    return {"event_id": f"r-{unit}-{day}", "type": "refund", "order_id": unit}


def live(http: httpx.Client) -> None:
    """Seventeen days: each experiment gets into the state it is there to show, and stays in it to the end."""
    shop = Shop(http)
    shop.clock(timedelta(0))
    for one in DOCUMENTS:
        shop.post("/v1/experiments", one)
    begin(shop, "drifting")
    for day in range(16):
        shop.clock(day * DAY + 9 * HOUR)
        shop.trade("drifting", 75, lambda variant, kind: 0.2 if day < 8 else 0.6)  # noqa: B023 - called at once
        if day == 12:
            for key in ("guarded", "by-segment", "by-context", "newcomer", "collapsed", "quiet"):
                begin(shop, key)
        if day >= 12:
            follow(shop, day)
    break_down(shop)
    ask_for_a_fit(shop)


def begin(shop: Shop, key: str) -> None:
    """Start an experiment."""
    shop.post(f"/v1/experiments/{key}/start", {})


def follow(shop: Shop, day: int) -> None:
    """A day of the experiments that need some."""
    toxic: Rate = lambda variant, kind: 0.3 if variant == "socks" else 0.6  # noqa: E731
    dear: Rate = lambda variant, kind: 8000 if variant == "socks" else 2000  # noqa: E731
    shop.trade("by-segment", 300, by_kind)
    shop.trade("by-context", 300, by_kind)
    shop.trade("newcomer", 100, lambda variant, kind: 0.4)
    if day == 12:
        shop.trade("quiet", 30, lambda variant, kind: 0.2)
        shop.trade("guarded", 600, toxic, dear)
        shop.force("collapsed", 400, lambda variant, kind: 0.5 if variant == "socks" else 0.05)
    turn_of_the_season(shop, day)
    if day == 13:
        shop.post("/v1/experiments/newcomer/variants", CAP)
    if day == 14:
        shop.force("guarded", 2600, toxic, dear)


def turn_of_the_season(shop: Shop, day: int) -> None:
    """Shoppers buy far more from the second day on, when shares have moved; refunds come in day by day.

    So plain averages see mostly the season in what got most of its visitors. Refunds lag; tablets' visitors
    are regulars, who had bought before and buy more.
    """

    def bought(variant: str, kind: str) -> float:
        return (0.4 if day > 12 else 0.1) + 0.25 * (kind == "tablet") + 0.25 * (variant == "socks")

    others, shop.visitors = shop.visitors, FIRST + (day - 12) * PER_DAY  # so that who comes is known before
    if day == 12:
        regulars = (
            number for number in range(FIRST + 1, FIRST + 4 * PER_DAY + 1) if KINDS[number % 3] == "tablet"
        )
        shop.send(order_of(f"s{number}", shop.about(5000), "before-") for number in regulars)
        shop.clock(day * DAY + 11 * HOUR)
        begin(shop, "season")
    else:
        if day == 13:
            shop.edit("season", {"policy": {**POLICY, "objective": "margin_per_unit", "control_share": 0.1}})
        earlier = range(FIRST + 1, shop.visitors + 1)
        shop.send(refund_of(f"s{number}", day) for number in earlier if number % 9 == day % 9)
    shop.trade("season", PER_DAY, bought, name="s")
    shop.visitors = others


def by_kind(variant: str, kind: str) -> float:
    """Socks sell on phones and cost orders on desktops; on tablets they do nothing."""
    return {("socks", "mobile"): 0.5, ("socks", "desktop"): 0.1}.get((variant, kind), 0.3)


def break_down(shop: Shop) -> None:
    """Orders arrive for a day, hour by hour, then none do."""
    begin(shop, "broken")
    for hour in range(28):
        shop.trade("broken", 30, lambda variant, kind: 0.5 if hour < 24 else 0.0)  # noqa: B023 - called at once
        shop.clock(15 * DAY + (10 + hour) * HOUR)
    shop.post("/v1/experiments/guarded/variants/socks/resume", {})


def ask_for_a_fit(shop: Shop) -> None:
    """Ask for the pooled model where a handful bought, and wait until it is refused."""
    path = "/v1/experiments/quiet/analyses"
    answer = shop.http.post(path, json={})
    if answer.status_code == 409:  # the service lacks PyMC
        return
    assert answer.status_code == 202, answer.text
    for _ in range(600):
        if shop.http.get(path).json()["items"][0]["state"] == "refused":
            return
        sleep(0.2)
    raise AssertionError(shop.http.get(f"{path}/{answer.json()['id']}").text)


if __name__ == "__main__":
    headers = {"Authorization": f"Bearer {sys.argv[2]}"}
    with httpx.Client(base_url=sys.argv[1], headers=headers, timeout=60) as opened:
        live(opened)
