"""Who may call what: every route against every wrong kind of key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from litestar.routes import ASGIRoute, HTTPRoute
from sqlalchemy import select

from service.api.routing import Endpoint
from service.app import CALLS, create_app
from service.keys import Scope
from service.ledger import schema
from service.ledger.database import DatabaseKind
from service.rate_limit import RateLimiter
from service.settings import Settings
from tests.service.conftest import Shop, document, new_stores

PUBLIC = {"/health/live", "/health/ready", "/metrics", "/rialto.js", "/schema", "/schema/openapi.json"}
PUBLISHABLE = {("POST", "/v1/assign"), ("POST", "/v1/events")}


def declared() -> Iterator[tuple[str, str, Endpoint]]:
    yield from CALLS


SCOPED = [(m, p, e) for m, p, e in declared() if e.scope is not None]
IDS = [f"{method} {path}" for method, path, _ in SCOPED]


def concrete(path: str) -> str:
    """A path with ids that exist nowhere."""
    for name in ("key", "variant", "key_id", "decision_id"):
        path = path.replace(f"{{{name}:str}}", "ghost")
    return path.replace("{unit_id:path}", "ghost")


def refusal(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_every_route_declares_its_scope_or_is_known_to_be_public(tmp_path: Any) -> None:
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path / 'unused.db'}"))
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    assert len(routes) > 20
    for route in routes:
        for handler in route.route_handlers:
            if {str(m) for m in handler.http_methods} == {"OPTIONS"}:
                continue
            endpoint = handler.opt["endpoint"]
            assert isinstance(endpoint, Endpoint)
            assert (endpoint.scope is None) == (route.path in PUBLIC), route.path
    hot = [route for route in app.routes if isinstance(route, ASGIRoute)]
    assert {route.path for route in hot} == {path for _, path in PUBLISHABLE}
    for route in hot:
        assert route.route_handler.opt["endpoint"].scope is not None


def test_only_the_storefronts_calls_take_a_publishable_key() -> None:
    assert {(m, p) for m, p, e in declared() if e.publishable} <= PUBLISHABLE


@pytest.fixture
def matrix(shop: Shop) -> Callable[..., tuple[int, str]]:
    def send(method: str, path: str, key: str | None, **headers: str) -> tuple[int, str]:
        sent = {} if key is None else {"Authorization": f"Bearer {key}"}
        return refusal(shop.client.request(method, concrete(path), headers={**sent, **headers}))

    return send


def test_no_key_an_unknown_key_and_nonsense_are_401(matrix: Callable[..., tuple[int, str]]) -> None:
    for method, path, _ in SCOPED:
        for key in (None, "sk_" + "a" * 32, "pk_" + "a" * 32, "sk_", "x" * 5000, "sk_é"):
            sent = key.encode() if key else None  # as bytes: a header need not be ASCII
            assert matrix(method, path, None, **({"X-API-Key": sent} if sent else {})) == (
                401,
                "unauthorised",
            )


def test_a_revoked_key_is_401_at_once(shop: Shop, matrix: Callable[..., tuple[int, str]]) -> None:
    made = shop.post("/v1/keys", {"kind": "sk", "scopes": [s.value for s in Scope]}).json()
    assert shop.get("/v1/experiments", key=made["key"]).status_code == 200
    revoked = shop.call("DELETE", f"/v1/keys/{made['id']}")
    assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
    for method, path, _ in SCOPED:
        assert matrix(method, path, made["key"]) == (401, "unauthorised")


def test_every_scope_but_the_right_one_is_403(shop: Shop, matrix: Callable[..., tuple[int, str]]) -> None:
    without = {scope: shop.key_with(*(s for s in Scope if s is not scope)) for scope in Scope}
    for method, path, endpoint in SCOPED:
        assert endpoint.scope is not None
        assert matrix(method, path, without[endpoint.scope]) == (403, "scope_missing"), path


def test_a_publishable_key_is_403_wherever_a_server_belongs(
    shop: Shop, matrix: Callable[..., tuple[int, str]]
) -> None:
    for method, path, endpoint in SCOPED:
        if not endpoint.publishable:
            assert matrix(method, path, shop.keys.publishable_key) == (403, "secret_key_required"), path


def test_a_secret_key_with_an_origin_is_403(shop: Shop, matrix: Callable[..., tuple[int, str]]) -> None:
    for method, path, _ in SCOPED:
        for origin in ("https://shop.example", "null"):
            found = matrix(method, path, shop.keys.secret_key, Origin=origin)
            assert found == (403, "secret_key_in_browser"), path


def test_another_stores_things_do_not_exist(shop: Shop) -> None:
    """Every route that names a thing of the first store, called with the second store's key."""
    shop.running()
    key_id = shop.get("/v1/keys").json()["items"][0]["id"]
    foreign = shop.other.secret_key
    here = "/v1/experiments/checkout-addon"
    calls: list[tuple[str, str, Any]] = [
        ("GET", here, None),
        *(("POST", f"{here}/{a}", None) for a in ("start", "pause", "resume", "stop", "archive")),
        ("POST", f"{here}/promote", {"variant": "socks"}),
        ("POST", f"{here}/variants", document()["variants"][1]),
        ("POST", f"{here}/variants/socks/retire", None),
        ("POST", f"{here}/variants/socks/resume", None),
        ("GET", "/v1/ledger/decisions?experiment=checkout-addon", None),
        ("GET", "/v1/ledger/events?experiment=checkout-addon", None),
        ("DELETE", f"/v1/keys/{key_id}", None),
    ]
    before = shop.get(here)
    for method, path, body in calls:
        assert shop.call(method, path, body, key=foreign).status_code == 404, path
    assert shop.patch(here, {"name": "stolen"}, '"2"', key=foreign).status_code == 404
    assert shop.get("/v1/experiments", key=foreign).json()["items"] == []
    assert key_id not in {item["id"] for item in shop.get("/v1/keys", key=foreign).json()["items"]}
    assert shop.get(here).json() == before.json()
    assert shop.post("/v1/experiments", document(), key=foreign).status_code == 201, "its own key space"


