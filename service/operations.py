"""The subcommands of `rialto` for whoever keeps it running: doctor, backup, restore."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from service.commands import database_option
from service.console import fail, opened, readable_database


@click.command()
@database_option
@click.option(
    "--out",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The backup; it must not exist yet.",
)
@click.option("--verify", "is_verified", is_flag=True, help="Restore it to a scratch ledger and verify that.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def backup(database_url: str, file: Path, is_verified: bool, as_json: bool) -> None:
    """Write the ledger to one file, beside a running service."""
    from service.backup import BackupFailed, back_up

    with opened(database_url) as database, _progress() as progress:
        database.require_current()
        try:
            report = back_up(database, file, is_verified=is_verified, progress=progress)
        except BackupFailed as error:
            fail(str(error))
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        proved = "restored and verified: exact" if report.verified else "sound; --verify would prove it"
        rows = sum(report.rows.values())
        size = f"{report.bytes / 1e6:.1f} MB"
        click.echo(f"{report.file}: {rows} rows, {size}, {report.seconds:.1f} s; {proved}")


@click.command()
@click.option(
    "--from",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What `rialto backup` has written.",
)
@database_option
def restore(file: Path, database_url: str) -> None:
    """Make the ledger of a backup anew: as a new SQLite file, or in an empty PostgreSQL database."""
    from service.restore import RestoreFailed
    from service.restore import restore as restore_backup

    with readable_database(database_url), _progress() as progress:
        try:
            rows = restore_backup(file, database_url, progress)
        except RestoreFailed as error:
            fail(str(error))
    click.echo(f"{sum(rows.values())} rows restored; next: rialto verify")


@click.command()
@database_option
@click.option("--url", metavar="URL", help="Ask this running service too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(database_url: str, url: str | None, as_json: bool) -> None:
    """Look over machine, ledger and service, and say what to do about what is wrong."""
    from service.doctor import State, examine

    findings = examine(database_url, url)
    worst = max((finding.state for finding in findings), key=list(State).index)
    if as_json:
        click.echo(json.dumps({"state": worst, "checks": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            click.echo(f"{finding.state:<5} {finding.name}: {finding.found}")
            if finding.remedy:
                click.echo(f"      -> {finding.remedy}")
    if worst is State.FAIL:
        fail("something is wrong: see the lines that begin with fail")


@contextmanager
def _progress() -> Generator[Any]:
    """A function that shows how far something has come, by what is being done."""
    from rich.progress import Progress

    from service.console import on_stderr

    with Progress(console=on_stderr(), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield progress
