"""`rialto sim ope`: what another policy would have earned on a log of decisions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from experiments.off_policy.estimators import Estimator
from sim.ope.errors import OpeError
from sim.ope.learners import Learner
from sim.ope.mapping_reader import read_mapping
from sim.ope.policies import candidate_of
from sim.ope.run import Options, Outcome, check, run
from sim.ope.show import as_json, show
from sim.ope.slates import SlateOutcome, run_slates
from sim.replay.errors import ReplayError


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
        check(candidate, read)
        outcome: Outcome | SlateOutcome
        if read.slate is not None:
            outcome = run_slates(log, read, candidate)
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
    seen = outcome.overlap if isinstance(outcome, SlateOutcome) else outcome.evaluation.overlap
    sys.exit(1 if seen.refused else 0)
