"""`rialto sim claims`: run the named scenarios and say which of their claims hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from sim.claims.checks import findings
from sim.claims.page import Checked, document_of, page_of
from sim.progress import progress_bar
from sim.runner.errors import RunError, UnknownScenario
from sim.runner.executors import Executor, executor_of
from sim.runner.run import run
from sim.runner.settings import RunSettings
from sim.worlds.scenarios import NAMES, scenario

LONG = {"cold_start_100_arms": 1 / 3, "whole_year": 2 / 3}
"""Scenarios of which a run takes as long as twenty of the others: which part of the runs is enough."""


@click.command(name="claims", short_help="Run the named scenarios, and check what each claims.")
@click.argument("names", nargs=-1, metavar="[SCENARIO]...")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--replications",
    type=click.IntRange(6, 100_000),
    default=20,
    show_default=True,
    help="Of cold_start_100_arms a third, of whole_year two thirds of them.",
)
@click.option("--executor", default="processes", show_default=True, help="As of `rialto sim run`.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a page, and JSON beside it."
)
def claims_command(
    names: tuple[str, ...], seed: int, replications: int, executor: str, out: Path | None
) -> None:
    """Check the claims of SCENARIO..., of all without any. Exits with 1 when one does not hold."""
    chosen = names or NAMES
    try:
        for name in chosen:
            if name not in NAMES:
                raise UnknownScenario(name, sorted(NAMES))
        checked = _checked(chosen, seed, replications, executor_of(executor))
    except RunError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    if out is not None:
        out.write_text(page_of(checked), encoding="utf-8")
        document = json.dumps(document_of(checked), indent=1, sort_keys=True) + "\n"
        out.with_suffix(".json").write_text(document, encoding="utf-8")
    table = Table("scenario", "part of the claim", "found", "held against", "")
    for one in checked:
        for place, found in enumerate(one.findings):
            held = "held" if found.held else "[bold red]NOT HELD[/bold red]"
            table.add_row(
                "" if place else one.scenario.key, found.said, f"{found.found:,.3g}", found.limit, held
            )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    sys.exit(0 if all(found.held for one in checked for found in one.findings) else 1)


def _checked(names: tuple[str, ...], seed: int, replications: int, executor: Executor) -> list[Checked]:
    found: list[Checked] = []
    with progress_bar() as progress:
        of_each = {name: round(replications * LONG.get(name, 1)) for name in names}
        task = progress.add_task("", total=sum(of_each.values()))
        for name in names:
            progress.update(task, description=name)
            settings = RunSettings(scenario(name), seed=seed, replications=of_each[name])
            done = run(settings, executor, lambda count: progress.advance(task, count))
            if not done.is_complete:
                break
            found.append(Checked(settings, tuple(findings(done))))
    return found
