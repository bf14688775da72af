"""The ledger as lists: decisions and events, in pages or as a stream of lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from litestar import Response
from litestar.response import Stream
from sqlalchemy import Connection

from service.api.paging import LIMIT_MAX, Cursor, Limit, cursor_of, place_of
from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.catalogue import StoreState
from service.context import Service, service_of
from service.keys import Scope
from service.ledger import journeys
from service.ledger.journeys import Filter
from service.ledger.units import find_units
from service.problems import not_found
from service.wire import CallerId, Key, Time, Wire, answer, instant_us, query_of

NDJSON = "application/x-ndjson"
_LIMIT = 100


class LedgerQuery(Wire, frozen=True, rename={"from_": "from"}):
    """Which rows: by experiment, unit and time (`to` is exclusive)."""

    experiment: Key | None = None
    unit: CallerId | None = None
    from_: Time | None = None
    to: Time | None = None
    limit: Limit | None = None
    cursor: Cursor | None = None


class DecisionView(msgspec.Struct, frozen=True):
    """An assignment as it was recorded."""

    decision_id: str
    experiment: str
    unit_id: str | None
    variant: str
    propensity: float
    policy_version: int
    epoch: int
    segment: str
    forced: bool
    at: str


class EventView(msgspec.Struct, frozen=True):
    """An event as it was accepted; `content` is what it said beside its keys."""

    event_id: str
    type: str
    occurred_at: str
    received_at: str
    clamped: bool
    unit_ids: list[str]
    experiment: str | None
    decision_id: str | None
    order_id: str | None
    refund_id: str | None
    content: dict[str, Any]


class DecisionList(msgspec.Struct, frozen=True):
    """A page of decisions."""

    items: list[DecisionView]
    next_cursor: str | None


class EventList(msgspec.Struct, frozen=True):
    """A page of events."""

    items: list[EventView]
    next_cursor: str | None


Place = tuple[int, ...]
Views = list[dict[str, Any]]
Read = Callable[[Connection, Place, int], tuple[Views, Place | None]]


@call(
    "GET",
    "/v1/ledger/decisions",
    scope=Scope.READ,
    summary="Assignments, as pages or NDJSON",
    query=LedgerQuery,
    answer=DecisionList,
    problems=(404,),
)
async def decisions(request: AnyRequest) -> Response[bytes] | Stream:
    """List assignments by experiment and unit."""

    def key(row: Any) -> Place:
        return (row.unit_no, row.experiment_no, row.period)

    return await _list(request, journeys.decisions_after, journeys.decision_views, key, 3)


@call(
    "GET",
    "/v1/ledger/events",
    scope=Scope.READ,
    summary="Events, as pages or NDJSON",
    query=LedgerQuery,
    answer=EventList,
    problems=(404,),
)
async def events(request: AnyRequest) -> Response[bytes] | Stream:
    """List events in the order they were recorded."""
    return await _list(request, journeys.events_after, journeys.event_views, lambda row: (row.event_no,), 1)


async def _list(
    request: AnyRequest,
    rows_after: Callable[[Connection, StoreState, Filter, Sequence[int], int], Sequence[Any]],
    views: Callable[[Connection, StoreState, Sequence[Any]], Views],
    key: Callable[[Any], Place],
    key_length: int,
) -> Response[bytes] | Stream:
    query = query_of(request, LedgerQuery)
    service, store = service_of(request), store_of(request)
    wanted = await service.read(lambda connection: _filter(connection, store, query))
    start = tuple(place_of(query.cursor, key_length)) if query.cursor is not None else ()

    def read(connection: Connection, after: Place, limit: int) -> tuple[Views, Place | None]:
        rows = rows_after(connection, store, wanted, after, limit + 1)
        kept = rows[:limit]
        return views(connection, store, kept), key(kept[-1]) if len(rows) > limit else None

    if NDJSON in request.headers.get("accept", ""):
        return Stream(_lines(service, read, start, query.limit), media_type=NDJSON)
    limit = query.limit or _LIMIT
    items, place = await service.read(lambda connection: read(connection, start, limit))
    return answer({"items": items, "next_cursor": None if place is None else cursor_of(place)})


async def _lines(service: Service, read: Read, start: Place, limit: int | None) -> AsyncIterator[bytes]:
    """One JSON object a line, read in short slices: a long list never holds a snapshot open."""
    place: Place | None = start
    left = limit
    while place is not None and left != 0:
        size = LIMIT_MAX if left is None else min(left, LIMIT_MAX)
        items, place = await service.read(_slice(read, place, size))
        left = None if left is None else left - len(items)
        yield b"".join(msgspec.json.encode(item) + b"\n" for item in items)


def _slice(read: Read, place: Place, size: int) -> Callable[[Connection], tuple[Views, Place | None]]:
    return lambda connection: read(connection, place, size)


def _filter(connection: Connection, store: StoreState, query: LedgerQuery) -> Filter:
    experiment_no = None
    if query.experiment is not None:
        live = store.experiments.get(query.experiment)
        if live is None:
            raise not_found("experiment", query.experiment)
        experiment_no = live.experiment_no
    unit_nos = None
    if query.unit is not None:
        unit_nos = tuple(find_units(connection, store, [query.unit]).values())
    return Filter(
        experiment_no=experiment_no,
        unit_nos=unit_nos,
        from_us=None if query.from_ is None else instant_us(query.from_, "?from"),
        to_us=None if query.to is None else instant_us(query.to, "?to"),
    )


router = [decisions, events]
