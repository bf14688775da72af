"""A person's journey, and the right to be forgotten."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import Response
from sqlalchemy import Connection

from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.context import service_of
from service.keys import Scope
from service.ledger.journeys import erase, journey, person_units
from service.problems import bad_field, not_found
from service.wire import CallerId, Wire, answer, convert

_PREFIX = b"/v1/units/"


class _InPath(Wire, frozen=True):
    unit_id: CallerId


class JourneyStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a journey: an assignment, what was shown of it, or an event."""

    at: str
    kind: str
    assignment: dict[str, Any] | None = None
    shown: dict[str, Any] | None = None
    event: dict[str, Any] | None = None


class Journey(msgspec.Struct, frozen=True):
    """All the ledger holds of a person: every id, and every step in time order."""

    unit_ids: list[str]
    links: list[str]
    journey: list[JourneyStep]


class Erased(msgspec.Struct, frozen=True):
    """How many ids of the person are forgotten."""

    erased_units: int


@call(
    "GET",
    "/v1/units/{unit_id:path}",
    scope=Scope.READ,
    summary="A person's journey, over all ids linked to this one",
    answer=Journey,
    problems=(404,),
)
async def read(request: AnyRequest) -> Response[bytes]:
    """Answer everything recorded of the person."""
    unit_id, store = _unit_id(request), store_of(request)

    def run(connection: Connection) -> dict[str, Any] | None:
        unit_nos = person_units(connection, store, unit_id)
        return journey(connection, store, unit_nos) if unit_nos else None

    found = await service_of(request).read(run)
    if found is None:
        raise not_found("unit", unit_id)
    return answer(found)


@call(
    "DELETE",
    "/v1/units/{unit_id:path}",
    scope=Scope.ADMIN,
    summary="Erase a person: ids, contexts and words; no sum changes",
    answer=Erased,
    problems=(404,),
)
async def forget(request: AnyRequest) -> Response[bytes]:
    """Erase the person, whichever of the ids is given."""
    unit_id, service, store = _unit_id(request), service_of(request), store_of(request)

    def run(connection: Connection) -> list[str]:
        unit_nos = person_units(connection, store, unit_id)
        if not unit_nos:
            raise not_found("unit", unit_id)
        return erase(connection, store, unit_nos)

    def forget_ids(raw_ids: list[str]) -> None:
        service.writer.forget_ids(store, raw_ids)

    erased = await service.change(store.store_no, run, after=forget_ids)
    return answer(Erased(len(erased)))


def _unit_id(request: AnyRequest) -> str:
    """The id from the path as it was sent: an id may hold a slash, which the router would swallow."""
    raw = request.scope["raw_path"].split(b"?", 1)[0]
    try:
        text = unquote_to_bytes(raw[raw.index(_PREFIX) + len(_PREFIX) :]).decode()
    except UnicodeDecodeError as error:
        raise bad_field("/unit_id", "bad_format", "percent-encode the id's UTF-8 bytes") from error
    return convert({"unit_id": text}, _InPath).unit_id


router = [read, forget]
