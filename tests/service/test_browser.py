"""What a browser meets: CORS, origins, the rate limit, the script."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.service.conftest import Shop

ORIGIN = "https://shop.example"


def allow(shop: Shop, *origins: str) -> None:
    etag = shop.get("/v1/store").headers["etag"]
    assert shop.patch("/v1/store", {"origins": list(origins)}, etag).status_code == 200


def preflight(shop: Shop, path: str) -> dict[str, str]:
    answer = shop.client.options(path, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"})
    assert answer.status_code == 204
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control")}


@pytest.mark.parametrize("path", ["/v1/assign", "/v1/events", "/rialto.js"])
def test_a_preflight_of_the_storefronts_calls_is_answered(shop: Shop, path: str) -> None:
    found = preflight(shop, path)
    assert found["access-control-allow-origin"] == ORIGIN
    assert "POST" in found["access-control-allow-methods"]
    assert "authorization" in found["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in found


@pytest.mark.parametrize("path", ["/v1/experiments", "/v1/keys", "/v1/store"])
def test_no_other_call_is_open_to_browsers(shop: Shop, path: str) -> None:
    assert preflight(shop, path) == {}


def assign(shop: Shop, origin: str | None) -> tuple[int, str | None]:
    headers = {} if origin is None else {"Origin": origin}
    body = {"touchpoint": "checkout", "unit_id": "u1"}
    answer = shop.post("/v1/assign", body, key=shop.keys.publishable_key, headers=headers)
    return answer.status_code, answer.headers.get("access-control-allow-origin")


def test_an_origin_must_be_on_the_stores_list(shop: Shop) -> None:
    assert assign(shop, ORIGIN) == (403, None), "an empty list allows none"
    allow(shop, ORIGIN)
    assert assign(shop, ORIGIN) == (200, ORIGIN)
    for other in ("http://shop.example", "https://shop.example:444", "https://evil.example", "null"):
        assert assign(shop, other) == (403, None)
    assert assign(shop, None) == (200, None), "a server may use it too"
    allow(shop)
    assert assign(shop, ORIGIN) == (403, None), "taken off the list, at once"


def test_too_many_requests_are_told_when_to_come_back(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(publishable_rate_per_s=0.1, publishable_burst=3)
    allow(shop, ORIGIN)
    assert [assign(shop, ORIGIN)[0] for _ in range(4)] == [200, 200, 200, 429]
    body = {"touchpoint": "checkout", "unit_id": "u1"}
    answer = shop.post("/v1/assign", body, key=shop.keys.publishable_key)
    assert answer.json()["code"] == "rate_limited"
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert shop.post("/v1/assign", body).status_code == 200, "a server's key has no such limit"


def test_the_script_is_public_and_may_be_kept_a_while(shop: Shop) -> None:
    answer = shop.client.get("/rialto.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "max-age=" in answer.headers["cache-control"]
    assert "Rialto" in answer.text