def test_a_key_gives_only_scopes_it_has(shop: Shop) -> None:
    admin = shop.key_with("admin", "read")
    refused = shop.post("/v1/keys", {"kind": "sk", "scopes": ["read", "import"]}, key=admin)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_not_yours")
    assert refused.json()["errors"][0]["pointer"] == "/scopes/1"
    made = shop.post("/v1/keys", {"kind": "sk"}, key=admin)
    assert made.json()["scopes"] == ["read", "admin"]


def test_a_key_is_shown_once_and_kept_as_a_hash(shop: Shop) -> None:
    made = shop.post("/v1/keys", {"kind": "pk", "label": "web"})
    assert made.headers["cache-control"] == "no-store"
    key = made.json()["key"]
    assert key.startswith("pk_")
    assert made.json()["hint"] == key[-4:]
    assert key not in shop.get("/v1/keys").text
    with shop.database.read() as connection:
        stored = [repr(row) for row in connection.execute(select(schema.api_key))]
    assert any(made.json()["id"] in row for row in stored)
    assert not any(key in row for row in stored)
    if shop.database.kind is DatabaseKind.SQLITE:
        assert key.encode() not in b"".join(
            file.read_bytes() for file in shop.database.path.parent.glob("shop0.db*")
        )


def test_a_key_cannot_revoke_itself(shop: Shop) -> None:
    mine = next(k for k in shop.get("/v1/keys").json()["items"] if k["kind"] == "sk")
    assert refusal(shop.call("DELETE", f"/v1/keys/{mine['id']}")) == (409, "own_key")


def test_both_headers_carry_a_key(shop: Shop) -> None:
    answer = shop.client.get("/v1/experiments", headers={"X-API-Key": shop.keys.secret_key})
    assert answer.status_code == 200


def test_a_store_made_while_serving_can_call_at_once(shop: Shop) -> None:
    late, _ = new_stores(shop.database, is_simulated=False)
    assert shop.get("/v1/experiments", key=late.secret_key).json() == {"items": [], "next_cursor": None}


def test_a_bucket_refills_with_time() -> None:
    """Burst 2 at 1 a second: two at once, the third after a second, and no more than the burst saved up."""
    limiter = RateLimiter(rate_per_s=1.0, burst=2)
    assert [limiter.wait_s("k", "a", 0.0) for _ in range(3)] == [0, 0, 1]
    assert limiter.wait_s("k", "b", 0.0) == 0, "another address has its own"
    assert [limiter.wait_s("k", "a", 1.0) for _ in range(2)] == [0, 1]
    assert [limiter.wait_s("k", "a", 100.0) for _ in range(3)] == [0, 0, 1]
