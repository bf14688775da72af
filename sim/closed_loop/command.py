"""`rialto sim drive`."""

from __future__ import annotations

import json
import sys

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.times import parse_duration
from sim.closed_loop.drive import Outcome
from sim.closed_loop.drive import drive as run_drive
from sim.closed_loop.errors import DriveError
from sim.closed_loop.settings import DriveSettings
from sim.closed_loop.show import as_json, show
from sim.closed_loop.wire import Wire
from sim.runner.errors import RunError
from sim.worlds.errors import InvalidWorld

CALL_S = 120.0


@click.command(short_help="Drive a running service with a scenario and hold it to its promises.")
@click.argument("scenario")
@click.option(
    "--url", envvar="RIALTO_URL", default="http://127.0.0.1:8000", show_default=True, help="The service."
)
@click.option("--key", envvar="RIALTO_KEY", required=True, help="A secret key of a new, simulated store.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all randomness.")
@click.option(
    "--customers", type=click.IntRange(1, 10_000_000), help="All days together; the world's number."
)
@click.option("--days", type=click.IntRange(1, 3_660), help="On which customers come; the scenario's own.")
@click.option("--step", default="6h", show_default=True, help="How far the clock moves at a time.")
@click.option(
    "--late", type=click.FloatRange(0, 1), help="Part of the events that come late; the world's own."
)
@click.option("--duplicates", type=click.FloatRange(0, 1), help="Part that comes twice; the world's own.")
@click.option("--experiment", help="Use this one, which runs and has no units, and do not create one.")
@click.option(
    "--check-every",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Compare all figures after so many steps; counts after every one.",
)
@click.option("--stop-after", type=click.IntRange(min=0), help="The number of the last step to take.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0.0),
    default=30.0,
    show_default=True,
    help="Seconds to go on trying while the service is away.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the outcome as JSON.")
def drive(
    scenario: str,
    url: str,
    key: str,
    seed: int,
    customers: int | None,
    days: int | None,
    step: str,
    late: float | None,
    duplicates: float | None,
    experiment: str | None,
    check_every: int,
    stop_after: int | None,
    patience: float,
    is_json: bool,
) -> None:
    """Drive SCENARIO (as of `rialto sim list`, or a file) through a service under `serve --clock external`.

    After every step the service's counters, shares, propensities and rows are held against the simulator's
    own. Exits with 0 when all hold, 1 when one does not (with the commands that show it again), 2 when the
    service cannot be driven.
    """
    try:
        settings = DriveSettings(
            *(scenario, seed, customers, days, parse_duration(step), late, duplicates, experiment),
            *(check_every, stop_after),
        )
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=CALL_S, trust_env=False) as client:
            outcome = _with_progress(Wire(client, patience_s=patience), settings)
    except (DriveError, RunError, InvalidWorld, ValueError, httpx.InvalidURL) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    if is_json:
        click.echo(json.dumps(as_json(outcome)))
    else:
        show(outcome, Console(width=None if sys.stdout.isatty() else 140))
    sys.exit(0 if outcome.failure is None else 1)


def _with_progress(wire: Wire, settings: DriveSettings) -> Outcome:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(settings.scenario, total=None)
        return run_drive(wire, settings, lambda done, of: progress.update(task, completed=done, total=of))
