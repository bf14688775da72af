"""The only wiring: settings in, a service out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from service.api import (
    analyses,
    analysis_files,
    assign,
    decisions,
    events,
    experiments,
    guardrails,
    health,
    keys,
    ledger,
    planning,
    reports,
    schema,
    store,
    units,
)
from service.api import metrics as metrics_api
from service.api.hot import HotCall
from service.api.routing import Endpoint
from service.auth import authorise
from service.catalogue import Catalogue
from service.clock import ExternalClock, SystemClock
from service.connection import Shortcut
from service.context import Service
from service.errors import answer_error
from service.frame import Frame
from service.gauges import publishing, register
from service.hot.databases import ledger_of
from service.hot.sticky import Sticky
from service.hot.writer import Writer
from service.jobs import analysing, loop
from service.jobs.folding import Folding
from service.jobs.leader import Leader
from service.keys import KeyRing
from service.last_known import LastKnown
from service.ledger.database import Database
from service.metrics import Metrics, metrics_of
from service.rate_limit import RateLimiter
from service.settings import ClockKind, Settings
from service.standby import path_for

ROUTES: list[HTTPRouteHandler] = [
    *assign.router,
    *decisions.router,
    *reports.router,
    *experiments.router,
    *guardrails.router,
    *planning.router,
    *analyses.router,
    *analysis_files.router,
    *keys.router,
    *ledger.router,
    *units.router,
    *store.router,
    *health.router,
    *metrics_api.router,
    *schema.router,
]
HOT: list[HotCall] = [*assign.hot, *events.hot]
"""Nearly all of the traffic, beside the framework's guard: they check who asks by the same rules."""
CALLS: list[tuple[str, str, Endpoint]] = [
    *(
        (str(method), path, handler.opt["endpoint"])
        for handler in ROUTES
        for path in sorted(handler.paths)
        for method in sorted(handler.http_methods)
    ),
    *(("POST", call.path, call.endpoint) for call in HOT),
]
"""Every call there is: method, path and declaration."""


def create_app(
    settings: Settings,
    database: Database | None = None,
    metrics: Metrics | None = None,
    shortcut: Shortcut | None = None,
) -> Litestar:
    """Build the service; its threads and jobs run while the app does.

    `database` is given by who has opened, and perhaps locked, it already; `metrics` by who exports them;
    `shortcut` by whose connections answer hot calls themselves while the service runs.
    """
    service = build_service(settings, database or Database(settings.database_url), metrics)
    register(service)

    @asynccontextmanager
    async def running(_app: Litestar) -> AsyncGenerator[None, None]:
        await service.writer.start()
        beside = (loop.run(service), analysing.run(service), publishing(service), service.last_known.run())
        tasks = [asyncio.create_task(each) for each in beside]
        if shortcut is not None:
            shortcut.open(service)
        try:
            yield
        finally:
            if shortcut is not None:
                shortcut.open(None)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.writer.stop()
            await service.folding.close()
            service.database.close()

    hot = {call.path: call.handler(service) for call in HOT}
    app = Litestar(
        route_handlers=[
            Router("/", route_handlers=ROUTES, guards=[authorise]),
            *(call.route(hot[call.path]) for call in HOT),
        ],
        exception_handlers={Exception: answer_error},
        request_max_body_size=settings.body_bytes_max,
        lifespan=[running],
        state=State({"service": service}),
        openapi_config=None,
        logging_config=None,
    )
    methods = {route.path_format: route.methods for route in app.routes if isinstance(route, HTTPRoute)}
    app.asgi_handler = Frame(app.asgi_handler, service.metrics, methods, hot)
    return app


def build_service(settings: Settings, database: Database, metrics: Metrics | None = None) -> Service:
    """The parts of a service, not yet running."""
    metrics = metrics or metrics_of(settings)
    writer = Writer(ledger_of(database), Sticky(settings.sticky_max), metrics, settings.queue_max)
    return Service(
        settings=settings,
        database=database,
        writer=writer,
        catalogue=Catalogue(database),
        clock=ExternalClock() if settings.clock is ClockKind.EXTERNAL else SystemClock(),
        keys=KeyRing(database),
        last_known=LastKnown(database, path_for(settings)),
        limiter=RateLimiter(settings.publishable_rate_per_s, settings.publishable_burst),
        leader=Leader(database),
        folding=Folding(database, in_process=settings.fold_in_process),
        metrics=metrics,
        on_units=[writer.forget],
    )
