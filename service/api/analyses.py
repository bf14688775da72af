"""Fits of the pooled model: ask for one, see what came of it, cancel it."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Annotated, Any

import msgspec
from litestar import Response
from msgspec import Meta
from sqlalchemy import Connection, Row

from experiments.model import PolicyKind
from experiments.times import parse_duration
from service.api.paging import Page, cut, row_after
from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.catalogue import LiveExperiment
from service.clock import to_wire
from service.context import service_of
from service.keys import Scope
from service.ledger import analyses
from service.ledger.analyses import QueueFull, State
from service.problems import bad_field, conflict, not_found
from service.wire import Key, Wire, answer, decode, query_of

TIME_LIMIT_MAX_S = 3600
_NUMBER_MAX = 18  # digits


class AnalysisWanted(Wire, frozen=True):
    """What to fit."""

    matured: Annotated[
        bool | None,
        Meta(
            description="Only cohorts whose window has closed; null: as the report, unless shares are fixed."
        ),
    ] = None
    with_: Annotated[
        list[Key],
        Meta(
            description="Other experiments to pool with: variants of one key are taken for one offer.",
            max_length=9,
        ),
    ] = msgspec.field(default_factory=list[str], name="with")
    draws: Annotated[int, Meta(description="Of each of four chains.", ge=100, le=10_000)] = 1000
    time_limit: Annotated[
        str,
        Meta(
            description="`<int>(s|m|h)`, at most 1h: then it is ended.", pattern=r"^[0-9]{1,4}[smh](?![\s\S])"
        ),
    ] = "15m"


class AnalysisReason(msgspec.Struct, frozen=True):
    """Why there is no figure."""

    code: str
    detail: str


class AnalysisView(msgspec.Struct, frozen=True):
    """An analysis: queued, running, done, refused (the model does not fit), failed or cancelled."""

    id: str
    experiment: str
    state: State
    settings: dict[str, Any]
    created_at: str
    started_at: str | None
    ended_at: str | None
    attempt: int
    reasons: list[AnalysisReason]
    result: dict[str, Any] | None
    """Figures by variant and by segment, diagnostics and checks; null in a list, and until it has ended."""


class AnalysisList(msgspec.Struct, frozen=True):
    """A page of analyses, oldest first."""

    items: list[AnalysisView]
    next_cursor: str | None


@call(
    "POST",
    "/v1/experiments/{key:str}/analyses",
    scope=Scope.WRITE,
    summary="Queue a fit of the pooled model",
    body=AnalysisWanted | None,
    answer=AnalysisView,
    status=202,
    problems=(404, 409),
)
async def queue_analysis(request: AnyRequest, key: str) -> Response[bytes]:
    """Queue it; one that waits or runs with the same settings is answered again."""
    wanted = _wanted(await request.body())
    store, service = store_of(request), service_of(request)
    live = live_of(request, key)
    _check_others(store.experiments, live, wanted.with_)
    if find_spec("pymc") is None:
        raise conflict(
            "not_installed", "the service lacks PyMC: pip install 'rialto[analysis]' where it runs"
        )
    settings = {
        "matured": wanted.matured,
        "with": wanted.with_,
        "draws": wanted.draws,
        "time_limit_s": _seconds(wanted.time_limit),
    }

    def queued(connection: Connection) -> Row[Any]:
        number = analyses.queue(connection, store.store_no, live.experiment_no, settings, _now_us())
        row = analyses.find(connection, live.experiment_no, number)
        assert row is not None, "just queued"
        return row

    try:
        row = await service.writer.submit(queued)
    except QueueFull as error:
        detail = f"{analyses.WAITING_MAX} analyses of this store wait: let some end, or cancel them"
        raise conflict("queue_full", detail) from error
    return answer(_view(row, key), status=202)


def _wanted(raw: bytes) -> AnalysisWanted:
    """What the body asks for: the defaults where there is none, or null; 1000.0 draws are 1000 in JSON."""
    if raw.strip() in (b"", b"null"):
        return AnalysisWanted()
    plain: Any = decode(raw, object)
    draws = plain.get("draws") if isinstance(plain, dict) else None
    if isinstance(draws, float) and draws.is_integer():
        raw = msgspec.json.encode({**plain, "draws": int(draws)})
    return decode(raw, AnalysisWanted)


@call(
    "GET",
    "/v1/experiments/{key:str}/analyses",
    scope=Scope.READ,
    summary="Every analysis that was asked for, without its figures",
    query=Page,
    answer=AnalysisList,
    problems=(404,),
)
async def list_analyses(request: AnyRequest, key: str) -> Response[bytes]:
    """List them, oldest first."""
    page = query_of(request, Page)
    live = live_of(request, key)
    after = row_after(page)
    rows = await service_of(request).read(
        lambda c: analyses.analyses_after(c, live.experiment_no, after, page.limit + 1)
    )
    kept, cursor = cut(rows, page, lambda row: row.analysis_no)
    return answer(AnalysisList([_view(row, key, is_listed=True) for row in kept], cursor))


@call(
    "GET",
    "/v1/experiments/{key:str}/analyses/{analysis_id:str}",
    scope=Scope.READ,
    summary="An analysis: where it is, and its figures or why there are none",
    answer=AnalysisView,
    problems=(404,),
)
async def get_analysis(request: AnyRequest, key: str, analysis_id: str) -> Response[bytes]:
    """Answer one analysis."""
    live = live_of(request, key)
    number = number_of(analysis_id)
    row = await service_of(request).read(lambda c: analyses.find(c, live.experiment_no, number))
    if row is None:
        raise not_found("analysis", analysis_id)
    return answer(_view(row, key))


@call(
    "DELETE",
    "/v1/experiments/{key:str}/analyses/{analysis_id:str}",
    scope=Scope.WRITE,
    summary="Cancel an analysis that has not ended",
    answer=AnalysisView,
    problems=(404, 409),
)
async def cancel_analysis(request: AnyRequest, key: str, analysis_id: str) -> Response[bytes]:
    """Cancel it; its process ends within seconds. One that is cancelled already is answered as it is."""
    live = live_of(request, key)
    service, number = service_of(request), number_of(analysis_id)
    state = await service.writer.submit(lambda c: analyses.cancel(c, live.experiment_no, number, _now_us()))
    if state is None:
        raise not_found("analysis", analysis_id)
    if state is not State.CANCELLED:
        raise conflict("ended", f"analysis {analysis_id} has ended: it is {state}")
    row = await service.read(lambda c: analyses.find(c, live.experiment_no, number))
    assert row is not None, "rows are never deleted"
    return answer(_view(row, key))


def live_of(request: AnyRequest, key: str) -> LiveExperiment:
    """The experiment of that key; Problem 404 when the store has none."""
    live = store_of(request).experiments.get(key)
    if live is None:
        raise not_found("experiment", key)
    return live


def _check_others(every: Any, live: LiveExperiment, others: list[str]) -> None:
    """Raise the Problem unless these experiments can be one model."""
    mine = live.experiment
    for place, name in enumerate(others):
        pointer = f"/with/{place}"
        other = every.get(name)
        if other is None:
            raise bad_field(pointer, "unknown_experiment", f"this store has no experiment {name!r}")
        if name == live.key or name in others[:place]:
            raise bad_field(pointer, "given_twice", "name each other experiment once")
        theirs = other.experiment
        if theirs.currency != mine.currency or theirs.control.key != mine.control.key:
            remedy = f"pool experiments of one currency and control key ({mine.currency}, {mine.control.key})"
            raise bad_field(pointer, "not_poolable", remedy)
    if PolicyKind.CONTEXTUAL in {every[name].experiment.policy.kind for name in [live.key, *others]}:
        detail = "under a contextual policy each shopper had shares of his own: read the report"
        raise conflict("contextual", detail)


def _seconds(text: str) -> int:
    seconds = int(parse_duration(text).total_seconds())
    if not 0 < seconds <= TIME_LIMIT_MAX_S:
        raise bad_field("/time_limit", "out_of_range", "write between 1s and 1h")
    return seconds


def number_of(text: str) -> int:
    """The row number of an id; one that is none exists nowhere."""
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_MAX):
        raise not_found("analysis", text)
    return int(text)


def _view(row: Row[Any], key: str, *, is_listed: bool = False) -> AnalysisView:
    result = dict(row.result)
    reasons = [AnalysisReason(**reason) for reason in result.pop("reasons", [])]
    return AnalysisView(
        id=str(row.analysis_no),
        experiment=key,
        state=State(row.state),
        settings=row.settings,
        created_at=to_wire(row.created_at_us),
        started_at=None if row.started_at_us is None else to_wire(row.started_at_us),
        ended_at=None if row.ended_at_us is None else to_wire(row.ended_at_us),
        attempt=row.attempt,
        reasons=reasons,
        result=None if is_listed or not result else result,
    )


def _now_us() -> int:
    return time.time_ns() // 1000


router = [queue_analysis, list_analyses, get_analysis, cancel_analysis]
