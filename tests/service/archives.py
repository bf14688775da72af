"""What tests of the archive share: lives with an archived past, and commands run to their end."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from service.archive import commands
from service.archive.retention import Retained, retain
from service.ledger.database import Database
from tests.service.chance import Chance
from tests.service.histories import History, new_history
from tests.service.oracle import DAY

DAYS_90 = timedelta(days=90)


def archive_events(url: str, out: Path, older_than: timedelta = DAYS_90) -> Retained:
    """What `rialto retain` does, without its command."""
    database = Database(url)
    try:
        database.lock_for_serving()
        return retain(database, out, older_than)
    finally:
        database.close()


def aged_history(folder: Path, empty_ledger: bytes, seed: int, steps: int = 60) -> tuple[History, Chance]:
    """A life, then a hundred days in which nothing happened; the service is stopped."""
    history = new_history(folder / "aged.db", empty_ledger)
    chance = Chance(seed, history)
    for _ in range(steps):
        chance.step()
    history.clock(history.now + 100 * DAY)
    history.check()
    history.close()
    return history, chance


def url_of(history: History) -> str:
    return f"sqlite:///{history.path}"


def run(command: click.Command, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command to its end, in this process."""
    done = CliRunner().invoke(command, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def refused(command: click.Command, *arguments: object) -> str:
    """The one line a command ends in that did not do what it was asked for."""
    done = run(command, *arguments)
    assert done.returncode != 0, done.stdout
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in done.stderr
    return line


def asked(url: str, sql: str, *more: object) -> list[dict[str, Any]]:
    """The answer of `rialto query`."""
    done = run(commands.query, sql, "--database", url, "--format", "json", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """What stands in the file of a ledger."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
