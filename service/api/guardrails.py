"""Changes of state of guardrails and circuit breakers, as the ledger keeps them."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response

from service.api.paging import Page, cut, row_after
from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.clock import to_wire
from service.context import service_of
from service.jobs.guardrail_changes import changes_after
from service.keys import Scope
from service.problems import not_found
from service.wire import answer, query_of


class GuardrailChange(msgspec.Struct, frozen=True):
    """One change: of which guardrail or breaker, from what to what, because of which numbers."""

    at: str
    policy_version: int
    kind: str
    subject: str
    variant: str | None
    before: str
    after: str
    cause: str
    numbers: dict[str, Any]


class GuardrailChangeList(msgspec.Struct, frozen=True):
    """A page of changes, oldest first."""

    items: list[GuardrailChange]
    next_cursor: str | None


@call(
    "GET",
    "/v1/experiments/{key:str}/guardrail-changes",
    scope=Scope.READ,
    summary="Every change of state of a guardrail or a circuit breaker, with its numbers",
    query=Page,
    answer=GuardrailChangeList,
    problems=(404,),
)
async def list_changes(request: AnyRequest, key: str) -> Response[bytes]:
    """List the changes of an experiment, oldest first."""
    page = query_of(request, Page)
    live = store_of(request).experiments.get(key)
    if live is None:
        raise not_found("experiment", key)
    after = row_after(page)
    rows = await service_of(request).read(
        lambda connection: changes_after(connection, live.experiment_no, after, page.limit + 1)
    )
    kept, cursor = cut(rows, page, lambda row: row["change_no"])
    return answer(GuardrailChangeList([_view(row) for row in kept], cursor))


def _view(row: dict[str, Any]) -> GuardrailChange:
    return GuardrailChange(
        at=to_wire(row["at_us"]),
        policy_version=row["policy_version"],
        kind=row["kind"],
        subject=row["subject"],
        variant=row["variant"],
        before=row["before"],
        after=row["after"],
        cause=row["cause"],
        numbers=row["numbers"],
    )


router = [list_changes]
