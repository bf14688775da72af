"""The terminal: what a command prints of what went wrong, and its progress, which goes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click
from sqlalchemy.exc import ArgumentError, DatabaseError

from service.archive.duck import ArchiveUnusable
from service.ledger.database import Database, DatabaseUnusable, said, shown

if TYPE_CHECKING:
    from rich.console import Console


def on_stderr() -> Console:
    """A console that writes to stderr, so that stdout stays what was asked for."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def opened(database_url: str) -> Generator[Database]:
    """A ledger, for as long as a command runs."""
    with readable_database(database_url):
        database = Database(database_url)
        try:
            yield database
        finally:
            database.close()


@contextmanager
def readable_database(database_url: str) -> Generator[None]:
    """Whatever a database or an archive says, in one line."""
    try:
        yield
    except ArgumentError:
        usage(f"--database {database_url}: write a URL such as sqlite:///rialto.db")
    except (ArchiveUnusable, DatabaseUnusable) as error:
        fail(str(error))
    except DatabaseError as error:
        fail(f"--database {shown(database_url)}: {said(error)}")
    except OSError as error:
        fail(f"--database {shown(database_url)}: {error.strerror or error}")


def fail(*lines: str) -> NoReturn:
    """End a command that did not do what it was asked for."""
    for line in lines:
        click.echo(f"error: {line}", err=True)
    sys.exit(1)


def usage(line: str) -> NoReturn:
    """End a command that was asked for what makes no sense."""
    click.echo(f"error: {line}", err=True)
    sys.exit(2)
