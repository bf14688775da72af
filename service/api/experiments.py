"""Experiments as data: create, read, patch, and along their life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler
from sqlalchemy import Connection

from experiments.document import experiment_schema, parse_document, to_document
from service import experiment_changes as changes
from service.api.paging import Page, cut, row_after
from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.catalogue import LiveExperiment
from service.clock import to_wire
from service.context import service_of
from service.experiment_changes import Change
from service.keys import Scope
from service.problems import not_found
from service.wire import Wire, answer, body_of, decode, object_of, query_of, require_match

DOCUMENT = experiment_schema()
VARIANT = DOCUMENT["properties"]["variants"]["items"]
REPLACEMENT = {
    "type": "object",
    "description": "What takes the variant's place, and how much of what is known of it carries over.",
    "properties": {
        "variant": VARIANT,
        "discount": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "maximum": 1,
            "default": None,
            "description": "What each unit of the replaced variant counts for the new one; null: nothing.",
        },
    },
    "required": ["variant"],
    "additionalProperties": False,
}
PATCH = {"type": "object", "description": "A JSON merge patch (RFC 7396) of the experiment document."}


class VariantView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variant and whether it may be shown; of one added later also when, and whose place it took."""

    key: str
    state: str
    added_at: str | None = None
    replaces: str | None = None


class ExperimentView(msgspec.Struct, frozen=True):
    """An experiment: its document, and where it is in its life."""

    key: str
    state: str
    version: int
    created_at: str
    started_at: str | None
    document: dict[str, Any]
    variants: list[VariantView]


class ExperimentList(msgspec.Struct, frozen=True):
    """A page of experiments, oldest first."""

    items: list[ExperimentView]
    next_cursor: str | None


class Promotion(Wire, frozen=True):
    """The variant to promote."""

    variant: str


class Replacement(Wire, frozen=True):
    """What takes the variant's place, and how much of what is known of it carries over."""

    variant: dict[str, Any]
    discount: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None


class Nothing(Wire, frozen=True):
    """No fields: the call says it all."""


@call(
    "GET",
    "/v1/experiments",
    scope=Scope.READ,
    summary="List experiments",
    query=Page,
    answer=ExperimentList,
)
async def list_experiments(request: AnyRequest) -> Response[bytes]:
    """List every experiment of the store, archived ones too."""
    page = query_of(request, Page)
    after = row_after(page)
    every = sorted(store_of(request).experiments.values(), key=lambda live: live.experiment_no)
    rest = [live for live in every if live.experiment_no > after]
    kept, cursor = cut(rest, page, lambda live: live.experiment_no)
    return answer(ExperimentList([_view(live) for live in kept], cursor))


@call(
    "POST",
    "/v1/experiments",
    scope=Scope.WRITE,
    summary="Create an experiment; an equal document changes nothing (200)",
    body=DOCUMENT,
    answer=ExperimentView,
    status=201,
    problems=(409,),
)
async def create(request: AnyRequest) -> Response[bytes]:
    """Create a draft, or answer the experiment that is there with the same document."""
    document = await object_of(request)
    service, store = service_of(request), store_of(request)
    experiment = parse_document(document, currency_default=store.settings.currency)
    at_us = service.now_us(store)
    made = await service.change(
        store.store_no, lambda connection: changes.create(Change(connection, store, at_us), experiment)
    )
    return _answer(request, experiment.key, status=201 if made else 200)


@call(
    "GET",
    "/v1/experiments/{key:str}",
    scope=Scope.READ,
    summary="One experiment",
    answer=ExperimentView,
    problems=(404,),
)
async def read(request: AnyRequest, key: str) -> Response[bytes]:
    """Answer the experiment with its version as ETag."""
    return _answer(request, key)


@call(
    "PATCH",
    "/v1/experiments/{key:str}",
    scope=Scope.WRITE,
    summary="Change the document by a JSON merge patch; needs If-Match",
    body=PATCH,
    answer=ExperimentView,
    problems=(404, 409, 412, 428),
)
async def patch(request: AnyRequest, key: str) -> Response[bytes]:
    """Patch the version the caller has read."""
    version = require_match(request)
    document_patch = await object_of(request)
    return await _change(request, key, lambda change: changes.patch(change, key, version, document_patch))


