"""Serving a ledger: its lock, the port, one process or several, an orderly end."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import cast

import uvicorn
from litestar.types import ASGIApp
from sqlalchemy import make_url, select

from service import waiting
from service.app import HOT, create_app
from service.connection import Shortcut
from service.draining import STOP_SIGNALS, DrainingServer, exit_in_order
from service.ledger import schema
from service.ledger.database import Database, DatabaseUnreachable, DatabaseUnusable
from service.metrics import metrics_of
from service.settings import ClockKind, Settings
from service.standby_app import create_standby_app
from service.supervisor import supervise

_M_ARENA_MAX = -8  # of glibc's mallopt
BACKLOG = 2048
KEEP_ALIVE_S = 75
"""Longer than a reverse proxy keeps its idle connections, so that it is never us who close one in use."""

SWITCH_S = 0.0001
"""How long the event loop may keep the interpreter from the thread that commits, for which all wait."""


class CannotServe(Exception):
    """The service cannot start; the message says what to do."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then answer what has begun, commit what is queued, and return."""
    for number in STOP_SIGNALS:
        signal.signal(number, exit_in_order)
    if settings.workers > 1:
        _serve_with_workers(settings, host, port)
        return
    with application_of(settings) as (app, shortcut):
        listener = _listen(host, port)
        try:
            serve_on(settings, app, shortcut, listener)
        finally:
            listener.close()


@contextmanager
def application_of(settings: Settings) -> Generator[tuple[ASGIApp, Shortcut]]:
    """The service, or what stands in for it until its ledger is there; traced, if that is asked for.

    And the shortcut to it, which is open while it is there and nothing is traced.
    """
    metrics = metrics_of(settings)
    shortcut = Shortcut({call.path: call for call in HOT})
    is_traced = settings.otel_endpoint is not None
    app = waiting.application(
        settings,
        open_for_serving,
        partial(create_app, metrics=metrics, shortcut=None if is_traced else shortcut),
        partial(create_standby_app, metrics=metrics),
    )
    if settings.otel_endpoint is None:
        yield app, shortcut
        return
    try:
        from service.telemetry import Telemetry
    except ImportError as error:
        raise CannotServe("--otel-endpoint needs the extra: pip install 'rialto[telemetry]'") from error
    telemetry = Telemetry(app, settings.otel_endpoint, metrics, settings.worker_no)
    try:
        yield telemetry, shortcut
    finally:
        telemetry.stop()


def open_for_serving(settings: Settings) -> Database:
    """The ledger, checked, and locked where only one process may serve it."""
    database = Database(settings.database_url)
    try:
        database.require_current()
        if settings.clock is ClockKind.EXTERNAL:
            _require_simulated_store(database)
        database.lock_for_serving()
    except BaseException:
        database.close()
        raise
    return database


def serve_on(
    settings: Settings,
    app: ASGIApp,
    shortcut: Shortcut,
    listener: socket.socket,
    *,
    is_supervised: bool = False,
) -> None:
    """Serve a listening socket until a signal asks for the end."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", shortcut.connection),
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
    )
    _spare_memory()
    _spare_the_collector()
    sys.setswitchinterval(SWITCH_S)
    DrainingServer(config, settings.drain_s, is_supervised=is_supervised).run(sockets=[listener])


def _spare_the_collector() -> None:
    """Look for cycles rarely, and never among what is here to stay: a tenth of a request's time was that."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)  # one look takes 1.5 ms; five times as much is felt by who waits


def _spare_memory() -> None:
    """Let all threads share two arenas: one for each would keep whatever it once needed."""
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _serve_with_workers(settings: Settings, host: str, port: int) -> None:
    if make_url(settings.database_url).get_backend_name() == "sqlite":
        raise CannotServe(
            f"--workers {settings.workers} needs PostgreSQL (--database postgresql://...): one process "
            "writes a SQLite file; leave --workers out"
        )
    with suppress(DatabaseUnreachable):  # which each worker waits for; anything else is said once, here
        open_for_serving(settings).close()
    listener = _listen(host, port)
    if not supervise(settings, listener):
        raise CannotServe("not every worker ended in order; see the log")


def _require_simulated_store(database: Database) -> None:
    with database.read() as connection:
        simulated = connection.execute(
            select(schema.store.c.store_no).where(schema.store.c.is_simulated).limit(1)
        ).first()
    if simulated is None:
        raise CannotServe("--clock external needs a store made with `rialto init --simulated`")


def _listen(host: str, port: int) -> socket.socket:
    """Bind before uvicorn does, so that a port in use is one readable line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} of {host} is in use: choose another --port, or stop what uses it"
        else:
            message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise CannotServe(message) from error
    return listener


__all__ = ["CannotServe", "DatabaseUnusable", "serve"]
