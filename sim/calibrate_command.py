"""`rialto calibrate`: tries what the analysis promises in worlds where the truth is known, and reports."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from sim.calibration.part import Part, State
from sim.calibration.parts import PARTS
from sim.calibration.provenance import commit, fingerprint, rialto_version
from sim.calibration.report import Places, promises, write
from sim.calibration.results import Made, Results, Unreadable, dump, load
from sim.calibration.running import run

SEED = 2026
INTERRUPTED = 130


@click.command(short_help="Measure how often intervals, verdicts and alarms are right, and report it.")
@click.argument("names", metavar="[PART]...", nargs=-1, type=click.Choice(list(PARTS)))
@click.option(
    "--runs", type=click.IntRange(min=1), help="Runs of each world [as many as the promises are judged at]."
)
@click.option("--seed", type=click.IntRange(min=0), default=SEED, show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("calibration"),
    show_default=True,
    help="A folder, or the page itself (FILE.md); figures and charts go beside it.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the figures as JSON.")
def calibrate(names: Sequence[str], runs: int | None, seed: int, output: Path, is_json: bool) -> None:
    """Try what the analysis promises in simulated worlds, and write a report with charts.

    PART is one of verdicts, intervals, refunds, cuped, adaptive, moving, peeking, mismatch, posteriors, sbc;
    all when none is named (about an hour of one core; --runs 50 is a look of a few minutes). Parts that
    stand in the report already are kept in it. Ctrl-C keeps what is done; the same command goes on from
    there.

    Exits with 0 when every promise of the parts is held, 1 when one is not, 130 after Ctrl-C.
    """
    parts = _chosen(names)
    places = Places.of(output)
    made = Made(runs or 0, seed, rialto_version(), commit(), fingerprint())
    results = _standing(places)
    is_interrupted = False
    try:
        for grown in run(parts, runs, made, results, _tell, every_s=1.0 if sys.stderr.isatty() else 60.0):
            results = grown
            write(results, PARTS, places)
    except KeyboardInterrupt:
        is_interrupted = True
    _tell("")
    write(results, PARTS, places)
    found = promises(results, {part.key: part for part in parts})
    if is_json:
        click.echo(dump(results), nl=False)
    else:
        for promise in found:
            click.echo(f"{promise.state}: {promise.what}: {promise.found}")
    click.echo(f"the report: {places.page}", err=True)
    if is_interrupted:
        click.echo("stopped: it says what is missing; the same command goes on from here", err=True)
        click.get_current_context().exit(INTERRUPTED)
    click.get_current_context().exit(int(any(promise.state is State.MISSED for promise in found)))


def _chosen(names: Sequence[str]) -> list[Part]:
    """The parts asked for, or all that can be measured here."""
    parts = [PARTS[name] for name in dict.fromkeys(names)] or list(PARTS.values())
    lacking = [part for part in parts if part.needs and importlib.util.find_spec("pymc") is None]
    for part in lacking:
        remedy = f"pip install 'rialto[{part.needs}]'"
        if names:
            raise click.UsageError(f"{part.key} needs PyMC: {remedy}")
        click.echo(f"without {part.key}, which needs PyMC: {remedy}", err=True)
    return [part for part in parts if part not in lacking]


def _standing(places: Places) -> Results:
    """What the report has so far; refuses before anything is measured if it cannot be kept or written."""
    if places.page.exists() and not places.figures.exists():
        raise click.UsageError(
            f"{places.page} is no report: {places.figures.name} is not beside it. Name another --output."
        )
    try:
        results = load(places.figures, PARTS)
        write(results, PARTS, places)
    except Unreadable as error:
        raise click.UsageError(f"{error}. Name another --output, or move the file away.") from error
    except OSError as error:
        raise click.UsageError(
            f"cannot write {places.page}: {error.strerror}. Name another --output."
        ) from error
    return results


def _tell(line: str) -> None:
    """One line of progress, over the one before on a terminal."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be taken back
        click.echo(f"\r\x1b[K{line[:width]}", nl=False, err=True)
    elif line:
        click.echo(line, err=True)
