"""A run as one page of HTML: no script, no font, no picture from anywhere, and the same bytes each time."""

from pathlib import Path

from sim.report.charts import profit_figure, regret_figure, shares_figures
from sim.report.document import document, grid, section
from sim.report.markup import Html, element
from sim.report.opening import opening
from sim.report.outcomes import fan_figures, guardrail_figures, verdict_figure
from sim.report.series import is_sampled
from sim.report.tables import (
    guardrails_table,
    segments_table,
    settings_table,
    summary_table,
    variants_table,
    world_of,
)
from sim.runner.run import Run
from sim.runner.sampled import LEFT_OUT


def write_page(run: Run, path: Path) -> None:
    """Write the report of a run; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(run), encoding="utf-8", newline="\n")


def page_of(run: Run) -> str:
    """The whole document."""
    title = f"{run.settings.scenario.title} – a simulated run"
    return document(title, opening(run), *_sections(run))


def _sections(run: Run) -> list[Html]:
    about = section(
        "Settings",
        element("div", settings_table(run), guardrails_table(run), class_="pair"),
        world_of(run),
    )
    if not run.replications:
        return [element("p", "No replication was done: there is nothing to show."), about]
    did = [profit_figure(run), regret_figure(run), *shares_figures(run)]
    did += [] if is_sampled(run) else [verdict_figure(run)]
    return [
        section("What it did", grid(*did)),
        section("What a team would have seen", *_seen(run)),
        section("All replications", summary_table(run)),
        section("The variants, and the truth", variants_table(run), segments_table(run)),
        about,
    ]


def _seen(run: Run) -> list[Html]:
    if is_sampled(run):
        return [element("p", f"Decided by sampling, which leaves out: {', '.join(LEFT_OUT)}.")]
    fans, guardrails = fan_figures(run), guardrail_figures(run)
    notes = [element("p", note) for _, note in (fans, guardrails) if note]
    return [grid(*fans[0], *guardrails[0]), *notes]
