"""Asking the running service for assignments, and counting what it wrote."""

from __future__ import annotations

from typing import Any

from tests.service.conftest import Shop

CART = {"cart": [{"sku": "SOCK-3"}]}
EMPTY = {"kind": "none"}
NOTHING = {"decision_id": None, "propensity": None, "policy_version": None, "offer": EMPTY}


def ask(shop: Shop, unit: str = "u", *, key: str | None = None, **more: Any) -> dict[str, Any]:
    who = {} if "ids" in more else {"unit_id": unit}
    answer = shop.post("/v1/assign", {"touchpoint": "checkout", **who, **more}, key=key)
    assert answer.status_code == 200, answer.text
    return answer.json()


def unit_in(shop: Shop, variant: str, **more: Any) -> str:
    """A unit that was assigned this variant."""
    for i in range(100):
        if ask(shop, f"unit {i}", **more)["variant"] == variant:
            return f"unit {i}"
    raise AssertionError(f"nobody in {variant}")


def settings(shop: Shop, **patch: Any) -> None:
    etag = shop.get("/v1/store").headers["etag"]
    answer = shop.patch("/v1/store", patch, etag)
    assert answer.status_code == 200, answer.text


def edit(shop: Shop, **patch: Any) -> None:
    path = "/v1/experiments/checkout-addon"
    answer = shop.patch(path, patch, shop.get(path).headers["etag"])
    assert answer.status_code == 200, answer.text


def assigned(shop: Shop, key: str = "checkout-addon") -> dict[str, int]:
    report = shop.get(f"/v1/experiments/{key}/report?matured=false").json()
    return {variant["key"]: variant["assigned"] for variant in report["variants"]}


def counts(shop: Shop) -> list[int]:
    tables = ("unit", "assignment", "shown", "decision_context", "candidate_set", "event", "mark")
    with shop.database.read() as connection:
        return [connection.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar_one() for t in tables]
