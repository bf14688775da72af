"""Which hot path a database takes."""

from __future__ import annotations

from service.hot.ledger import HotLedger
from service.hot.postgres import PostgresLedger
from service.hot.sqlite import SqliteLedger
from service.ledger.backend import DatabaseKind
from service.ledger.database import Database


def ledger_of(database: Database) -> HotLedger:
    """The database as the hot path uses it."""
    match database.kind:
        case DatabaseKind.SQLITE:
            return SqliteLedger(database)
        case DatabaseKind.POSTGRES:
            return PostgresLedger(database)
