"""`rialto analyse`: have the running service fit the pooled model, wait, and print what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from service import settings as environment
from service.console import fail, usage

LOOK_S = 1.0
FILES = ("draws.nc", "draws.parquet")
_OPEN = ("queued", "running")


@click.command()
@click.option("--experiment", required=True, metavar="KEY", help="The experiment.")
@click.option(
    "--with", "others", multiple=True, metavar="KEY", help="Another experiment to pool with; may be repeated."
)
@click.option(
    "--cohorts", type=click.Choice(["matured", "all"]), help="Which ones; as the report when not given."
)
@click.option("--draws", type=click.IntRange(100, 10_000), default=1000, show_default=True)
@click.option("--time-limit", default="15m", show_default=True, metavar="DURATION", help="At most 1h.")
@click.option("--url", default=environment.service_url, show_default="RIALTO_URL, else http://127.0.0.1:8000")
@click.option(
    "--key", default=environment.api_key, show_default="RIALTO_KEY", help="Secret, scopes read and write."
)
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Fetch the draws into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the analysis as one JSON object.")
def analyse(
    url: str,
    key: str | None,
    save: Path | None,
    as_json: bool,
    experiment: str,
    others: tuple[str, ...],
    **told: Any,
) -> None:
    """Fit the pooled model to an experiment through the running service, and print the figures."""
    import httpx

    if not key:
        usage("no key: give --key sk_... or set RIALTO_KEY")
    cohorts = told.pop("cohorts")
    matured = None if cohorts is None else cohorts == "matured"
    wanted = {**told, "with": list(others), "matured": matured}
    path = f"/v1/experiments/{quote(experiment, safe='')}/analyses"
    try:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30.0) as client:
            found = _answered(client.post(path, json=wanted))
            try:
                while found["state"] in _OPEN:
                    time.sleep(LOOK_S)
                    found = _answered(client.get(f"{path}/{found['id']}"))
            except KeyboardInterrupt:
                _answered(client.delete(f"{path}/{found['id']}"))
                fail(f"analysis {found['id']} is cancelled")
            if save is not None and found["state"] == "done":
                for name in FILES:
                    _fetch(client, f"{path}/{found['id']}/{name}", save / name)
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        fail(f"{url} does not answer ({error}): is `rialto serve` running there?")
    if as_json:
        click.echo(json.dumps(found))
    elif found["state"] == "done":
        for line in lines_of(found):
            click.echo(line)
    if found["state"] != "done":
        fail(
            f"analysis {found['id']}: {found['state']}",
            *(f"{r['code']}: {r['detail']}" for r in found["reasons"]),
        )


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    """The figures of an analysis, a line for each variant and metric."""
    result = found["result"]
    yield f"analysis {found['id']} of {found['experiment']}: order values are {result['order_value_law']}"
    yield from _table("all units", result["variants"])
    for segment, variants in result["segments"].items():
        if len(result["segments"]) > 1:
            yield from _table(f"segment {segment or '(none)'}", variants)
    for note in result["notes"]:
        yield f"note: {note}"
    yield f"draws: {result['files']['netcdf']} and {result['files']['parquet']}"


def _table(title: str, variants: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{title}:"
    for variant in variants:
        for metric, figure in variant["metrics"].items():
            raw = "" if figure["raw"] is None else f", raw {figure['raw']:.5g}"
            text = f"{figure['value']:.5g} ({figure['ci_low']:.5g} to {figure['ci_high']:.5g}{raw})"
            if figure["lift_abs"] is not None:
                text += f", against control {figure['lift_abs']['value']:+.4g}"
                text += f", better with {figure['prob_beats_control']:.1%}"
            yield f"  {variant['key']:<16} {metric:<17} {text}"


def _fetch(client: Any, path: str, target: Path) -> None:
    """Write what is answered there into a file, piece by piece."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with client.stream("GET", path) as sent:
            if sent.status_code != 200:
                sent.read()
                _answered(sent)
            with target.open("wb") as file:
                for piece in sent.iter_bytes():
                    file.write(piece)
    except OSError as error:
        fail(f"the draws cannot be written to {target}: {error.strerror or type(error).__name__}")


def _answered(answer: Any) -> dict[str, Any]:
    if answer.status_code in (200, 202):
        return answer.json()
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    faults = [f"{e['pointer'] or '/'}: {e['remedy']}" for e in problem.get("errors") or []]
    fail(*(faults or [problem.get("detail") or f"the service answered {answer.status_code}"]))
