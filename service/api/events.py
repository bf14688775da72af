"""`POST /v1/events`: what happened, one event or many; idempotent and in any order."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response
from msgspec import Meta

from service.api.routing import AnyRequest, call
from service.auth import principal_of, store_of
from service.context import service_of
from service.event_content import Arrived, arrive
from service.event_types import AnyEvent
from service.hot.writer import Overloaded, WriterStopped
from service.keys import Scope
from service.problems import Problem, ProblemDocument, bad_field
from service.recording import ACCEPTED, DUPLICATE, Outcome
from service.wire import answer, convert, decode

BATCH_MAX = 1000


class EventList(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Up to 1,000 events."""

    events: Annotated[list[AnyEvent], Meta(max_length=BATCH_MAX)]


class Rejected(msgspec.Struct, frozen=True):
    """An event of the list that was not recorded."""

    index: int
    problem: ProblemDocument


class EventsAnswer(msgspec.Struct, frozen=True):
    """What became of the events."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


@call(
    "POST",
    "/v1/events",
    scope=Scope.EVENTS,
    summary="Record one event, or a list of them",
    body={"anyOf": [AnyEvent, EventList]},  # no union for msgspec: a list of events has no `type`
    answer=EventsAnswer,
    publishable=True,
    key_in_query=True,
    problems=(404, 409, 503),
)
async def record(request: AnyRequest) -> Response[bytes]:
    """Record events; one alone that is refused is a problem, in a list it stands under `rejected`."""
    service, store, principal = service_of(request), store_of(request), principal_of(request)
    raw = await request.body()
    body = decode(raw, dict[str, Any])
    now_us = service.now_us(store)
    is_list = "events" in body and "type" not in body
    items = _items(body) if is_list else [body]
    arrived: list[Arrived | Problem] = []
    for item in items:
        try:
            arrived.append(arrive(store, principal, convert(item, AnyEvent), now_us))
        except Problem as problem:
            arrived.append(problem)
    good = [event for event in arrived if isinstance(event, Arrived)]
    try:
        made = iter(await service.writer.record(store, good) if good else [])
    except (Overloaded, WriterStopped) as error:
        raise Problem(503, "overloaded", str(error), headers={"Retry-After": "1"}) from error
    outcomes = [event if isinstance(event, Problem) else next(made) for event in arrived]
    if not is_list and isinstance(outcomes[0], Problem):
        raise outcomes[0]
    return answer(_view(outcomes))


def _items(body: dict[str, Any]) -> list[Any]:
    extra = sorted(set(body) - {"events"})
    if extra:
        raise bad_field(f"/{extra[0]}", "unknown_field", "a list of events has the field events only")
    items = body["events"]
    if not isinstance(items, list):
        raise bad_field("/events", "wrong_type", "must be an array of events")
    if len(items) > BATCH_MAX:
        raise bad_field("/events", "too_many", f"send at most {BATCH_MAX} events, found {len(items)}")
    return items


def _view(outcomes: list[Outcome]) -> EventsAnswer:
    rejected = [
        Rejected(index, outcome.document())
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, Problem)
    ]
    return EventsAnswer(outcomes.count(ACCEPTED), outcomes.count(DUPLICATE), rejected)


router = [record]
