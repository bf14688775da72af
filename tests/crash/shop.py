"""The shop that is crashed: how it is made, and what must hold of it afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from service.ledger.database import Database
from service.ledger.verify import verify
from tests.crash.load import Acknowledged, ask
from tests.forked import Forkery
from tests.launched import new_store
from tests.service.conftest import document


def new_shop(forks: Forkery, url: str, *, deadline_ms: int = 5000) -> str:
    """A new ledger with a running experiment; its secret key.

    The deadline is long: on a busy machine a fall-back would say nothing of durability.
    """
    key = new_store(url)["secret_key"]
    with forks.serving(url) as running, running.client(key) as client:
        assert client.post("/v1/experiments", json=document()).status_code == 201
        assert client.post("/v1/experiments/checkout-addon/start").status_code == 200
        patch = {"deadline_ms": deadline_ms}
        version = {"If-Match": client.get("/v1/store").headers["etag"]}
        assert client.patch("/v1/store", json=patch, headers=version).status_code == 200
    return key


def check_verified(url: str) -> None:
    """Every stored sum is its recomputation, to the last digit."""
    database = Database(url)
    try:
        report = verify(database)
    finally:
        database.close()
    assert report.is_exact, report.examples


def lost(client: httpx.Client, acknowledged: Acknowledged) -> list[str]:
    """What was acknowledged and is not known now, or is known otherwise."""
    missing: list[str] = []
    for part in _parts(list(acknowledged.assigned)):
        answer = client.post("/v1/assign/batch", json={"requests": [ask(unit) for unit in part]}).json()
        for unit, made in zip(part, answer["decisions"], strict=True):
            is_same = (made["decision_id"], made["variant"]) == acknowledged.assigned[unit]
            if not is_same or made["reason"] != "sticky":
                missing.append(f"the assignment of {unit}: {made}")
    for part in _parts(list(acknowledged.events.values())):
        told = client.post("/v1/events", json={"events": part}).json()
        if told["duplicates"] != len(part):
            missing.append(f"{len(part) - told['duplicates']} of {len(part)} events: {told}")
    return missing


def check_nothing_is_doubled(client: httpx.Client) -> None:
    """One assignment a unit, one row an event, and sums that are those of the rows."""
    decisions, events = lines(client, "/v1/ledger/decisions"), lines(client, "/v1/ledger/events")
    for name, rows in (("unit_id", decisions), ("event_id", events)):
        counted = Counter(row[name] for row in rows)
        assert [key for key, times in counted.items() if times > 1] == []
    orders = {e["order_id"]: e["content"]["amount"] for e in events if e["type"] == "order"}
    assert len(orders) == sum(event["type"] == "order" for event in events)
    refunds = {e["order_id"]: e["content"]["amount"] for e in events if e["type"] == "refund"}
    summary = client.get("/v1/store/summary").json()
    told = (summary["orders"], summary["revenue"], summary["refunded"], summary["orphan_refunded"])
    known = [amount for order_id, amount in refunds.items() if order_id in orders]
    waiting = [amount for order_id, amount in refunds.items() if order_id not in orders]
    assert told == (len(orders), sum(orders.values()), sum(known), sum(waiting))
    report = client.get("/v1/experiments/checkout-addon/report?matured=false").json()
    per_variant = Counter(row["variant"] for row in decisions)
    told_by = {one["key"]: one["assigned"] for one in report["variants"]}
    assert told_by == per_variant, (told_by, per_variant)


def lines(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    """A list of the ledger, as lines."""
    answer = client.get(path, headers={"Accept": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def _parts(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), 500):
        yield list(items[start : start + 500])
