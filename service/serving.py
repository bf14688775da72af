"""The one process that serves a ledger: lock, port, uvicorn, an orderly end."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

import uvicorn
from sqlalchemy import select

from service.app import create_app
from service.ledger import schema
from service.ledger.database import Database, DatabaseUnusable
from service.settings import ClockKind, Settings

DRAIN_S = 10


class CannotServe(Exception):
    """The service cannot start; the message says what to do."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; then answer what has begun, commit what is queued, and return."""
    database = Database(settings.database_url)
    database.require_current()
    if settings.clock is ClockKind.EXTERNAL:
        _require_simulated_store(database)
    database.lock_for_serving()
    listener = _listen(host, port)
    config = uvicorn.Config(
        create_app(settings, database),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
    )
    # Uvicorn raises the signal that stopped it once more when all is done: that end is in order too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_in_order)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()
        database.close()


def _exit_in_order(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


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
    listener.set_inheritable(True)
    return listener


__all__ = ["CannotServe", "DatabaseUnusable", "serve"]
