"""What one kind of database does in a way of its own; `database.py` is what the service sees."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, TimeoutError


class DatabaseKind(StrEnum):
    """The databases a ledger can be kept in."""

    SQLITE = "sqlite"
    POSTGRES = "postgresql"


class DatabaseUnusable(Exception):
    """The database cannot be used as asked; the message says what to do."""


class DatabaseUnreachable(DatabaseUnusable):
    """The database does not answer; it may once it is started."""


class Backend(Protocol):
    """The engines of one ledger, and what differs by the kind of database."""

    kind: DatabaseKind
    name: str  # for people
    reading: Engine  # every transaction sees one snapshot
    writing: Engine  # at most one transaction at a time, whoever writes

    def exists(self) -> bool:
        """Whether there is a ledger to open."""
        ...

    def prepare(self) -> None:
        """Make room for a new ledger."""
        ...

    def keep_services_out(self, connection: Connection) -> None:
        """Raise when a service runs on the ledger; none starts until the transaction ends."""
        ...

    def lock_for_serving(self) -> None:
        """Hold the right to serve the ledger. Raises when somebody else's service excludes ours."""
        ...

    def unusable(self, error: DBAPIError | TimeoutError) -> DatabaseUnusable:
        """What the database said when it was opened, as one line that names the remedy."""
        ...

    def close(self) -> None:
        """Close every connection and give locks up."""
        ...


def said(error: DBAPIError | TimeoutError) -> str:
    """The first line of what the database said."""
    original = getattr(error, "orig", None) or error
    return next(iter(str(original).strip().splitlines()), type(original).__name__)
