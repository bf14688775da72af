"""`rialto sim plan`: visitors and days until a decision, power, regret, money at risk; what-ifs as rows."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from experiments.document import parse_document
from experiments.errors import InvalidDocument
from experiments.model import Experiment, PolicyKind
from experiments.planning.baselines import PLANNED, Shop
from sim.planner.plot import FORMATS, draw
from sim.planner.rows import SIMULATED, Answer, Asked, answer, size_of
from sim.planner.show import as_json, show

CELLS_MAX = 200
_LEAST_EFFECT = 1e-4


class Numbers(click.ParamType[list[float]]):
    """Numbers with commas between them, each within limits."""

    name = "numbers"

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Read the list."""
        if isinstance(value, list):
            return value
        try:
            found = [float(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r}: write numbers with commas between them, such as 0.05,0.1", param, ctx)
        for number in found:
            if not self._low <= number <= self._high:
                self.fail(f"{number} is not between {self._low} and {self._high}", param, ctx)
        return list(dict.fromkeys(found))


RATE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(name="plan", short_help="Visitors and days until a decision, power, and what it may cost.")
@click.option(
    "--experiment",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An experiment document (YAML): objective, variants, policy, windows, guardrails, stop rule.",
)
@click.option("--baseline", type=RATE, required=True, help="Units that buy, of all: the conversion rate.")
@click.option("--visitors-per-day", type=click.FloatRange(1, 1e9), required=True, help="Of all variants.")
@click.option(
    "--effect",
    "effects",
    type=Numbers(-0.99, 20),
    default="0.05,0.1,0.2",
    show_default=True,
    help="Changes of the objective, as parts of the control's.",
)
@click.option("--objective", type=click.Choice(PLANNED), help="[the document's, or conversion_rate]")
@click.option("--order-value", type=click.FloatRange(1, 1e12), help="Mean of an order, in minor units.")
@click.option("--order-value-cv", type=click.FloatRange(0, 100), default=1.0, show_default=True)
@click.option("--margin-rate", type=click.FloatRange(0, 1, min_open=True), help="Margin over order value.")
@click.option("--refund-rate", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True)
@click.option("--variants", type=click.IntRange(2, 100), help="With the control. [the document's, or 2]")
@click.option("--control-share", "shares", type=Numbers(0.001, 0.999), help="[the document's, or even]")
@click.option(
    "--policy",
    "policies",
    type=click.Choice([kind.value for kind in SIMULATED]),
    multiple=True,
    help="May be given several times. [the document's, or fixed]",
)
@click.option("--power", type=click.FloatRange(0.5, 0.999), default=0.8, show_default=True)
@click.option("--days", type=click.IntRange(1, 1_000), help="Of enrolment. [as many as the power takes]")
@click.option("--look", type=click.Choice(["daily", "end"]), default="daily", show_default=True)
@click.option("--replications", type=click.IntRange(0, 100_000), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "is_json", is_flag=True, help="Print everything as JSON.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="FILE.svg, .png or .html.")
def plan(**options: Any) -> None:
    """Plan a test before a customer is risked.

    Sizes, days and money are closed forms of the rules of the verdict; what a policy and its stop rule make
    of them is simulated with the production allocator and read-out. --effect and --control-share take several
    values with commas between them, --policy may be repeated: every combination is a row.

    The simulation lives through --replications tests a row, looking every day (--look daily) or once, at the
    end; 0 leaves it out. --order-value is in minor units of the document's currency.
    """
    target: Path | None = options["plot"]
    if target is not None:
        _check_plot(target)
    asked = _asked(options)
    found = _answered(asked, is_shown=sys.stderr.isatty())
    if target is not None:
        try:
            draw(found, target)
        except OSError as error:
            raise click.UsageError(f"cannot write {target}: {error.strerror}") from error
    if options["is_json"]:
        click.echo(json.dumps(as_json(found), indent=2, allow_nan=False))
    else:
        show(found, Console(width=None if sys.stdout.isatty() else 140))


def _check_plot(target: Path) -> None:
    """Refuse before anything is simulated what could not be drawn in the end."""
    if target.suffix not in FORMATS:
        raise click.UsageError(f"--plot {target}: end the name with {', '.join(FORMATS)}")
    if not target.parent.is_dir():
        raise click.UsageError(f"--plot {target}: there is no folder {target.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs Matplotlib: pip install 'rialto[sim]'")


def _answered(asked: Asked, *, is_shown: bool) -> Answer:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not is_shown, transient=True) as progress:
        task = progress.add_task("tests lived through", total=size_of(asked))
        return answer(asked, lambda: progress.advance(task))


def _asked(options: Mapping[str, Any]) -> Asked:
    """The question, checked; a UsageError names the option."""
    experiment = _experiment(options)
    objective = experiment.policy.objective
    shop = Shop(
        options["baseline"],
        options["order_value"],
        options["order_value_cv"],
        options["margin_rate"],
        options["refund_rate"],
    )
    if objective not in PLANNED:
        raise click.UsageError(
            f"{objective} cannot be planned: name another --objective ({', '.join(PLANNED)})"
        )
    if shop.quantity(objective) is None:
        lacking = "--refund-rate" if objective == "refund_rate" else "--order-value and --margin-rate"
        raise click.UsageError(f"{objective} cannot be planned without {lacking}")
    for effect in options["effects"]:
        _check_effect(shop, objective, effect)
    policies = [PolicyKind(one) for one in dict.fromkeys(options["policies"])] or [experiment.policy.kind]
    shares: Sequence[float | None] = options["shares"] or [None]
    _check_shares(experiment, policies, options["shares"] or [])
    if len(options["effects"]) * len(shares) * len(policies) > CELLS_MAX:
        raise click.UsageError(f"at most {CELLS_MAX} rows: name fewer effects, shares or policies")
    return Asked(
        experiment=experiment,
        shop=shop,
        per_day=options["visitors_per_day"],
        effects=options["effects"],
        control_shares=shares,
        policies=policies,
        power=options["power"],
        days=options["days"],
        replications=options["replications"],
        seed=options["seed"],
        is_watched=options["look"] == "daily",
    )


def _experiment(options: Mapping[str, Any]) -> Experiment:
    """The document, or one made of the options; with the objective asked for."""
    file: Path | None = options["experiment"]
    if file is not None and options["variants"] is not None:
        raise click.UsageError("--variants: the document of --experiment has its own")
    document = _small_document(options["variants"] or 2) if file is None else _read(file)
    if options["objective"] is not None:
        document["policy"] = {**(document.get("policy") or {}), "objective": options["objective"]}
    try:
        return parse_document({"currency": "EUR", **document})
    except InvalidDocument as error:
        told = "\n".join(f"  {fault.pointer or '/'}: {fault.remedy}" for fault in error.errors)
        raise click.UsageError(f"{file}: not a valid experiment\n{told}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        documents = [one for one in yaml.safe_load_all(file.read_text("utf-8")) if one is not None]
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise click.UsageError(f"{file}: not YAML: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise click.UsageError(f"{file}: one experiment document is wanted, found {len(documents)}")
    return documents[0]


def _small_document(variants: int) -> dict[str, Any]:
    others = [f"v{number}" for number in range(1, variants)]
    return {
        "key": "planned",
        "touchpoint": "checkout",
        "policy": {"kind": "fixed", "objective": "conversion_rate"},
        "variants": [
            {"key": "none", "is_control": True, "offer": {"kind": "none"}},
            *({"key": key, "offer": {"kind": "upsell", "sku": key, "price": 0}} for key in others),
        ],
    }


def _check_effect(shop: Shop, objective: str, effect: float) -> None:
    if 0 < abs(effect) < _LEAST_EFFECT:
        raise click.UsageError(f"--effect {effect}: plan for 0 or at least {_LEAST_EFFECT}")
    before, after = shop.quantity(objective), shop.changed(objective, effect).quantity(objective)
    if before is None or after is None or abs(after.mean - before.mean * (1 + effect)) > 1e-9 * before.mean:
        raise click.UsageError(f"--effect {effect}: a rate cannot grow beyond 1")


def _check_shares(experiment: Experiment, policies: Sequence[PolicyKind], shares: Sequence[float]) -> None:
    floor, count = experiment.policy.floor, len(experiment.variants)
    for share in shares:
        if any(kind is not PolicyKind.FIXED for kind in policies) and (
            share < floor or share + floor * (count - 1) >= 1
        ):
            raise click.UsageError(
                f"--control-share {share}: with a floor of {floor} it lies from {floor} to below"
                f" {1 - floor * (count - 1):.4g}"
            )
