"""Power against days: a line for each effect in closed form, and what each policy came to in simulation."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

import numpy as np

from experiments.planning.contrasts import drift, power_of
from experiments.planning.plan import Question
from sim.planner.rows import Answer

FORMATS = (".svg", ".png", ".html")
_POINTS = 120
_STYLES = {"fixed": "--", "thompson": ":", "top_two": "-."}


def draw(answer: Answer, target: Path) -> None:
    """Write the plot; a page of HTML holds it inside and needs nothing else."""
    # Here, for matplotlib takes half a second to load; the figure's own object keeps no global state
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    _fill(figure.subplots(), answer)
    if target.suffix == ".png":
        figure.savefig(target, dpi=150)
        return
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "rialto", "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    if target.suffix == ".html":
        title = html.escape(f"Plan: {answer.asked.experiment.policy.objective}")
        text = f"<!doctype html><meta charset=utf-8><title>{title}</title>{text[text.index('<svg') :]}\n"
    target.write_text(text, "utf-8")


def _fill(axes: Any, answer: Answer) -> None:
    longest = _longest(answer)
    days = np.linspace(0.0, longest, _POINTS)
    colors: dict[float, str] = {}
    for (question, _), effect in (
        (pair, effect) for effect in answer.asked.effects for pair in answer.plans[:1]
    ):
        color = colors.setdefault(effect, f"C{len(colors)}")
        axes.plot(
            days, [_power(question, effect, day) for day in days], color=color, label=f"{100 * effect:+.4g}%"
        )
    for row in answer.rows:
        if row.simulated is None:
            continue
        reached = [(0.0, 0.0), *row.simulated.right_by_day]
        style = _STYLES.get(row.policy, "--")
        axes.step(*zip(*reached, strict=True), where="post", color=colors[row.effect], linestyle=style)
    for policy in dict.fromkeys(row.policy for row in answer.rows if row.simulated):
        axes.plot([], [], color="black", linestyle=_STYLES.get(policy, "--"), label=f"{policy}, simulated")
    axes.axhline(answer.asked.power, color="grey", linewidth=0.8)
    axes.set(
        xlim=(0.0, longest),
        ylim=(0.0, 1.0),
        xlabel="days",
        ylabel="found rightly",
        title=f"{answer.asked.experiment.policy.objective}, {answer.asked.per_day:,.0f} visitors a day",
    )
    axes.legend(loc="lower right")


def _longest(answer: Answer) -> float:
    decided = [row.planned.days.decision for row in answer.rows if row.planned.days is not None]
    lived = [day for row in answer.rows if row.simulated for day, _ in row.simulated.right_by_day]
    return 1.2 * max([7.0, *decided, *lived])


def _power(question: Question, effect: float, day: float) -> float:
    """The chance that one look on that day finds it: units whose window has closed by then."""
    window = question.attribution_window.total_seconds() / 86_400
    units = max(0.0, day - window) * question.visitors_per_day
    changed = question.baseline.changed(question.objective, effect).quantity(question.objective)
    assert changed is not None  # the plan was made
    d = abs(drift(changed, question.control, question.split))
    return power_of(d, units, question.limit)
