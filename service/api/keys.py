"""Keys: list, make, revoke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from litestar import Response
from sqlalchemy import Connection, select, update

from experiments.errors import FieldError
from service.api.paging import Page, cut, row_after
from service.api.routing import AnyRequest, call
from service.auth import principal_of, store_of
from service.clock import to_wire
from service.context import service_of
from service.keys import PUBLISHABLE_SCOPES, KeyKind, Scope, create_key
from service.ledger import schema
from service.ledger.statements import comparable, number
from service.problems import Problem, bad_field, conflict, not_found
from service.wire import Label, Wire, answer, body_of, query_of


class NewKey(Wire, frozen=True):
    """A key to make; `scopes` belong to secret keys, default those of the asking key but import."""

    kind: KeyKind
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1)] | None = None
    label: Label = ""


class KeyView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key; `key` itself stands only in the answer that made it."""

    id: str
    kind: str
    hint: str
    scopes: list[str]
    label: str
    created_at: str
    revoked_at: str | None
    key: str | None = None


class KeyList(msgspec.Struct, frozen=True):
    """A page of keys."""

    items: list[KeyView]
    next_cursor: str | None


@call("GET", "/v1/keys", scope=Scope.ADMIN, summary="List the store's keys", query=Page, answer=KeyList)
async def list_keys(request: AnyRequest) -> Response[bytes]:
    """List keys, oldest first, revoked ones too."""
    page = query_of(request, Page)
    table = schema.api_key
    statement = (
        select(table)
        .where(table.c.store_no == principal_of(request).store_no, table.c.key_no > number(row_after(page)))
        .order_by(table.c.key_no)
        .limit(page.limit + 1)
    )
    rows = await service_of(request).read(lambda connection: connection.execute(statement).mappings().all())
    kept, cursor = cut(rows, page, lambda row: row["key_no"])
    return answer(KeyList([_view(row) for row in kept], cursor))


@call(
    "POST",
    "/v1/keys",
    scope=Scope.ADMIN,
    summary="Make a key; it is shown this once",
    body=NewKey,
    answer=KeyView,
    status=201,
)
async def create(request: AnyRequest) -> Response[bytes]:
    """Make a key with scopes that the asking key has itself."""
    wanted = await body_of(request, NewKey)
    scopes = _scopes(wanted, principal_of(request).scopes)
    service, store = service_of(request), store_of(request)
    at_us = service.now_us(store)

    def run(connection: Connection) -> tuple[str, dict[str, Any]]:
        return create_key(connection, store.store_no, wanted.kind, scopes, label=wanted.label, now_us=at_us)

    key, row = await service.change(store.store_no, run)
    return answer(_view(row, key), status=201, headers={"Cache-Control": "no-store"})


@call(
    "DELETE",
    "/v1/keys/{key_id:str}",
    scope=Scope.ADMIN,
    summary="Revoke a key, at once",
    answer=KeyView,
    problems=(404, 409),
)
async def revoke(request: AnyRequest, key_id: str) -> Response[bytes]:
    """Revoke a key; revoking it again changes nothing."""
    service, store = service_of(request), store_of(request)
    if principal_of(request).public_id == key_id:
        raise conflict("own_key", "a key cannot revoke itself: use another admin key")
    at_us = service.now_us(store)

    def run(connection: Connection) -> Mapping[Any, Any]:
        table = schema.api_key
        mine = (table.c.store_no == store.store_no) & (table.c.public_id == comparable(key_id))
        open_keys = update(table).where(mine, table.c.revoked_at_us.is_(None))
        connection.execute(open_keys.values(revoked_at_us=at_us))
        row = connection.execute(select(table).where(mine)).mappings().first()
        if row is None:
            raise not_found("key", key_id)
        return row

    row = await service.change(store.store_no, run)
    service.keys.drop(key_id)
    service.last_known.forget_key(key_id)
    return answer(_view(row))


def _scopes(wanted: NewKey, own: frozenset[Scope]) -> list[Scope]:
    if wanted.kind is KeyKind.PUBLISHABLE:
        if wanted.scopes is not None and set(wanted.scopes) != set(PUBLISHABLE_SCOPES):
            remedy = "a publishable key always has assign and events: leave scopes out"
            raise bad_field("/scopes", "not_allowed", remedy)
        return list(PUBLISHABLE_SCOPES)
    scopes = wanted.scopes or [scope for scope in Scope if scope in own and scope is not Scope.IMPORT]
    for index, scope in enumerate(scopes):
        if scope not in own:
            detail = f"a key can give only scopes it has; yours lacks {scope}"
            fault = FieldError(f"/scopes/{index}", "scope_not_yours", detail)
            raise Problem(403, "scope_not_yours", detail, errors=[fault])
    return scopes


def _view(row: Mapping[Any, Any], key: str | None = None) -> KeyView:
    revoked = row["revoked_at_us"]
    return KeyView(
        id=row["public_id"],
        kind=row["kind"],
        hint=row["hint"],
        scopes=row["scopes"],
        label=row["label"],
        created_at=to_wire(row["created_at_us"]),
        revoked_at=None if revoked is None else to_wire(revoked),
        key=key,
    )


router = [list_keys, create, revoke]
