"""A run as one page of HTML: no script, no font, no picture from anywhere, and the same bytes each time."""

from importlib.resources import files
from pathlib import Path

from sim.report.charts import profit_figure, regret_figure, shares_figures
from sim.report.markup import Html, element, joined
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

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Forbids the browser every request, whatever a title or a claim may hold."""


def write_page(run: Run, path: Path) -> None:
    """Write the report of a run; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(run), encoding="utf-8", newline="\n")


def page_of(run: Run) -> str:
    """The whole document."""
    style = files("sim.report").joinpath("page.css").read_text("utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{run.settings.scenario.title} – a simulated run"),
        element("style", Html(style)),
    )
    body = element("body", element("main", opening(run), *_sections(run)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _sections(run: Run) -> list[Html]:
    about = _section(
        "Settings",
        element("div", settings_table(run), guardrails_table(run), class_="pair"),
        world_of(run),
    )
    if not run.replications:
        return [element("p", "No replication was done: there is nothing to show."), about]
    did = [profit_figure(run), regret_figure(run), *shares_figures(run)]
    did += [] if is_sampled(run) else [verdict_figure(run)]
    return [
        _section("What it did", _grid(*did)),
        _section("What a team would have seen", *_seen(run)),
        _section("All replications", summary_table(run)),
        _section("The variants, and the truth", variants_table(run), segments_table(run)),
        about,
    ]


def _grid(*figures: Html) -> Html:
    return element("div", *figures, class_="figures")


def _seen(run: Run) -> list[Html]:
    if is_sampled(run):
        return [element("p", f"Decided by sampling, which leaves out: {', '.join(LEFT_OUT)}.")]
    fans, guardrails = fan_figures(run), guardrail_figures(run)
    notes = [element("p", note) for _, note in (fans, guardrails) if note]
    return [_grid(*fans[0], *guardrails[0]), *notes]


def _section(title: str, *content: Html) -> Html:
    return element("section", element("h2", title), joined(content))
