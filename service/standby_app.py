"""The service while its ledger cannot be reached: storefronts are shown no offer, all others told to wait.

Who may ask, and what is a caller's mistake, comes from the last policy set. Nothing is decided here: a unit
may have a variant already, and another share of it would be a second assignment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from litestar import Litestar, Response
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from service.api import assign, health
from service.api.routing import AnyRequest, Endpoint, call
from service.app import build_service
from service.auth import authorise
from service.catalogue import Catalogue, StoreState
from service.errors import answer_error
from service.exposition import MEDIA_TYPE, Family
from service.frame import Frame
from service.keys import KeyRing, Principal, Scope, digest_of
from service.ledger.database import Database
from service.metrics import Metrics
from service.problems import Problem
from service.settings import Settings
from service.standby import PolicySet

RETRY_S = 5
NOTHING_KNOWN = PolicySet({}, {}, frozenset())


class SavedKeys(KeyRing):
    """The keys of a policy set."""

    def __init__(self, database: Database, policies: PolicySet) -> None:
        super().__init__(database)
        self._policies = policies

    def known(self, digest: bytes) -> Principal | None:
        """The principal of a key, by its digest, if it was in use when the ledger was last seen."""
        return self._policies.keys.get(digest)

    def look_up(self, key: str) -> Principal | None:
        """None for a key that was revoked. Raises 503: any other may have been made since."""
        if digest_of(key) in self._policies.revoked:
            return None
        raise _unavailable()


class SavedCatalogue(Catalogue):
    """The stores of a policy set."""

    def __init__(self, database: Database, policies: PolicySet) -> None:
        super().__init__(database)
        self._policies = policies

    def known(self, store_no: int) -> StoreState | None:
        """The store as it was when the ledger was last seen."""
        return self._policies.stores.get(store_no)

    def store(self, store_no: int) -> StoreState:
        """The same: every key of a policy set is of one of its stores."""
        return self._policies.stores[store_no]

    async def fetch(self, store_no: int) -> StoreState:
        """The same."""
        return self.store(store_no)


def create_standby_app(
    settings: Settings, policies: PolicySet | None, trouble: Callable[[], str], metrics: Metrics | None = None
) -> Litestar:
    """Build the application; `trouble` says at any moment what is waited for."""
    known = policies or NOTHING_KNOWN
    database = Database(settings.database_url)  # never connected: it is what the parts are made with
    service = replace(
        build_service(settings, database, metrics),
        keys=SavedKeys(database, known),
        catalogue=SavedCatalogue(database, known),
    )
    app = Litestar(
        route_handlers=[
            *_storefront(),
            health.live,
            health.rialto_js,
            _ready(trouble),
            _metrics(service.metrics),
            _everything_else(),
        ],
        guards=[authorise],
        exception_handlers={Exception: answer_error},
        request_max_body_size=settings.body_bytes_max,
        state=State({"service": service}),
        openapi_config=None,
        logging_config=None,
    )
    methods = {route.path_format: route.methods for route in app.routes if isinstance(route, HTTPRoute)}
    app.asgi_handler = Frame(app.asgi_handler, service.metrics, methods)
    return app


def _storefront() -> list[HTTPRouteHandler]:
    @call("POST", "/v1/assign", scope=Scope.ASSIGN, summary="No offer", publishable=True)
    async def assign_one(request: AnyRequest) -> Response[bytes]:
        return await assign.answer_one(request, assign.fall_back)

    @call("POST", "/v1/assign/batch", scope=Scope.ASSIGN, summary="No offers")
    async def assign_many(request: AnyRequest) -> Response[bytes]:
        return await assign.answer_many(request, assign.fall_back)

    # Declared apart from the rest, so that a shop's page may read the answer and send its events again.
    @call("POST", "/v1/events", scope=Scope.EVENTS, summary="Not now", publishable=True, key_in_query=True)
    async def events(request: AnyRequest) -> Response[bytes]:
        raise _unavailable()

    return [assign_one, assign_many, events]


def _ready(trouble: Callable[[], str]) -> HTTPRouteHandler:
    @call("GET", "/health/ready", scope=None, summary="Not yet")
    async def ready(request: AnyRequest) -> Response[bytes]:
        raise _unavailable(f"waiting for the ledger: {trouble()}")

    return ready


def _metrics(counts: Metrics) -> HTTPRouteHandler:
    # Apart from the service's own, which reads the ledger: that would make an empty file of one that is away.
    @call("GET", "/metrics", scope=None, summary="Counts for Prometheus", media_type="text/plain")
    async def metrics(request: AnyRequest) -> Response[bytes]:
        ledger = Family("rialto_ledger_up", "Whether the ledger answers.", "gauge", {(): [0.0]})
        content = await asyncio.to_thread(counts.exposition, [ledger])
        return Response(content.encode(), media_type=MEDIA_TYPE)

    return metrics


def _everything_else() -> HTTPRouteHandler:
    async def refuse(request: AnyRequest) -> Response[bytes]:
        raise _unavailable()

    route = HTTPRouteHandler(
        ["/", "/{rest:path}"],
        http_method=["GET", "POST", "PUT", "PATCH", "DELETE"],  # pyright: ignore[reportArgumentType]
        status_code=200,
        opt={"endpoint": Endpoint(None, "Not now")},
    )
    return route(refuse)


def _unavailable(detail: str = "the ledger cannot be reached; retry") -> Problem:
    return Problem(503, "database_unavailable", detail, headers={"Retry-After": str(RETRY_S)})
