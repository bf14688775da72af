"""The simulator's subcommands of `rialto`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from sim.progress import progress_bar
from sim.replay.client import Service
from sim.replay.errors import ReplayError
from sim.replay.run import Options, Outcome
from sim.replay.run import replay as run_replay
from sim.replay.show import as_json, show

DEFAULT_URL = "http://127.0.0.1:8000"


@click.command(short_help="Replay a file of real history through the running service.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--mapping",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML that says what the file's columns mean (docs/replay.md).",
)
@click.option("--url", envvar="RIALTO_URL", default=DEFAULT_URL, show_default=True, help="The service.")
@click.option("--key", envvar="RIALTO_KEY", required=True, help="A secret key with scope import (sk_...).")
@click.option("--shuffle", type=click.IntRange(min=0), help="Send everything in an order drawn by this seed.")
@click.option(
    "--duplicates",
    type=click.FloatRange(0.0, 1.0),
    default=0.0,
    show_default=True,
    help="Share of the events to send twice.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N rows of the file.")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the position in this file, and go on from it.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0.0),
    default=30.0,
    show_default=True,
    help="Seconds to go on trying while the service is away.",
)
@click.option("--json", "is_json", is_flag=True, help="Print both sides' numbers as JSON.")
def replay(
    file: Path,
    mapping: Path,
    url: str,
    key: str,
    shuffle: int | None,
    duplicates: float,
    limit: int | None,
    checkpoint: Path | None,
    patience: float,
    is_json: bool,
) -> None:
    """Replay FILE through the running service and compare its report with the file's own numbers.

    Exits with 0 when they agree, 1 when they do not or the replay cannot go on, 2 for a bad mapping.
    """
    options = Options(shuffle, duplicates, limit, checkpoint)
    try:
        with Service(url, key, patience_s=patience) as service, progress_bar() as progress:

            def begin(task: str, total: int) -> Callable[[int], None]:
                number = progress.add_task(task, total=total)
                return lambda done: progress.advance(number, done)

            outcome = run_replay(service, file, mapping, options, begin)
    except ReplayError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    _print(outcome, is_json=is_json)
    sys.exit(0 if outcome.agrees else 1)


def _print(outcome: Outcome, *, is_json: bool) -> None:
    if is_json:
        click.echo(json.dumps(as_json(outcome)))
    else:
        show(outcome, Console(width=None if sys.stdout.isatty() else 140))
