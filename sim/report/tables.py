"""The tables of the page: figures of all replications, variants beside their truth, settings, the world."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import yaml

from experiments.analysis.wording import Language, change_in_words, metric_in_words, money
from sim.calibration.provenance import commit, rialto_version
from sim.report.lifts import coverage, objective_of
from sim.report.markup import Html, element
from sim.report.scales import percent
from sim.report.series import best_first, control_of, published, variants_of
from sim.runner.files import settings_to_json
from sim.runner.run import Run
from sim.runner.show import MONEY, TITLES
from sim.runner.summary import summary_of
from sim.worlds.document import to_document
from sim.worlds.truth import VariantTruth, true_lifts, truth_of_period

TRUTHS = ("conversion_rate", "aov", "refund_rate", "margin_per_unit")
MONEY_TRUTHS = frozenset({"aov", "margin_per_unit"})
FOLDED_FROM = 12
"""So many variants, and their table is folded."""


def summary_table(run: Run) -> Html:
    """Mean, standard error and quantiles of the figures of a replication."""
    found = summary_of(run)["figures"]
    rows: list[list[str]] = []
    for name, title in TITLES.items():
        if found[name]["n"]:
            cells = [
                _told(run, name, found[name][key]) for key in ("mean", "standard_error", "q05", "q50", "q95")
            ]
            rows.append([title, *cells, str(found[name]["n"])])
    head = ["", "mean", "standard error", "5 %", "median", "95 %", "replications"]
    covered, of = coverage(run)
    covers = "The credible interval of the last look covers the true lift of the variant it names in"
    note = f"{covers} {covered} of {of}." if of else "No last look has an interval."
    checked = [look.srm for one in run.replications for look in one.looks if look.srm is not None]
    if checked:
        note += f" The check of the sample ratio warned at {checked.count('warn')} of {len(checked)} looks."
    return element("div", table(head, rows), element("p", note, class_="note"))


def variants_table(run: Run) -> Html:
    """Every variant, the best first: what is true of it, and what became of it."""
    scenario, found, keys = run.settings.scenario, summary_of(run), variants_of(run)
    experiment, objective = scenario.experiment, objective_of(scenario)
    true = truth_of_period(scenario.world, range(scenario.days), window=experiment.attribution_window)
    lifts = true_lifts(true, experiment.control.key, objective.key)
    assigned = sum(found["assigned"].values()) or 1
    last = published(run)[:, -1, :].mean(axis=0)
    rows: list[list[str]] = []
    for arm in best_first(run):
        key = keys[arm]
        lift = lifts.get(key)
        rows.append(
            [
                f"{key} (control)" if arm == control_of(run) else key,
                *(_true(run, true[key], metric) for metric in TRUTHS),
                change_in_words(objective, scenario.world.currency, lift.absolute) if lift else "–",
                *_found_lift(run, key),
                percent(found["assigned"][key] / assigned),
                percent(float(last[arm])),
                str(found["throttled"][key]),
                str(found["killed"][key]),
            ]
        )
    names = {key: metric_in_words(key, experiment.unit) for key in (*TRUTHS, objective.key)}
    lift = f"lift of {names[objective.key]}"
    head = ["variant", *(f"true {names[key]}" for key in TRUTHS), f"true {lift}", f"{lift} found", "named"]
    head += ["of all customers", "share at the end", "throttled", "killed"]
    note = (
        "True values are of all days, bots and all. The lift found is the mean of the last looks that named "
        "the variant; beside it stands in how many replications it was named, throttled and killed."
    )
    body = element("div", table(head, rows), element("p", note, class_="note"))
    return body if len(rows) < FOLDED_FROM else folded(f"All {len(rows)} variants", body)


def segments_table(run: Run) -> Html:
    """The true margin of every variant in every segment."""
    scenario, keys = run.settings.scenario, variants_of(run)
    window, days = scenario.experiment.attribution_window, range(scenario.days)
    columns: Mapping[str, Mapping[str, VariantTruth]] = {
        one.key: truth_of_period(scenario.world, days, segment=one.key, window=window)
        for one in scenario.world.segments
    }
    rows = [
        [keys[arm], *(_true(run, column[keys[arm]], "margin_per_unit") for column in columns.values())]
        for arm in best_first(run)
    ]
    name = metric_in_words("margin_per_unit", scenario.experiment.unit)
    return folded(f"True {name}, by segment", table(["variant", *columns], rows))


def settings_table(run: Run) -> Html:
    """What was asked for, and which code did it."""
    plain = settings_to_json(run.settings)
    plain |= {"customers": plain["customers"] or f"{run.settings.per_day():,.0f} on a usual day"}
    plain |= {"rialto": rialto_version(), "commit": commit()}
    rows = [[name.replace("_", " "), _plain(value)] for name, value in plain.items()]
    return table(["setting", "value"], rows, left=2)


def guardrails_table(run: Run) -> Html:
    """The margins of the guardrails, relative to the control."""
    found = run.settings.scenario.experiment.guardrails
    rows = [[one.metric, *(_plain(margin) for margin in (one.warn, one.throttle, one.kill))] for one in found]
    return table(["guardrail", "warn", "throttle", "kill"], rows) if rows else element("p", "No guardrails.")


def world_of(run: Run) -> Html:
    """Every parameter of the world, folded."""
    text = yaml.safe_dump(_jsonable(to_document(run.settings.scenario.world)), sort_keys=False, width=100)
    return folded("The world, all of its parameters", element("pre", text, tabindex=0))


def folded(title: str, body: Html) -> Html:
    """What a reader opens."""
    return element("details", element("summary", title), body)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Html:
    """A table whose first `left` columns are words, the others figures; it scrolls where it is wide."""

    def row(kind: str, cells: Sequence[str]) -> Html:
        classes = [None if place < left else "number" for place in range(len(cells))]
        pairs = zip(cells, classes, strict=True)
        return element("tr", *(element(kind, cell, class_=class_) for cell, class_ in pairs))

    body = element("tbody", *(row("td", cells) for cells in rows))
    return element(
        "div", element("table", element("thead", row("th", head)), body), class_="scroll", tabindex=0
    )


def _found_lift(run: Run, variant: str) -> tuple[str, str]:
    last = [one.looks[-1] for one in run.replications if one.looks]
    lifts = [look.lift_abs for look in last if look.variant == variant and look.lift_abs is not None]
    if not lifts:
        return "–", "0"
    objective = objective_of(run.settings.scenario)
    mean = float(np.mean(lifts))
    return change_in_words(objective, run.settings.scenario.world.currency, mean), str(len(lifts))


def _true(run: Run, truth: VariantTruth, metric: str) -> str:
    value = truth.metrics.get(metric)
    if value is None:
        return "–"
    if metric in MONEY_TRUTHS:
        return money(value, run.settings.scenario.world.currency, Language.EN)
    return f"{100 * value:.2f} %"


def _told(run: Run, name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name in MONEY:
        return money(value, run.settings.scenario.world.currency, Language.EN)
    if name.endswith("_share"):
        return f"{round(100 * value, 2) + 0.0:.2f} %"
    return f"{value:,.1f}"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in cast("list[object]", value)) or "–"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _jsonable(value: Any) -> Any:
    """Lists for tuples: YAML has no others."""
    if isinstance(value, dict):
        return {key: _jsonable(one) for key, one in value.items()}
    return [_jsonable(one) for one in value] if isinstance(value, list | tuple) else value
