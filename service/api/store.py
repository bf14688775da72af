"""The store's settings, and the clock of a simulated store."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response
from sqlalchemy import Connection, select, update

from experiments.errors import FieldError
from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.catalogue import settings_of
from service.clock import is_in_calendar, to_wire
from service.context import service_of
from service.jobs.folder import fold_pending
from service.jobs.loop import take_steps
from service.keys import Scope
from service.ledger import schema
from service.problems import bad_field, conflict
from service.settings import ClockKind
from service.store_settings import StoreDocument, document_of, patched
from service.wire import Time, Wire, answer, body_of, instant_us, object_of, require_match, stale

PATCH = {"type": "object", "description": "A JSON merge patch (RFC 7396) of the store's settings."}


class NewTime(Wire, frozen=True):
    """The time it shall be in the store."""

    now: Time


class ClockAnswer(msgspec.Struct, frozen=True):
    """The time it is now, and how many steps folder and allocator have taken."""

    now: str
    steps: int


@call("GET", "/v1/store", scope=Scope.ADMIN, summary="The store's settings", answer=StoreDocument)
async def read(request: AnyRequest) -> Response[bytes]:
    """Answer the settings with their version as ETag."""
    return _answer(request)


@call(
    "PATCH",
    "/v1/store",
    scope=Scope.ADMIN,
    summary="Change settings by a JSON merge patch; needs If-Match",
    body=PATCH,
    answer=StoreDocument,
    problems=(409, 412, 428),
)
async def patch(request: AnyRequest) -> Response[bytes]:
    """Patch the version the caller has read."""
    version = require_match(request)
    settings_patch = await object_of(request)
    service, store_no = service_of(request), store_of(request).store_no

    def run(connection: Connection) -> None:
        table = schema.store
        row = connection.execute(select(table).where(table.c.store_no == store_no)).one()
        if row.version != version:
            raise stale(f'"{version}"')
        before = settings_of(row.settings)
        stored = patched(before, settings_patch)
        if settings_of(stored) == before:
            return
        if stored["currency"] != before.currency:
            _refuse_once_used(connection, store_no)
        values = {"settings": stored, "version": version + 1}
        connection.execute(update(table).where(table.c.store_no == store_no).values(**values))

    await service.change(store_no, run)
    return _answer(request)


def _refuse_once_used(connection: Connection, store_no: int) -> None:
    """Every sum of the store is in its currency: with the first event it is settled."""
    tables = (schema.event.c, schema.archived_event.c)
    events = [select(table.event_no).where(table.store_no == store_no).limit(1) for table in tables]
    if any(connection.execute(statement).first() is not None for statement in events):
        remedy = "it is settled with the first event; make another store with rialto init"
        raise conflict("frozen_field", f"/currency: {remedy}", [FieldError("/currency", "frozen", remedy)])


def _answer(request: AnyRequest) -> Response[bytes]:
    store = store_of(request)
    return answer(document_of(store.settings), etag=store.version)


@call(
    "POST",
    "/v1/clock",
    scope=Scope.IMPORT,
    summary="Set the time of a simulated store, and take the steps due",
    body=NewTime,
    answer=ClockAnswer,
    problems=(409,),
)
async def set_clock(request: AnyRequest) -> Response[bytes]:
    """Move a simulated store's time forwards."""
    wanted_us = instant_us((await body_of(request, NewTime)).now, "/now")
    if not is_in_calendar(wanted_us):
        raise bad_field("/now", "out_of_range", "write a time between 1970 and the year 9000")
    service, store = service_of(request), store_of(request)
    if not store.is_simulated or service.settings.clock is not ClockKind.EXTERNAL:
        detail = "only a store of `init --simulated`, under `serve --clock external`, has a clock to set"
        raise conflict("clock_not_external", detail)

    def run(connection: Connection) -> None:
        table = schema.store
        mine = table.c.store_no == store.store_no
        now_us: Any = connection.execute(select(table.c.simulated_now_us).where(mine)).scalar_one()
        if now_us is not None and wanted_us < now_us:
            remedy = f"time never goes backwards: it is {to_wire(now_us)}"
            raise conflict("clock_backwards", remedy, [FieldError("/now", "clock_backwards", remedy)])
        connection.execute(update(table).where(mine).values(simulated_now_us=wanted_us))

    # Steps just under way end first: carts would be given up as of the old time, shares set as of the new.
    async with service.advancing[store.store_no]:
        await fold_pending(service, store.store_no)
        await service.change(store.store_no, run)
        steps = await take_steps(service, store.store_no)
    return answer(ClockAnswer(to_wire(wanted_us), steps))


router = [read, patch, set_clock]
