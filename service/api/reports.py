"""What the growth team reads: report, policy, the store's summary."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
from litestar import Response

from experiments.analysis.metrics import metric_definitions
from experiments.times import parse_instant
from service import reporting
from service.api.report_types import ReportView
from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.catalogue import LiveExperiment
from service.clock import to_micros
from service.context import service_of
from service.jobs.folder import fold_pending
from service.keys import Scope
from service.ledger.summary import Summary, summarise
from service.problems import bad_field, not_found
from service.wire import Time, answer, query_of

_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
DAY_OR_INSTANT = "a day (2026-03-01) or an RFC 3339 time with offset"


DayOrTime = Annotated[
    str, msgspec.Meta(extra_json_schema={"anyOf": [{"format": "date"}, {"format": "date-time"}]})
]


class ReportQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which part of the report, over which cohorts."""

    metric: str | None = None
    segment: str | None = None
    from_: DayOrTime | None = msgspec.field(default=None, name="from")
    to: DayOrTime | None = None
    matured: bool | None = None


class PolicyQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Whether every version is wanted."""

    all: bool = False


class SummaryQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Orders by their own time."""

    from_: Time | None = msgspec.field(default=None, name="from")
    to: Time | None = None


@call(
    "GET",
    "/v1/experiments/{key:str}/report",
    scope=Scope.READ,
    summary="The analysis: metrics with intervals, lifts, guardrails, checks and the verdict",
    query=ReportQuery,
    answer=ReportView,
    problems=(404,),
)
async def report(request: AnyRequest, key: str) -> Response[bytes]:
    """Fold what is pending, then answer the report."""
    query = query_of(request, ReportQuery)
    live = _live(request, key)
    service, store = service_of(request), store_of(request)
    definitions = metric_definitions(live.experiment)
    if query.metric is not None and query.metric not in definitions:
        known = ", ".join(definitions)
        raise bad_field("?metric", "unknown_metric", f"use one of {known}")
    days = {
        "from_day": _day(query.from_, "?from", live.time_zone),
        "to_day": _day(query.to, "?to", live.time_zone, is_end=True),
    }
    now_us = service.now_us(store)
    await fold_pending(service, store.store_no)
    document = await service.read(
        lambda connection: reporting.report(
            connection,
            live,
            now_us,
            metric=query.metric,
            segment=query.segment,
            matured=query.matured,
            **days,
        )
    )
    return answer(document)


@call(
    "GET",
    "/v1/experiments/{key:str}/policy",
    scope=Scope.READ,
    summary="Current shares, posteriors and guardrail states; ?all=true: every version",
    query=PolicyQuery,
    answer=dict[str, Any],
    problems=(404,),
)
async def policy(request: AnyRequest, key: str) -> Response[bytes]:
    """Answer the policy."""
    query = query_of(request, PolicyQuery)
    live = _live(request, key)
    service = service_of(request)
    document = await service.read(lambda c: reporting.policy(c, live, everything=query.all))
    return answer(document)


@call(
    "GET",
    "/v1/store/summary",
    scope=Scope.READ,
    summary="Orders, revenue, refunds: booked, by the order's time",
    query=SummaryQuery,
    answer=Summary,
)
async def summary(request: AnyRequest) -> Response[bytes]:
    """Fold what is pending, then answer the summary."""
    query = query_of(request, SummaryQuery)
    service, store = service_of(request), store_of(request)
    from_us, to_us = _instant(query.from_, "?from"), _instant(query.to, "?to")
    await fold_pending(service, store.store_no)
    found = await service.read(lambda connection: summarise(connection, store, from_us, to_us))
    return answer(found)


def _live(request: AnyRequest, key: str) -> LiveExperiment:
    live = store_of(request).experiments.get(key)
    if live is None:
        raise not_found("experiment", key)
    return live


def _day(text: str | None, pointer: str, time_zone: str, *, is_end: bool = False) -> date | None:
    """A cohort day (included), or the day an instant falls on; an instant that ends lies outside."""
    if text is None:
        return None
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
        instant = parse_instant(text) - timedelta(microseconds=int(is_end))
        return instant.astimezone(ZoneInfo(time_zone)).date()
    except (ValueError, OverflowError) as error:  # the latter at the calendar's two ends
        raise bad_field(pointer, "bad_time", f"write {DAY_OR_INSTANT}") from error


def _instant(text: str | None, pointer: str) -> int | None:
    if text is None:
        return None
    try:
        return to_micros(parse_instant(text))
    except ValueError as error:
        raise bad_field(
            pointer, "bad_time", "write an RFC 3339 time with offset, such as 2026-03-01T12:00:00Z"
        ) from error


router = [report, policy, summary]
