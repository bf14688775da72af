"""Log lines as JSON objects, one a line, on stderr; never a shopper's id, a key or an amount.

A line is written in one piece, so that the lines of several workers never mix. What an exception says is
left out unless it comes from the machine or the database's connection: the message of any other may quote
what a caller sent. Where it happened is said in full.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.exc import DBAPIError

from service.ledger.database import DatabaseUnusable

HOT_ROUTES = frozenset({"/v1/assign", "/v1/events"})
"""A POST to these that ends well is logged at debug only: they are nearly all of the traffic."""

_SAYS_NOTHING_PERSONAL = (OSError, sqlite3.Error, DatabaseUnusable)
_requests = logging.getLogger("rialto.requests")
_errors = logging.getLogger("rialto.errors")
_encode = msgspec.json.Encoder(enc_hook=str).encode


def log_request(
    request_id: str, method: str, route: str, status: int, seconds: float, trace_id: str | None = None
) -> None:
    """Write down one answered request."""
    is_quiet = status == 200 and method == "POST" and route in HOT_ROUTES
    level = logging.DEBUG if is_quiet else logging.INFO
    if _requests.isEnabledFor(level):
        fields: dict[str, Any] = {
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
        }
        if trace_id is not None:
            fields["trace_id"] = trace_id
        record = logging.LogRecord(_requests.name, level, "", 0, "request", None, None)  # walks no stack
        record.fields = fields
        _requests.handle(record)


def log_failure(error: Exception, request_id: object) -> None:
    """Write down a defect, under the id the caller was given."""
    _errors.error("request failed", exc_info=error, extra={"fields": {"request_id": request_id}})


class JsonLines(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return self.encoded(record).decode()

    def encoded(self, record: logging.LogRecord) -> bytes:
        """The line of a record as it is written."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["errors"] = [_described(error) for error in _chain(record.exc_info[1])]
        return _encode(line)


class OneWrite(logging.Handler):
    """Writes each line to stderr at once and whole."""

    def __init__(self) -> None:
        super().__init__()
        self._json = JsonLines()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line."""
        try:
            sys.stderr.buffer.write(self._json.encoded(record) + b"\n")
            sys.stderr.buffer.flush()
        except Exception:
            self.handleError(record)


def log_to_stderr(level: str) -> None:
    """Send every logger's records to stderr as JSON lines."""
    root = logging.getLogger()
    root.handlers[:] = [OneWrite()]
    root.setLevel(level.upper())
    for name in ("alembic", "httpx", "asyncio", "urllib3", "opentelemetry"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    _requests.setLevel(level.upper())


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it came from, the last first."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return found


def _described(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    frames = traceback.extract_tb(error.__traceback__)
    described: dict[str, Any] = {
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, _SAYS_NOTHING_PERSONAL):
        described["message"] = str(error)
    elif isinstance(error, DBAPIError) and error.connection_invalidated:
        described["message"] = str(error.orig)
    return described
