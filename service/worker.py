"""One worker of several: `python -m service.worker`, started by the supervisor and told what to do by it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import msgspec

from service.draining import STOP_SIGNALS, exit_in_order
from service.ledger.database import DatabaseUnusable
from service.logs import log_to_stderr
from service.serving import CannotServe, application_of, serve_on
from service.supervisor import WorkerOrder

_STDIN = 0


def main() -> None:
    """Read the order and serve until told to end, or until the supervisor is gone."""
    for number in STOP_SIGNALS:
        signal.signal(number, exit_in_order)
    order = msgspec.json.decode(_line(), type=WorkerOrder)
    log_to_stderr(order.settings.log_level)
    threading.Thread(target=_end_with_supervisor, name="lifeline", daemon=True).start()
    try:
        with application_of(order.settings) as (app, shortcut):
            listener = socket.socket(fileno=order.listener)
            serve_on(order.settings, app, shortcut, listener, is_supervised=True)
    except (CannotServe, DatabaseUnusable) as error:
        sys.exit(f"error: {error}")


def _line() -> bytes:
    read = b""
    while not read.endswith(b"\n"):
        part = os.read(_STDIN, 65536)
        if not part:
            sys.exit("error: service.worker is started by `rialto serve --workers N`")
        read += part
    return read


def _end_with_supervisor() -> None:
    """The supervisor never writes again: when the pipe ends, so has it."""
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
