"""`rialto doctor`: look over machine, ledger and running service; every finding names its remedy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import ArgumentError, DBAPIError

from service.checks.contents import contents
from service.checks.finding import Finding, State, bad, ok
from service.checks.machine import machine
from service.checks.running import running
from service.ledger.database import Database, DatabaseKind, DatabaseUnusable, said, shown

_NO_LEDGER = "correct --database, or restore the last backup"


def examine(database_url: str, url: str | None) -> list[Finding]:
    """Every check that can be made, whatever the ones before it found."""
    findings = [*machine(), *_ledger(database_url)]
    if url is not None:
        findings += running(url)
    return findings


def _ledger(url: str) -> Iterator[Finding]:
    try:
        database = Database(url)
    except ArgumentError:
        yield bad("ledger", shown(url), "write a URL such as sqlite:///rialto.db")
        return
    except DatabaseUnusable as error:
        yield _unusable(error)
        return
    try:
        yield from _checks(database)
    except DatabaseUnusable as error:
        yield _unusable(error)
    except DBAPIError as error:
        yield bad(
            "ledger", f"{database.name}: {said(error)}", "correct --database, or restore the last backup"
        )
    except sqlite3.Error as error:
        yield bad("ledger", f"{database.name}: {error}", _NO_LEDGER)
    finally:
        database.close()


def _checks(database: Database) -> Iterator[Finding]:
    is_there = database.exists()
    if database.kind is DatabaseKind.POSTGRES:
        from service.checks.postgres_server import postgres_server

        with database.read() as connection:
            yield from postgres_server(connection)
    elif is_there:
        from service.checks.sqlite_file import sqlite_file

        yield from sqlite_file(database.path)
    database.require_current()
    yield ok("schema", f"{database.name} is of this version")
    with database.read() as connection:
        yield from contents(database, connection)


def _unusable(error: DatabaseUnusable) -> Finding:
    """What its one line says, what is wrong before the colon and the remedy after it."""
    found, _, remedy = str(error).rpartition(": ")
    return bad("ledger", found or str(error), remedy)


__all__ = ["Finding", "State", "examine"]
