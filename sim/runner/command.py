"""`rialto sim run` and `rialto sim list`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from experiments.times import parse_duration
from sim.progress import progress_bar
from sim.runner.errors import RunError
from sim.runner.executors import executor_of
from sim.runner.files import document_of, write
from sim.runner.finding import find_scenario
from sim.runner.run import Run, run
from sim.runner.settings import Evaluation, RunSettings
from sim.runner.show import show_run, show_scenarios
from sim.worlds.errors import InvalidWorld
from sim.worlds.scenarios import scenarios

INTERRUPTED = 130


@click.command(name="run", short_help="Run a scenario under the production allocator.")
@click.argument("scenario")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all randomness.")
@click.option("--replications", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option(
    "--customers", type=click.IntRange(1, 100_000_000), help="In each replication, over all its days."
)
@click.option("--days", type=click.IntRange(1, 3_660), help="How long; the scenario's own by default.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write Parquet and JSON here.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page of HTML.")
@click.option(
    "--evaluation",
    type=click.Choice([one.value for one in Evaluation]),
    default=Evaluation.SHARES.value,
    show_default=True,
    help="Decide by published shares, or by sampling from the posteriors (no guardrails or caps).",
)
@click.option(
    "--cadence",
    help="How often the allocator looks, as 1d or 6h; the experiment's by default, 120 times if it has none.",
)
@click.option("--look-every", default="7d", show_default=True, help="How often the verdict is read.")
@click.option(
    "--executor",
    default="processes",
    show_default=True,
    help="serial, processes, processes:N, dask://local or dask://HOST:PORT; results are the same on each.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the summary as JSON.")
def run_command(
    scenario: str,
    seed: int,
    replications: int,
    customers: int | None,
    days: int | None,
    out: Path | None,
    report: Path | None,
    evaluation: str,
    cadence: str | None,
    look_every: str,
    executor: str,
    is_json: bool,
) -> None:
    """Run SCENARIO: a name of `rialto sim list`, or a file that describes a world (docs/worlds.md).

    Ctrl-C ends it with the replications that are done, marked as incomplete (exit code 130).
    """
    try:
        settings = RunSettings(
            find_scenario(scenario, days=days),
            seed=seed,
            replications=replications,
            customers=customers,
            evaluation=Evaluation(evaluation),
            cadence=None if cadence is None else parse_duration(cadence),
            look_every=parse_duration(look_every),
        )
        found = _run(settings, executor)
        if out is not None:
            write(found, out)
        if report is not None:
            from sim.report.page import write_page

            write_page(found, report)
    except (RunError, InvalidWorld, ValueError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    if is_json:
        click.echo(json.dumps(document_of(found), sort_keys=True))
    else:
        show_run(found, Console(width=None if sys.stdout.isatty() else 140))
    sys.exit(0 if found.is_complete else INTERRUPTED)


@click.command(name="list", short_help="The named scenarios, and what each claims.")
@click.option("--json", "is_json", is_flag=True, help="Print them as JSON.")
def list_command(is_json: bool) -> None:
    """List the scenarios that `rialto sim run` knows by name."""
    if is_json:
        plain = [
            {
                "key": one.key,
                "title": one.title,
                "claim": one.claim,
                "ground_truth": one.ground_truth,
                "days": one.days,
                "customers_per_day": one.customers_per_day,
            }
            for one in scenarios().values()
        ]
        click.echo(json.dumps(plain))
    else:
        show_scenarios(list(scenarios().values()), Console(width=None if sys.stdout.isatty() else 140))


def _run(settings: RunSettings, executor: str) -> Run:
    chosen = executor_of(executor)
    with progress_bar() as progress:
        task = progress.add_task(settings.scenario.key, total=settings.replications)
        return run(settings, chosen, lambda done: progress.advance(task, done))
