"""Bodies and queries into typed values, or a problem that names the field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, cast, overload

import msgspec
from litestar import Request, Response

from experiments.errors import FieldError
from experiments.json_schema import child
from experiments.times import parse_instant
from service.clock import to_micros
from service.faults import fault_of
from service.problems import Problem, bad_field, bad_request

T = TypeVar("T")
KEY_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}(?![\s\S])"
ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]+(?![\s\S])"

Key = Annotated[str, msgspec.Meta(pattern=KEY_PATTERN)]
CallerId = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=ID_PATTERN)]
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*(?![\s\S])"
Label = Annotated[str, msgspec.Meta(max_length=200, pattern=LINE_PATTERN)]
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""An RFC 3339 time as text, for `instant_us`."""

OPEN_MAP_KEYS_MAX = 64
OPEN_MAP_TEXT_MAX = 4096


class Wire(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Base of every request object: closed, so that a typing error is never silently ignored."""


async def body_of(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """The request's JSON body as a value of `kind`."""
    return decode(await request.body(), kind)


async def object_of(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The request's JSON body as a plain object, for documents with a schema of their own."""
    return decode(await request.body(), dict[str, Any])


def decode(raw: bytes, kind: type[T]) -> T:
    """JSON as a value of `kind`. Raises Problem 400 naming the field at fault."""
    try:
        value = msgspec.json.decode(raw, type=kind)
        raw.decode()  # msgspec reads a name that is not UTF-8 without complaint
    except msgspec.ValidationError as error:
        # A type error found early may hide that the rest is no JSON at all: say the graver thing.
        raise _malformed(raw) or bad_request([fault_of(error, kind, json.loads(raw))]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(raw) or bad_field("", "malformed_json", "send one JSON value in UTF-8") from error
    return value


def decoder_of(kind: type[T]) -> Callable[[bytes], T]:
    """A function that does what `decode` does for one type, several times faster when nothing is wrong."""
    quick = msgspec.json.Decoder(kind).decode

    def read(raw: bytes) -> T:
        try:
            value = quick(raw)
            raw.decode()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return decode(raw, kind)
        return value

    return read


@overload
def convert(value: Any, kind: type[T], *, prefix: str = "") -> T: ...


@overload
def convert(value: Any, kind: Any, *, prefix: str = "") -> Any: ...


def convert(value: Any, kind: Any, *, prefix: str = "") -> Any:
    """Plain values as a value of `kind`. Raises Problem 400 naming the field, below `prefix`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fault = fault_of(error, kind, value)
        raise bad_request([FieldError(prefix + fault.pointer, fault.code, fault.remedy)]) from error


def query_of(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """The query string as a value of `kind`; the pointer of a fault is `?name`."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise bad_field(f"?{name}", "given_twice", "give this parameter once")
        given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        fault = fault_of(error, kind, given)
        pointer = "?" + fault.pointer.removeprefix("/")
        raise bad_request([FieldError(pointer, fault.code, fault.remedy)]) from error


def instant_us(text: str, pointer: str) -> int:
    """An RFC 3339 time in microseconds. Raises Problem 400."""
    try:
        return to_micros(parse_instant(text))
    except ValueError as error:
        raise bad_field(
            pointer, "bad_time", "write RFC 3339 with an offset, such as 2026-03-01T12:00:00Z"
        ) from error


def open_map_faults(value: Mapping[str, Any], pointer: str) -> list[FieldError]:
    """What is wrong with an open map: at most 64 keys, each a scalar."""
    if len(value) > OPEN_MAP_KEYS_MAX:
        remedy = f"keep at most {OPEN_MAP_KEYS_MAX} keys, found {len(value)}"
        return [FieldError(pointer, "too_many", remedy)]
    faults: list[FieldError] = []
    for name, member in value.items():
        fault = _member_fault(member)
        if fault is not None:
            faults.append(FieldError(child(pointer, name), *fault))
    return faults


def _member_fault(member: Any) -> tuple[str, str] | None:
    if isinstance(member, str):
        if len(member) > OPEN_MAP_TEXT_MAX:
            return "too_long", f"keep text to {OPEN_MAP_TEXT_MAX} characters"
    elif isinstance(member, int):
        if not -(2**63) <= member < 2**63:
            return "out_of_range", "write an integer of at most 64 bits"
    elif isinstance(member, dict | list):
        return "not_a_scalar", "write text, a number, true, false or null"
    return None


def answer(
    value: Any, *, status: int = 200, etag: int | None = None, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """A JSON response, with the version as its ETag."""
    more = dict(headers or {})
    if etag is not None:
        more["ETag"] = f'"{etag}"'
    content = msgspec.json.encode(value)
    return Response(content, status_code=status, media_type="application/json", headers=more)


def require_match(request: Request[Any, Any, Any]) -> int:
    """The version of `If-Match`. Raises Problem 428 when it is missing, 412 when it can match nothing."""
    given = request.headers.get("if-match")
    if given is None:
        raise Problem(
            428, "if_match_required", "send If-Match with the ETag you last read, so that no change is lost"
        )
    text = given.strip().removeprefix('"').removesuffix('"')
    if not re.fullmatch("[0-9]{1,18}", text):
        raise stale(given)
    return int(text)


def stale(given: object) -> Problem:
    """412: somebody changed it in between."""
    return Problem(412, "stale_version", f"version {given} is not the current one: read again, then patch")


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def refuse_unknown(patch: Mapping[str, Any], schema: Mapping[str, Any], pointer: str = "") -> None:
    """Raise Problem 400 for a null of a field that is not there: the merge would lose it unseen."""
    if schema.get("additionalProperties") is not False:
        return
    known: Mapping[str, Any] = schema["properties"]
    for name, value in patch.items():
        if name not in known and value is None:
            remedy = f"is not a known field; the fields here are {', '.join(known)}"
            raise bad_field(child(pointer, name), "unknown_field", remedy)
        if name in known and isinstance(value, dict):
            refuse_unknown(cast("dict[str, Any]", value), known[name], child(pointer, name))


def _malformed(raw: bytes) -> Problem | None:
    """The problem of bytes that are no JSON; None when they are."""
    try:
        value = json.loads(raw)
    except RecursionError:
        return bad_field("", "malformed_json", "nest at most a few hundred levels deep")
    except UnicodeDecodeError as error:
        return bad_field("", "malformed_json", f"send UTF-8; byte {error.start} is not")
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        return bad_field("", "malformed_json", f"send one JSON value; {error.msg} at {where}")
    except ValueError:
        return bad_field("", "malformed_json", "write numbers of at most 4,300 digits")
    pointer = _not_a_number(value, "")
    if pointer is None:
        return None
    return bad_field(pointer, "not_a_number", "write a finite number; JSON has no NaN or Infinity")


def _not_a_number(value: Any, pointer: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else pointer
    if isinstance(value, dict):
        members = [(child(pointer, name), member) for name, member in value.items()]
    elif isinstance(value, list):
        members = [(child(pointer, index), member) for index, member in enumerate(value)]
    else:
        return None
    found = (_not_a_number(member, at) for at, member in members)
    return next((pointer for pointer in found if pointer is not None), None)
