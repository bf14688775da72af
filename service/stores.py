"""A new store with its first two keys: what `rialto init` makes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, insert

from service.keys import PUBLISHABLE_SCOPES, KeyKind, Scope, create_key
from service.ledger import schema


@dataclass(frozen=True, slots=True)
class NewStore:
    """A store just made; nothing keeps its keys."""

    store: str
    publishable_key: str
    secret_key: str


def create_store(
    connection: Connection,
    *,
    time_zone: str,
    currency: str,
    is_simulated: bool,
    scopes: Iterable[Scope],
    now_us: int,
    secret: bytes | None = None,
) -> NewStore:
    """Insert a store and its first publishable and secret key; its own secret is random unless given."""
    key = f"store_{secrets.token_hex(6)}"
    row = {
        "key": key,
        "secret": secret or secrets.token_bytes(32),
        "is_simulated": is_simulated,
        "simulated_now_us": None,
        "version": 1,
        "settings": {"time_zone": time_zone, "currency": currency},
        "created_at_us": now_us,
    }
    statement = insert(schema.store).values(row).returning(schema.store.c.store_no)
    store_no = connection.execute(statement).scalar_one()
    publishable, _ = create_key(
        connection, store_no, KeyKind.PUBLISHABLE, PUBLISHABLE_SCOPES, label="first", now_us=now_us
    )
    secret_key, _ = create_key(connection, store_no, KeyKind.SECRET, scopes, label="first", now_us=now_us)
    return NewStore(key, publishable, secret_key)
