"""API keys: made once, kept as SHA-256, looked up in memory."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select

from service.ledger import schema
from service.ledger.database import Database

_SHAPE = re.compile(r"(pk|sk)_[A-Za-z0-9_-]{32}")


class KeyKind(StrEnum):
    """Publishable keys live in browsers, secret keys on servers."""

    PUBLISHABLE = "pk"
    SECRET = "sk"


class Scope(StrEnum):
    """What a secret key may do."""

    ASSIGN = "assign"
    EVENTS = "events"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    IMPORT = "import"


DEFAULT_SCOPES = tuple(scope for scope in Scope if scope is not Scope.IMPORT)
PUBLISHABLE_SCOPES = (Scope.ASSIGN, Scope.EVENTS)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a key, its store and what it may do."""

    public_id: str
    store_no: int
    kind: KeyKind
    scopes: frozenset[Scope]
    sha256: bytes


class KeyRing:
    """Keys in use, in memory; one never seen is looked up, a revoked one is dropped."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, Principal] = {}

    def known(self, digest: bytes) -> Principal | None:
        """The principal of a key, by its digest, if it has been used before."""
        principal = self._known.get(digest)
        return principal if principal and hmac.compare_digest(principal.sha256, digest) else None

    def look_up(self, key: str) -> Principal | None:
        """The key's principal from the ledger; None when it is unknown or revoked. Blocks."""
        if not _SHAPE.fullmatch(key):
            return None
        digest = digest_of(key)
        table = schema.api_key
        with self._database.read() as connection:
            row = connection.execute(
                select(table).where(table.c.sha256 == digest, table.c.revoked_at_us.is_(None))
            ).first()
        if row is None or not hmac.compare_digest(row.sha256, digest):
            return None
        principal = Principal(
            public_id=row.public_id,
            store_no=row.store_no,
            kind=KeyKind(row.kind),
            scopes=frozenset(Scope(scope) for scope in row.scopes),
            sha256=row.sha256,
        )
        self._known[digest] = principal
        return principal

    def drop(self, public_id: str) -> None:
        """Forget a revoked key."""
        self._known = {d: p for d, p in self._known.items() if p.public_id != public_id}

    def drop_store(self, store_no: int) -> None:
        """Forget a store's keys: one of them may have been revoked elsewhere."""
        self._known = {d: p for d, p in self._known.items() if p.store_no != store_no}


def digest_of(key: str) -> bytes:
    """What is kept of a key: 192 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).digest()


def create_key(
    connection: Connection,
    store_no: int,
    kind: KeyKind,
    scopes: Iterable[Scope],
    *,
    label: str,
    now_us: int,
) -> tuple[str, dict[str, Any]]:
    """Insert a new key; returns the key itself, which nothing keeps, and its row."""
    key = f"{kind}_{secrets.token_urlsafe(24)}"
    given = set(scopes)
    row = {
        "store_no": store_no,
        "public_id": f"key_{secrets.token_hex(8)}",
        "kind": kind.value,
        "hint": key[-4:],
        "sha256": digest_of(key),
        "scopes": [scope.value for scope in Scope if scope in given],
        "label": label,
        "created_at_us": now_us,
        "revoked_at_us": None,
    }
    connection.execute(insert(schema.api_key), row)
    return key, row
