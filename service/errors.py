"""One table from errors to problem documents; nothing leaves the service in another form."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from experiments.errors import FrozenField, InvalidDocument
from service.archive.duck import ArchiveUnusable
from service.hot.ledger import LedgerUnavailable
from service.hot.writer import Overloaded, WriterStopped
from service.problems import Problem, bad_request, conflict, problem_response

log = logging.getLogger(__name__)

_RETRY = {"Retry-After": "1"}


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response to any exception a request ends in."""
    problem = to_problem(error)
    if problem.status == 500:
        log.error(
            "request failed",
            exc_info=error,
            extra={"fields": {"request_id": request.scope.get("rialto_request_id")}},
        )
    return problem_response(problem)


def to_problem(error: Exception) -> Problem:
    """The problem an error is to a client."""
    match error:
        case Problem():
            return error
        case InvalidDocument():
            return bad_request(error.errors)
        case FrozenField():
            return conflict("frozen_field", str(error), error.errors)
        case Overloaded():
            return Problem(503, "overloaded", "too many writes are waiting; retry", headers=_RETRY)
        case WriterStopped():
            return Problem(503, "shutting_down", "the service is shutting down; retry", headers=_RETRY)
        case OperationalError() | InterfaceError() | NoConnectionFree() | LedgerUnavailable():
            log.error("the database failed: %s", error.orig if isinstance(error, DBAPIError) else error)
            return Problem(
                503, "database_unavailable", "the ledger cannot be used now; retry", headers=_RETRY
            )
        case ArchiveUnusable():
            log.error("%s", error)
            return Problem(
                503, "archive_unavailable", "archived events cannot be read; the log says which file"
            )
        case HTTPException():
            return _of_litestar(error)
        case _:
            return Problem(500, "internal_error", "a defect of Rialto; the request id is in its log")


def _of_litestar(error: HTTPException) -> Problem:
    status = error.status_code
    headers = dict(error.headers or {})
    if status == 413:
        return Problem(413, "body_too_large", "a body may have at most 1 MiB; split it", headers=headers)
    if status == 404:
        return Problem(404, "no_such_route", "there is nothing at this path; see /schema", headers=headers)
    if status == 405:
        allowed = headers.get("allow", "")
        return Problem(405, "method_not_allowed", f"this path takes {allowed}; see /schema", headers=headers)
    if status >= 500:
        return Problem(500, "internal_error", "a defect of Rialto; the request id is in its log")
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase.lower().replace(" ", "_"), error.detail or phrase, headers=headers)
