"""Problem documents (RFC 9457): how every refusal leaves the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response

from experiments.errors import FieldError

MEDIA_TYPE = "application/problem+json"


class ProblemError(msgspec.Struct, frozen=True):
    """One fault: where it stands (JSON pointer, or ?name of a query parameter) and its remedy."""

    pointer: str
    code: str
    remedy: str


class ProblemDocument(msgspec.Struct, frozen=True):
    """A refusal, in the form of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemError]


class Problem(Exception):
    """A refusal: the status, a stable code, what is wrong, and each field at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def document(self) -> ProblemDocument:
        """The document sent to the client; also what stands in a batch in place of an answer."""
        return ProblemDocument(
            type="about:blank",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            code=self.code,
            errors=[ProblemError(e.pointer, e.code, e.remedy) for e in self.errors],
        )


def content_of(problem: Problem) -> bytes:
    """The document as it is sent."""
    return msgspec.json.encode(problem.document())


def problem_response(problem: Problem) -> Response[bytes]:
    """The HTTP response of a problem."""
    return Response(
        content_of(problem), status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers
    )


def bad_request(errors: Iterable[FieldError]) -> Problem:
    """400, naming the fields."""
    faults = tuple(errors)
    detail = "; ".join(f"{e.pointer or '/'}: {e.remedy}" for e in faults[:3])
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Problem(400, faults[0].code if faults else "invalid", detail + more, errors=faults)


def bad_field(pointer: str, code: str, remedy: str) -> Problem:
    """400 for one field."""
    return bad_request([FieldError(pointer, code, remedy)])


def field_problem(status: int, code: str, pointer: str, remedy: str) -> Problem:
    """A problem of another status for one field."""
    return Problem(status, code, f"{pointer}: {remedy}", errors=[FieldError(pointer, code, remedy)])


def not_found(kind: str, name: str) -> Problem:
    """404: no such thing in this store."""
    return Problem(404, f"{kind}_not_found", f"this store has no {kind.replace('_', ' ')} {name[:128]!r}")


def conflict(code: str, detail: str, errors: Iterable[FieldError] = ()) -> Problem:
    """409: the request is well formed, but not in this state of things."""
    return Problem(409, code, detail, errors=errors)


def as_json(problem: Problem) -> dict[str, Any]:
    """The document as plain values."""
    return msgspec.to_builtins(problem.document())
