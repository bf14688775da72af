"""The subcommands of `rialto` for cold history: export, query, retain."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import click

from experiments.times import parse_duration
from service.archive import export as exporting
from service.archive.answers import FORMATS, write_answer
from service.archive.duck import ArchiveUnusable
from service.archive.query import asked
from service.archive.retention import require_old_enough
from service.archive.retention import retain as retain_events
from service.commands import database_option
from service.console import on_stderr, opened, usage

out_option = click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files go.",
)


_day = click.DateTime(["%Y-%m-%d"])


def _duration(_context: click.Context, _parameter: click.Parameter, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@database_option
@out_option
@click.option("--experiment", metavar="KEY", help="Only what names this experiment.")
@click.option("--from", "first", type=_day, metavar="DAY", help="The first day, e.g. 2026-03-01.")
@click.option("--to", "last", type=_day, metavar="DAY", help="The last day.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(
    database_url: str,
    out: Path,
    experiment: str | None,
    first: datetime | None,
    last: datetime | None,
    as_json: bool,
) -> None:
    """Copy closed days of events and assignments into Parquet, for a warehouse."""
    if first is not None and last is not None and first > last:
        usage(f"--from {first:%F} --to {last:%F}: the first day is after the last")
    with opened(database_url) as database, on_stderr().status("reading the ledger") as status:
        database.require_current()
        wanted = exporting.Wanted(experiment, first and first.date(), last and last.date())
        done = exporting.export(database, out, wanted, status.update)
    if as_json:
        click.echo(json.dumps({"rows": done.rows, "written": done.written, "unchanged": done.unchanged}))
    else:
        click.echo(f"{done.rows} rows: {done.written} files written, {done.unchanged} unchanged, in {out}")


@click.command()
@database_option
@out_option
@click.option(
    "--older-than",
    required=True,
    callback=_duration,
    metavar="DURATION",
    help="How long ago the day of an event has ended: at least 90d.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def retain(database_url: str, out: Path, older_than: timedelta, as_json: bool) -> None:
    """Move old raw events out of the ledger into sealed Parquet files, which stay part of every sum."""
    try:
        require_old_enough(older_than)
    except ArchiveUnusable as error:
        usage(str(error))
    with opened(database_url) as database, on_stderr().status("reading the ledger") as status:
        database.require_current()
        database.lock_for_serving()
        done = retain_events(database, out, older_than, status.update)
    if as_json:
        click.echo(json.dumps({"events": done.events, "files": done.files}))
    else:
        click.echo(f"{done.events} events archived in {done.files} files, in {out}")


@click.command()
@database_option
@click.argument("sql")
@click.option(
    "--archive",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A copy of the archive, in place of the one the ledger names.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    default="table",
    show_default=True,
    help="How the answer is written.",
)
def query(database_url: str, sql: str, archive: Path | None, kind: str) -> None:
    """Run one SELECT over ledger and archive, with the tables of docs/archive.md."""
    with opened(database_url) as database:
        database.require_current()
        with asked(database, sql, archive) as answer:
            write_answer(answer, kind, sys.stdout)
