"""An evaluation for people (tables and one line that says what to make of it) and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.off_policy.estimators import Estimate, Reason
from experiments.off_policy.overlap import Finding, Overlap, Severity
from sim.ope.run import Outcome
from sim.ope.slates import SlateOutcome

REASONS = {
    Reason.NO_ROWS: "no rows",
    Reason.NO_MODEL: "needs the shares of all actions",
    Reason.NO_OVERLAP: "the candidate never does what was logged",
    Reason.REFUSED: "refused: see below",
    Reason.TOO_FEW_UNITS: "no interval: fewer than 10 units",
    Reason.NO_SPREAD: "no interval: nothing varies",
    Reason.NOT_FACTORED: "needs places drawn independently",
    Reason.NO_REWARD_BY_PLACE: "needs a reward for each place",
    Reason.NO_PROPENSITY_ALONE: "needs propensity_alone and share_alone",
}
NOTES = {
    "replay": "the rows kept by rejection",
    "dm": "interval without the model's error",
    "clipped_ips": "weights up to {setting}",
    "switch_dr": "the model above weight {setting}",
    "dros": "lambda {setting}",
}


HEADINGS = ("estimator", "value", "std error", "95 % interval", "rows it is worth", "largest weight", "")
"""Of the table of estimates (`cells_of`)."""


def as_json(outcome: Outcome | SlateOutcome) -> dict[str, Any]:
    """Everything, for a program; numbers that are none are null, rows are those of the file."""
    found: dict[str, Any] = {
        "policy": outcome.candidate.name,
        "kind": outcome.candidate.kind,
        "rows": outcome.rows,
        "logged": _estimate(outcome.logged),
        "training": outcome.candidate.training.value,
        "trained": outcome.trained,
        "folds": outcome.options.folds,
        "seed": outcome.options.seed,
        "bootstrap": outcome.options.bootstrap,
        "actions": list(outcome.actions),
        "estimates": [_estimate(one) for one in outcome.estimates],
        "overlap": _overlap(outcome.overlap, outcome.actions),
    }
    return found | ({"learner": outcome.options.learner.value} if isinstance(outcome, Outcome) else {})


def show(outcome: Outcome | SlateOutcome, console: Console) -> None:
    """The tables, what was found, and the verdict."""
    is_slate, seen = isinstance(outcome, SlateOutcome), outcome.overlap
    per = "slate" if is_slate else "decision"
    title = f"Value per {per} of {outcome.candidate.name} ({outcome.candidate.kind}), {outcome.rows:,} rows"
    table = Table(title=title, title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("estimator", "") else "right")
    for one in (outcome.logged, *outcome.estimates):
        table.add_row(*map(escape, cells_of(one)))
    console.print(table)
    console.print(outcome.trained[0].upper() + outcome.trained[1:] + ".")
    if outcome.options.bootstrap:
        console.print(f"Intervals of {outcome.options.bootstrap:,} bootstrap draws of units.")
    console.print(figures_of(seen))
    for finding in seen.findings:
        colour = "red" if finding.severity is Severity.REFUSE else "yellow"
        console.print(
            f"[{colour}]{finding.severity.value}[/]: {escape(finding.text + named(finding, outcome))}"
        )
    colour = "red" if seen.refused else "yellow" if seen.findings else "green"
    judged, because = verdict_of(seen, "above")
    console.print(f"[bold {colour}]{judged}[/]{because}")


def verdict_of(seen: Overlap, findings: str) -> tuple[str, str]:
    """What to make of the estimates, and why; `findings` says where they stand."""
    if seen.refused:
        return "Refused", ": this log cannot say by weights what the policy would earn."
    if seen.findings:
        return "With care", f": the estimates stand on the assumptions named {findings}."
    return "Overlap is good", ": the log says what the policy would earn, as far as intervals tell."


def named(finding: Finding, outcome: Outcome | SlateOutcome) -> str:
    """The actions a finding is about, by name."""
    if not finding.actions:
        return ""
    names = [outcome.actions[k] for k in finding.actions[:5]]
    more = len(finding.actions) - len(names)
    return f": {', '.join(names)}{f' and {more} more' if more > 0 else ''}"


def figures_of(seen: Overlap) -> str:
    """The weights in one sentence."""
    if seen.mean_weight is None or seen.ess is None or seen.max_weight is None:
        return f"{seen.rows:,} rows of {seen.units:,} units; their weights cannot be told."
    return (
        f"{seen.rows:,} rows of {seen.units:,} units are worth {seen.ess:,.1f} of the policy's own; "
        f"weights: mean {seen.mean_weight:.4g} (std error {seen.mean_error or 0.0:.2g}), "
        f"largest {seen.max_weight:.4g}; least propensity {seen.least_propensity:.3g}."
    )


def cells_of(one: Estimate) -> list[str]:
    """An estimate as a row of the table."""
    interval = "" if one.ci_low is None else f"[{number(one.ci_low)}, {number(one.ci_high)}]"
    note = REASONS[one.reason] if one.reason is not None else _note(one)
    return [
        one.estimator,
        number(one.value),
        number(one.standard_error),
        interval,
        "" if one.ess is None else f"{one.ess:,.1f}",
        "" if one.max_weight is None else f"{one.max_weight:,.4g}",
        note,
    ]


def _note(one: Estimate) -> str:
    if one.estimator == "logged":
        return "the log's own policy"
    if one.setting is not None and not isfinite(one.setting):
        return "changes no weight"
    return NOTES.get(one.estimator, "").format(setting="" if one.setting is None else f"{one.setting:.4g}")


def number(value: float | None) -> str:
    """Six digits, or nothing."""
    return "" if value is None else f"{value:.6g}"


def _estimate(one: Estimate) -> dict[str, Any]:
    is_unbounded = one.setting is not None and not isfinite(one.setting)
    return {
        "estimator": str(one.estimator),
        "value": one.value,
        "standard_error": one.standard_error,
        "ci_low": one.ci_low,
        "ci_high": one.ci_high,
        "reason": None if one.reason is None else one.reason.value,
        "ess": one.ess,
        "mean_weight": one.mean_weight,
        "max_weight": one.max_weight,
        "setting": None if is_unbounded else one.setting,
    }


def _overlap(seen: Overlap, actions: Sequence[str]) -> dict[str, Any]:
    least = seen.least_propensity
    return {
        "is_refused": seen.refused,
        "units": seen.units,
        "least_propensity": least if least is not None and isfinite(least) else None,
        "rows_with_weight": seen.positive,
        "mean_weight": seen.mean_weight,
        "mean_weight_error": seen.mean_error,
        "max_weight": seen.max_weight,
        "ess": seen.ess,
        "unseen_mass": seen.unseen_mass,
        "findings": [
            {
                "severity": finding.severity.value,
                "code": finding.code.value,
                "text": finding.text,
                "rows": list(finding.rows),
                "actions": [actions[k] for k in finding.actions],
            }
            for finding in seen.findings
        ],
    }
