"""`POST /v1/assign`: which variant this unit gets, and what to show of it now.

Every well-formed request is answered with 200. Trouble on our side means the control's absence of an
offer and a reason code; the storefront never sees an error page.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response
from msgspec import Meta

from service.api.answering import DecisionView, view_of
from service.api.asking import AssignRequest, ask_of
from service.api.hot import HotCall, Later
from service.api.routing import AnyRequest, Endpoint, call
from service.assigning import Ask, Decision
from service.auth import principal_of, store_of
from service.catalogue import StoreState
from service.context import Service, service_of
from service.hot.ledger import LedgerUnavailable
from service.hot.waiting import Waiting
from service.hot.writer import Overloaded, WriterStopped
from service.keys import Principal, Scope
from service.problems import Problem, ProblemDocument
from service.wire import Wire, answer, body_of, convert, decoder_of

BATCH_MAX = 1000
log = logging.getLogger(__name__)

Decide = Callable[[Service, StoreState, list[Ask]], Awaitable[Sequence[Decision]]]
_encode = msgspec.json.Encoder().encode
_request_of = decoder_of(AssignRequest)


class BatchRequest(Wire, frozen=True):
    """Requests answered in order."""

    requests: Annotated[list[AssignRequest], Meta(max_length=BATCH_MAX)]


class _Batch(Wire, frozen=True):
    """The same with its requests unread: what is wrong with one must not fail the others."""

    requests: Annotated[list[Any], Meta(max_length=BATCH_MAX)]


class ProblemView(msgspec.Struct, frozen=True):
    """What stands in place of a decision that could not be made."""

    problem: ProblemDocument


class BatchAnswer(msgspec.Struct, frozen=True):
    """Decisions in the order of the requests."""

    decisions: list[DecisionView | ProblemView]


# Two structs without a tag are no union msgspec can describe, and a tag would stand on the wire.
BATCH_ANSWER: dict[str, Any] = {
    "type": "object",
    "description": "Decisions in the order of the requests.",
    "properties": {"decisions": {"type": "array", "items": {"anyOf": [DecisionView, ProblemView]}}},
    "required": ["decisions"],
}
ASSIGN = Endpoint(
    scope=Scope.ASSIGN,
    summary="Get or create a unit's assignment, and what to show now",
    body=Annotated[
        AssignRequest,
        Meta(extra_json_schema={"anyOf": [{"required": ["touchpoint"]}, {"required": ["experiment"]}]}),
    ],
    answer=DecisionView,
    publishable=True,
    problems=(404,),
)


def assign(service: Service, store: StoreState, principal: Principal, raw: bytes) -> bytes | Later:
    """Answer one request."""
    ask = ask_of(store, principal, _request_of(raw), service.now_us(store))
    decision = None if service.is_ledger_away else service.writer.sticky.decision(store, ask)
    if decision is not None:
        service.metrics.answers.count(store.store_no)
        return _encode(view_of(store, principal, decision))
    made = _put(service, store, [ask])
    if not isinstance(made, Waiting):
        return _encode(view_of(store, principal, made[0]))

    def finish(made: Waiting) -> bytes:
        return _encode(view_of(store, principal, _made(service, store, [ask], made)[0]))

    return Later(made, finish)


@call(
    "POST",
    "/v1/assign/batch",
    scope=Scope.ASSIGN,
    summary="The same for up to 1,000 requests",
    body=BatchRequest,
    answer=BATCH_ANSWER,
)
async def assign_batch(request: AnyRequest) -> Response[bytes]:
    """Answer many requests in order; one that cannot be made has a problem in its place."""
    return await answer_many(request, decide)


async def answer_one(request: AnyRequest, decide: Decide) -> Response[bytes]:
    """Read one request, have it decided, answer."""
    service, store, principal = service_of(request), store_of(request), principal_of(request)
    wanted = await body_of(request, AssignRequest)
    decisions = await decide(service, store, [ask_of(store, principal, wanted, service.now_us(store))])
    return answer(view_of(store, principal, decisions[0]))


async def answer_many(request: AnyRequest, decide: Decide) -> Response[bytes]:
    """The same for a batch."""
    service, store, principal = service_of(request), store_of(request), principal_of(request)
    batch = await body_of(request, _Batch)
    asks: list[Ask | Problem] = []
    now_us = service.now_us(store)
    for raw in batch.requests:
        try:
            asks.append(ask_of(store, principal, convert(raw, AssignRequest), now_us))
        except Problem as problem:
            asks.append(problem)
    made = iter(await decide(service, store, [ask for ask in asks if isinstance(ask, Ask)]))
    views = [
        ProblemView(ask.document()) if isinstance(ask, Problem) else view_of(store, principal, next(made))
        for ask in asks
    ]
    return answer(BatchAnswer(views))


async def fall_back(service: Service, store: StoreState, asks: list[Ask]) -> Sequence[Decision]:
    """No offer for anybody, and nothing recorded: the ledger cannot be asked who has which variant."""
    service.metrics.answers.count(store.store_no, len(asks), len(asks))
    for _ in asks:
        service.metrics.count_fallback("fallback")
    return [Decision("fallback", ask.experiments[0] if ask.experiments else None) for ask in asks]


async def decide(service: Service, store: StoreState, asks: list[Ask]) -> Sequence[Decision]:
    """Decisions, committed; when that cannot be had in time, what is known in memory or no offer."""
    if not asks:
        return []
    made = _put(service, store, asks)
    return _made(service, store, asks, await made) if isinstance(made, Waiting) else made


def _put(service: Service, store: StoreState, asks: list[Ask]) -> Waiting | Sequence[Decision]:
    """Have the writer decide; what is answered instead when it takes no more."""
    deadline_s = store.settings.deadline_ms / 1000 if len(asks) == 1 else None
    try:
        return service.writer.assign(store, asks, deadline_s)
    except (Overloaded, WriterStopped):
        return _without_ledger(service, store, asks, "overloaded")


def _made(service: Service, store: StoreState, asks: list[Ask], made: Waiting) -> Sequence[Decision]:
    """What the writer, who is done, has decided; what is answered instead when he could not in time."""
    try:
        decisions = made.made()
        if decisions is not None:
            service.metrics.answers.count(store.store_no, len(asks))
            return decisions
    except LedgerUnavailable:
        pass  # the writer says so, once
    except Exception as error:
        log.error("an assignment failed, it is answered without the ledger: %s", type(error).__name__)
    return _without_ledger(service, store, asks, "fallback")


def _without_ledger(service: Service, store: StoreState, asks: list[Ask], reason: str) -> list[Decision]:
    """Each unit's variant as last committed when it is in memory, else no offer; nothing is recorded."""
    service.metrics.answers.count(store.store_no, len(asks), len(asks))
    decisions: list[Decision] = []
    for ask in asks:
        known = service.writer.sticky.stale(store, ask)
        decision = known or Decision(reason, ask.experiments[0] if ask.experiments else None)
        service.metrics.count_fallback(decision.reason)
        decisions.append(decision)
    return decisions


router = [assign_batch]
hot = [HotCall("/v1/assign", ASSIGN, assign)]
