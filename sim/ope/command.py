"""`rialto sim ope`: what another policy would have earned on a log of decisions."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from math import isfinite
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from experiments.off_policy.estimators import Estimator
from sim.ope.dealing import Options
from sim.ope.errors import OpeError, UnusedOption
from sim.ope.learners import Learner
from sim.ope.mapping_reader import read_mapping
from sim.ope.policies import candidate_of
from sim.ope.run import Outcome, run
from sim.ope.show import as_json, show
from sim.ope.slates import SlateOutcome, run_slates
from sim.replay.errors import ReplayError

OF_ROWS = ("estimators", "learner", "clip", "switch", "shrink")


def _estimators(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[Estimator, ...]:
    if text == "all":
        return tuple(Estimator)
    try:
        return tuple(dict.fromkeys(Estimator(name.strip()) for name in text.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"{error}; choose from {', '.join(Estimator)}, or all") from None


@click.command(short_help="Estimate what another policy would have earned on a log of decisions.")
@click.argument("log", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--mapping",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML that says what the log's columns mean (docs/off-policy.md).",
)
@click.option("--policy", required=True, help="uniform, logged, or a name under the mapping's policies.")
@click.option(
    "--estimators",
    default="all",
    show_default=True,
    callback=_estimators,
    help="Some of " + ", ".join(Estimator) + ", with commas between.",
)
@click.option(
    "--learner",
    type=click.Choice([learner.value for learner in Learner]),
    default=Learner.MEAN.value,
    show_default=True,
    help="The model of rewards for dm, dr, sndr, switch_dr and dros.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Folds of cross-fitting, by unit.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of folds, models and replay."
)
@click.option(
    "--clip",
    type=click.FloatRange(min=0, min_open=True),
    help="Largest weight of clipped_ips [that of least estimated error].",
)
@click.option(
    "--switch", type=click.FloatRange(min=0), help="Weight above which switch_dr takes the model [likewise]."
)
@click.option("--shrink", type=click.FloatRange(min=0), help="Lambda of dros [likewise].")
@click.option(
    "--bootstrap",
    type=click.IntRange(min=100),
    help="Intervals from so many bootstrap draws of units in place of Normal ones.",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page of HTML.")
@click.option("--json", "is_json", is_flag=True, help="Print everything as JSON.")
def ope(
    log: Path,
    mapping: Path,
    policy: str,
    estimators: tuple[Estimator, ...],
    learner: str,
    folds: int,
    seed: int,
    clip: float | None,
    switch: float | None,
    shrink: float | None,
    bootstrap: int | None,
    report: Path | None,
    is_json: bool,
) -> None:
    """Estimate from LOG what a policy would have earned: CSV, Parquet, or what `rialto export` wrote.

    Exits with 0 when the log can tell, 1 when overlap refuses or the log cannot be read, 2 for a bad mapping.
    """
    options = Options(
        estimators, Learner(learner), folds, seed, clip, switch, shrink, 0 if bootstrap is None else bootstrap
    )
    try:
        read = read_mapping(mapping)
        candidate = candidate_of(policy, read)
        outcome: Outcome | SlateOutcome
        if read.slate is not None:
            _refuse_those_of_rows()
            outcome = run_slates(log, read, candidate, options)
        else:
            outcome = run(log, read, candidate, options)
    except ReplayError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OpeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    if is_json:
        click.echo(json.dumps(as_json(outcome)))
    else:
        show(outcome, Console(width=None if sys.stdout.isatty() else 140))
    if report is not None:
        from sim.ope.page import Asked, write_page

        write_page(outcome, Asked(log, mapping, _settings(outcome)), report)
        click.echo(f"the report: {report}", err=True)
    sys.exit(1 if outcome.overlap.refused else 0)


def _refuse_those_of_rows() -> None:
    """Say so of options that slates have no use for."""
    context = click.get_current_context()
    given = [
        f"--{name}" for name in OF_ROWS if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise UnusedOption(
            f"{', '.join(given)}: slates have four estimators of their own and no model; leave it"
        )


def _settings(outcome: Outcome | SlateOutcome) -> list[tuple[str, str]]:
    """What the evaluation was made with, for its page."""
    options = outcome.options
    found = [("policy", f"{outcome.candidate.name} ({outcome.candidate.kind})"), ("trained", outcome.trained)]
    if isinstance(outcome, Outcome):
        used = outcome.evaluation.settings
        found += [
            (name, f"{value:.6g}" if isfinite(value) else "changes no weight")
            for name, value in asdict(used).items()
        ]
        found.append(("learner", options.learner.value if options.is_modelled(outcome.candidate) else "none"))
    drawn = f"{options.bootstrap:,} bootstrap draws of units" if options.bootstrap else "Normal, by unit"
    return [*found, ("folds", str(options.folds)), ("seed", str(options.seed)), ("intervals", drawn)]