def _transition(action: str, summary: str) -> HTTPRouteHandler:
    @call(
        "POST",
        f"/v1/experiments/{{key:str}}/{action}",
        scope=Scope.WRITE,
        summary=summary,
        body=Nothing | None,
        answer=ExperimentView,
        problems=(404, 409),
    )
    async def step(request: AnyRequest, key: str) -> Response[bytes]:
        await _no_fields(request)
        return await _change(request, key, lambda change: changes.transition(change, key, action))

    return step


def _variant_action(action: str, summary: str) -> HTTPRouteHandler:
    @call(
        "POST",
        f"/v1/experiments/{{key:str}}/variants/{{variant:str}}/{action}",
        scope=Scope.WRITE,
        summary=summary,
        body=Nothing | None,
        answer=ExperimentView,
        problems=(404, 409),
    )
    async def step(request: AnyRequest, key: str, variant: str) -> Response[bytes]:
        await _no_fields(request)
        return await _change(
            request, key, lambda change: changes.set_variant_state(change, key, variant, action)
        )

    return step


@call(
    "POST",
    "/v1/experiments/{key:str}/promote",
    scope=Scope.WRITE,
    summary="Give a variant all but the control's share",
    body=Promotion,
    answer=ExperimentView,
    problems=(404, 409),
)
async def promote(request: AnyRequest, key: str) -> Response[bytes]:
    """Promote a variant."""
    wanted = await body_of(request, Promotion)
    return await _change(request, key, lambda change: changes.promote(change, key, wanted.variant))


@call(
    "POST",
    "/v1/experiments/{key:str}/variants",
    scope=Scope.WRITE,
    summary="Add a variant",
    body=VARIANT,
    answer=ExperimentView,
    status=201,
    problems=(404, 409),
)
async def add_variant(request: AnyRequest, key: str) -> Response[bytes]:
    """Append a variant to the document."""
    variant = await object_of(request)
    response = await _change(request, key, lambda change: changes.add_variant(change, key, variant))
    response.status_code = 201
    return response


@call(
    "POST",
    "/v1/experiments/{key:str}/variants/{variant:str}/replace",
    scope=Scope.WRITE,
    summary="Retire a variant and add another in its place; discount: begin with its results",
    body=REPLACEMENT,
    answer=ExperimentView,
    status=201,
    problems=(404, 409),
)
async def replace_variant(request: AnyRequest, key: str, variant: str) -> Response[bytes]:
    """Retire one variant and append another, as one version."""
    wanted = await body_of(request, Replacement)
    response = await _change(
        request,
        key,
        lambda change: changes.replace_variant(change, key, variant, wanted.variant, wanted.discount),
    )
    response.status_code = 201
    return response


async def _change(request: AnyRequest, key: str, run: Callable[[Change], None]) -> Response[bytes]:
    service, store = service_of(request), store_of(request)
    at_us = service.now_us(store)

    def in_writer(connection: Connection) -> None:
        run(Change(connection, store, at_us))

    await service.change(store.store_no, in_writer)
    return _answer(request, key)


async def _no_fields(request: AnyRequest) -> None:
    if await request.body():
        decode(await request.body(), cast("Any", Nothing | None))


def _answer(request: AnyRequest, key: str, *, status: int = 200) -> Response[bytes]:
    live = store_of(request).experiments.get(key)
    if live is None:
        raise not_found("experiment", key)
    return answer(_view(live), status=status, etag=live.version)


def _view(live: LiveExperiment) -> ExperimentView:
    started = live.started_at_us
    return ExperimentView(
        key=live.key,
        state=live.state.value,
        version=live.version,
        created_at=to_wire(live.created_at_us),
        started_at=None if started is None else to_wire(started),
        document=to_document(live.experiment),
        variants=[
            VariantView(
                variant.key,
                live.variant_states[variant.key].value,
                None if variant.key not in live.added else to_wire(live.added[variant.key]),
                live.replaces.get(variant.key),
            )
            for variant in live.experiment.variants
        ],
    )


router = [
    list_experiments,
    create,
    read,
    patch,
    promote,
    add_variant,
    replace_variant,
    _transition("start", "Start a draft: from now on it assigns, and parts of it are frozen"),
    _transition("pause", "Pause: nobody new is assigned, everybody sees no offer"),
    _transition("resume", "Go on after a pause"),
    _transition("stop", "Stop for good; outcomes are still counted"),
    _transition("archive", "Put a stopped experiment or a draft away; its key is never reused"),
    _variant_action("retire", "Show a variant no more; its units keep it and see no offer"),
    _variant_action("resume", "Show a retired or killed variant again"),
]
