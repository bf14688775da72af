"""`rialto sim fit`: a world estimated from a shop's own log."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console

from sim.fitting.building import scenario_document
from sim.fitting.fit import Fit, fit
from sim.fitting.found import DRAWS
from sim.fitting.mapping_reader import read_mapping
from sim.fitting.predictive import Predictive, check_fit
from sim.fitting.reading import read_log
from sim.fitting.show import as_json, show
from sim.ope.errors import OpeError
from sim.replay.errors import ReplayError
from sim.worlds.errors import InvalidWorld
from sim.worlds.world import World

BAD_FIT = 1


@click.command(name="fit", short_help="Estimate a world from a shop's own log.")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--mapping",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML that says what the log's columns mean (docs/fitting.md).",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The scenario file to write.",
)
@click.option(
    "--days", type=click.IntRange(1, 3_660), default=28, show_default=True, help="How long the scenario runs."
)
@click.option(
    "--draws",
    type=click.IntRange(0, DRAWS),
    default=0,
    show_default=True,
    help="Also write so many worlds drawn from the posterior, as NAME.draw-1.yaml and so on.",
)
@click.option(
    "--replications",
    type=click.IntRange(20, 10_000),
    default=100,
    show_default=True,
    help="Simulated logs of the predictive check.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all randomness.")
@click.option("--strict", is_flag=True, help="Exit with 1 if the check finds the fit bad.")
@click.option("--json", "is_json", is_flag=True, help="Print what NAME.fit.json holds.")
def fit_command(
    source: Path,
    mapping: Path,
    out: Path,
    days: int,
    draws: int,
    replications: int,
    seed: int,
    strict: bool,
    is_json: bool,
) -> None:
    """Estimate a world from SOURCE: CSV, Parquet, or what `rialto export` wrote.

    Writes the scenario file that `rialto sim run` takes, and NAME.fit.json beside it: every estimate with its
    interval, what was assumed, and a predictive check.
    """
    try:
        read = read_mapping(mapping)
        found = fit(read_log(source, read), read, seed=seed)
        predictive = check_fit(found, replications=replications, seed=seed)
        _write(out, _scenario(found, found.world, predictive, days))
        for draw in range(draws):
            path = out.with_suffix(f".draw-{draw + 1}{out.suffix}")
            _write(path, _scenario(found, found.drawn(draw), predictive, days))
    except ReplayError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (InvalidWorld, OpeError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    plain = as_json(found, predictive)
    out.with_suffix(".fit.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    if is_json:
        click.echo(json.dumps(plain))
    else:
        show(found, predictive, Console(width=None if sys.stdout.isatty() else 140))
        click.echo(f"wrote {out} and {out.with_suffix('.fit.json')}; next: rialto sim run {out}")
    sys.exit(BAD_FIT if strict and predictive.bad else 0)


def _scenario(found: Fit, world: World, predictive: Predictive, days: int) -> Mapping[str, Any]:
    """The world from the day after the log's last one: that is the shop to be simulated."""
    start = found.log.first_day + timedelta(days=found.log.days)
    bad = ", ".join(check.name for check in predictive.bad)
    document = scenario_document(
        replace(world, start=start),
        found.experiment,
        title=f"{found.mapping.name}, fitted",
        claim=f"Fitted to {len(found.log)} customers; the check "
        + (f"finds it bad: {bad}." if bad else "finds nothing against it."),
        days=days,
    )
    return json.loads(json.dumps(document, default=str))  # dates and enums as plain text


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(
        yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8"
    )
