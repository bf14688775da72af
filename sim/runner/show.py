"""A run and the list of scenarios in a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.analysis.wording import Language, money
from sim.runner.run import Run
from sim.runner.summary import summary_of
from sim.worlds.scenario import Scenario

MONEY = ("profit_minor", "expected_minor", "regret_minor", "control_minor")
TITLES = {
    "customers": "customers",
    "profit_minor": "margin that came",
    "expected_minor": "true margin of what was shown",
    "regret_minor": "regret (against the best of every day and segment)",
    "regret_share": "regret, of what could be had",
    "control_minor": "true margin had nobody been offered anything",
    "best_share": "share of the best variant when it ended",
    "harmed_share": "customers shown something worse than nothing",
    "days_to_decision": "days to a verdict",
}


def show_run(run: Run, console: Console) -> None:
    """The summary of a run."""
    scenario, found = run.settings.scenario, summary_of(run)
    done = f"{len(run.replications)} of {run.settings.replications} replications"
    console.print(f"[bold]{scenario.key}[/bold]: {scenario.title}", highlight=False)
    console.print(f"{scenario.claim} {scenario.ground_truth}", highlight=False)
    note = "" if run.is_complete else " (interrupted)"
    console.print(f"{done}{note}, {scenario.days} days, seed {run.settings.seed}", highlight=False)
    if not run.replications:
        return
    table = Table("", "mean", "5 %", "median", "95 %", title=None)
    for name, title in TITLES.items():
        figures = found["figures"][name]
        if figures["n"]:
            cells = [_told(name, figures[key], scenario) for key in ("mean", "q05", "q50", "q95")]
            table.add_row(title, *cells)
    console.print(table)
    for title, key in (("verdicts", "verdicts"), ("best variant", "best"), ("killed", "killed")):
        counts = {name: count for name, count in found[key].items() if count}
        told = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
        console.print(f"{title}: {told}", highlight=False)


def show_scenarios(found: Sequence[Scenario], console: Console) -> None:
    """Keys, sizes and claims."""
    table = Table("scenario", "days", "a day", "claim")
    for one in found:
        table.add_row(one.key, str(one.days), f"{one.customers_per_day:,.0f}", one.claim)
    console.print(table)


def _told(name: str, value: Any, scenario: Scenario) -> str:
    if name in MONEY:
        return money(value, scenario.world.currency, Language.EN)
    if name.endswith("_share"):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}"
