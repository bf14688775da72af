"""A fit in words: tables for a terminal, and the plain values of `fit.json`."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.money import exponent
from sim.fitting.fit import Fit
from sim.fitting.found import Estimate
from sim.fitting.predictive import Check, Predictive

MONEY = ("mean_order_value", "history_margin", "aov", "order_value[q")
SMALL = ("hourly", "order_delay", "refund_delay")
"""Parameters with many parts that matter together: in the JSON, not on the screen."""


def as_json(fit: Fit, predictive: Predictive) -> dict[str, Any]:
    """Everything: each estimate with its interval and units, what was assumed, each figure of the check."""
    log = fit.log
    return {
        "name": fit.mapping.name,
        "currency": log.currency,
        "customers": len(log),
        "orders": int(log.ordered.sum()),
        "refunds": int(log.returned.sum()),
        "first_day": log.first_day.isoformat(),
        "days": log.days,
        "estimates": [_estimate(one) for one in fit.found.estimates.values()],
        "assumed": [one.name for one in fit.found.estimates.values() if one.source == "assumed"],
        "given": [one.name for one in fit.found.estimates.values() if one.source == "given"],
        "notes": _notes(fit, predictive),
        "check": {
            "replications": predictive.replications,
            "is_good": not predictive.bad,
            "lognormal_gain": predictive.lognormal_gain,
            "figures": [_check(one) for one in predictive.checks],
        },
    }


def show(fit: Fit, predictive: Predictive, console: Console) -> None:
    """Estimates, what was assumed, and what the check says."""
    log = fit.log
    console.print(
        f"{len(log):,} customers of {log.days} days from {log.first_day}, {int(log.ordered.sum()):,} orders, "
        f"{int(log.returned.sum()):,} refunded"
    )
    told = [one for one in fit.found.estimates.values() if one.source == "data"]
    table = Table("parameter", "estimate", "95 % interval", "units", title="What the log tells")
    for one in told:
        if not one.name.startswith(SMALL):
            table.add_row(escape(one.name), *_numbers(one, log.currency), f"{one.units:,}")
    console.print(table)
    for source in ("given", "assumed"):
        names = _grouped([one for one in fit.found.estimates.values() if one.source == source])
        if names:
            said = "by the mapping" if source == "given" else "the log cannot tell"
            console.print(f"[bold]{source}[/bold] ({said}): {escape(names)}")
    for note in _notes(fit, predictive):
        console.print(f"note: {escape(note)}")
    _show_check(predictive, log.currency, console)


def _show_check(predictive: Predictive, currency: str, console: Console) -> None:
    title = f"Could this world have left this log? {predictive.replications} worlds of the posterior"
    table = Table("figure", "log", "simulated", "middle 95 %", "tail prob.", "", title=title)
    for one in predictive.checks:
        values = [_number(one.name, value, currency) for value in (one.observed, one.mean, one.low, one.high)]
        mark = "[red]bad[/red]" if one.is_bad else ""
        table.add_row(
            escape(one.name),
            values[0],
            values[1],
            f"{values[2]} to {values[3]}",
            f"{one.tail_prob:.2g}",
            mark,
        )
    console.print(table)
    for advice in dict.fromkeys(one.advice for one in predictive.bad):
        names = ", ".join(one.name for one in predictive.bad if one.advice == advice)
        console.print(f"[red]bad fit[/red] {escape(names)}: {escape(advice)}")
    if not predictive.bad:
        console.print("[green]good fit[/green]: the log lies within what the world leaves behind")


def _notes(fit: Fit, predictive: Predictive) -> list[str]:
    family = predictive.family_note
    return [*fit.found.notes, *([family] if family else [])]


def _grouped(estimates: list[Estimate]) -> str:
    """Names and values, parts of one parameter together."""
    groups: dict[str, list[Estimate]] = {}
    for one in estimates:
        groups.setdefault(one.name.split("[")[0], []).append(one)
    return ", ".join(
        f"{name} {members[0].value:.4g}" if len({one.value for one in members}) == 1 else name
        for name, members in groups.items()
    )


def _numbers(one: Estimate, currency: str) -> tuple[str, str]:
    assert one.low is not None
    assert one.high is not None
    low, high = _number(one.name, one.low, currency), _number(one.name, one.high, currency)
    return _number(one.name, one.value, currency), f"{low} to {high}"


def _number(name: str, value: float, currency: str) -> str:
    if name.startswith(MONEY):
        places = exponent(currency)
        return f"{value / 10**places:,.{places}f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _estimate(one: Estimate) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "units": one.units,
        "source": one.source,
    }


def _check(one: Check) -> dict[str, Any]:
    return {
        "name": one.name,
        "observed": one.observed,
        "mean": one.mean,
        "low": one.low,
        "high": one.high,
        "tail_prob": one.tail_prob,
        "is_bad": one.is_bad,
        "advice": one.advice or None,
    }
