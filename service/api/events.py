"""`POST /v1/events`: what happened, one event or many; idempotent and in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.api.hot import HotCall, Later
from service.api.routing import Endpoint
from service.catalogue import StoreState
from service.context import Service
from service.event_content import Arrived, arrive
from service.event_types import AnyEvent
from service.hot.writer import Overloaded, WriterStopped
from service.keys import Principal, Scope
from service.problems import Problem, ProblemDocument, bad_field
from service.recording import ACCEPTED, DUPLICATE, Outcome
from service.wire import convert, decode

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


RECORD = Endpoint(
    scope=Scope.EVENTS,
    summary="Record one event, or a list of them",
    body={"anyOf": [AnyEvent, EventList]},  # no union for msgspec: a list of events has no `type`
    answer=EventsAnswer,
    publishable=True,
    key_in_query=True,
    problems=(404, 409),
)

_encode = msgspec.json.Encoder().encode
_read_one = msgspec.json.Decoder(AnyEvent).decode
_read_list = msgspec.json.Decoder(EventList).decode


def record(service: Service, store: StoreState, principal: Principal, raw: bytes) -> bytes | Later:
    """Record events; one alone that is refused is a problem, in a list it stands under `rejected`."""
    events, is_list = _events(raw)
    now_us = service.now_us(store)
    arrived: list[Arrived | Problem] = []
    good: list[Arrived] = []
    for event in events:
        if not isinstance(event, Problem):
            try:
                event = arrive(store, principal, event, now_us)
                good.append(event)
            except Problem as problem:
                event = problem
        arrived.append(event)
    if not good:
        return _content(arrived, [], is_list)
    try:
        made = service.writer.record(store, good)
    except (Overloaded, WriterStopped) as error:
        raise Problem(503, "overloaded", str(error), headers={"Retry-After": "1"}) from error
    return Later(made, lambda made: _content(arrived, made.recorded(), is_list))


def _content(arrived: Sequence[Arrived | Problem], made: Sequence[Outcome], is_list: bool) -> bytes:
    outcomes = made if len(made) == len(arrived) else _in_order(arrived, made)
    if not is_list and isinstance(outcomes[0], Problem):
        raise outcomes[0]
    return _encode(_view(outcomes))


def _events(raw: bytes) -> tuple[Sequence[AnyEvent | Problem], bool]:
    """The events of a body, and whether it is a list of them.

    Read straight into structs when all is well; else value by value, to find each fault. A name given twice
    is left to the slow way, where the last one counts.
    """
    is_list = raw[:16].lstrip().startswith(b'{"events"')
    try:
        raw.decode()
        events = _read_list(raw).events if is_list else [_read_one(raw)]
        if raw.count(b'"type"') == len(events):
            return events, is_list
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    body = decode(raw, dict[str, Any])
    if "type" in body or "events" not in body:
        return [convert(body, AnyEvent)], False
    return [_event(item) for item in _items(body)], True


def _event(item: Any) -> AnyEvent | Problem:
    try:
        return convert(item, AnyEvent)
    except Problem as problem:
        return problem


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


def _in_order(arrived: Sequence[Arrived | Problem], made: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes in the order of the body, what was refused at once among them."""
    recorded = iter(made)
    return [event if isinstance(event, Problem) else next(recorded) for event in arrived]


def _view(outcomes: Sequence[Outcome]) -> EventsAnswer:
    rejected = [
        Rejected(index, outcome.document())
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, Problem)
    ]
    return EventsAnswer(outcomes.count(ACCEPTED), outcomes.count(DUPLICATE), rejected)


hot = [HotCall("/v1/events", RECORD, record)]
