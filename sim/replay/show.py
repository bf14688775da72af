"""A replay's outcome for people: tables, and one line that says whether the two sides agree."""

from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.money import exponent
from sim.replay.compare import Comparison
from sim.replay.run import Outcome

RATES = frozenset(["conversion_rate", "refund_rate", "refund_value_rate", "click_through_rate", "take_rate"])
MONEY = frozenset(["revenue", "aov", "refunded", "over_refunded", "orphan_refunded", "revenue_per_unit"])
SHOWN_DAYS = 12


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything, for a program."""
    return {
        "mapping": outcome.mapping.name,
        "mode": outcome.mapping.mode.value,
        "rows": outcome.rows,
        "assigned": outcome.progress.assigned,
        "events": {
            "accepted": outcome.counts.accepted,
            "duplicates": outcome.counts.duplicates,
            "rejected": outcome.counts.rejected,
        },
        "problems": outcome.counts.problems,
        "clock_steps": outcome.steps,
        "file": outcome.file,
        "service": outcome.service,
        "comparisons": [asdict(comparison) for comparison in outcome.comparisons],
        "sample": [asdict(comparison) for comparison in outcome.sample],
        "shares_by_day": shares_by_day(outcome),
        "agrees": outcome.agrees,
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print the tables and the verdict."""
    counts, currency = outcome.counts, outcome.mapping.currency
    console.print(
        f"{outcome.rows:,} rows: {outcome.progress.assigned:,} assignments, "
        f"{counts.accepted:,} events accepted, {counts.duplicates:,} duplicates, {counts.rejected:,} refused"
    )
    for problem in counts.problems:
        console.print(f"  refused: {problem}", markup=False)
    custom = frozenset(metric.key for metric in _proportions(outcome))
    if outcome.sample:
        console.print(
            _table("The rows kept, next to the whole file", outcome.sample, currency, custom, "kept")
        )
        console.print(_shares_table(outcome))
    title = "The rows kept" if outcome.sample else "The file"
    console.print(_table(f"{title}, next to the service", outcome.comparisons, currency, custom, "service"))
    console.print(verdict(outcome), markup=False)


def verdict(outcome: Outcome) -> str:
    """One line: whether the file and the service agree."""
    if outcome.agrees:
        return (
            f"The file and the service agree: {len(outcome.comparisons)} numbers are the same on both sides."
        )
    off = [f"{c.subject} {c.metric}" for c in (*outcome.comparisons, *outcome.sample) if not c.agrees]
    parts = [f"{len(off)} numbers differ ({', '.join(off[:5])})"] if off else []
    if outcome.counts.rejected:
        parts.append(f"{outcome.counts.rejected} items were refused")
    return f"The file and the service do NOT agree: {' and '.join(parts)}."


def shares_by_day(outcome: Outcome) -> list[dict[str, Any]]:
    """What share of each day's rows was offered which variant."""
    return [
        {"day": day, "shares": {variant: n / sum(offered.values()) for variant, n in sorted(offered.items())}}
        for day, offered in sorted(outcome.progress.offered.items())
    ]


def _proportions(outcome: Outcome) -> Sequence[Any]:
    experiment = outcome.mapping.experiment
    return [m for m in experiment.metrics if m.kind == "proportion"] if experiment else []


def _table(
    title: str, comparisons: Sequence[Comparison], currency: str, custom: frozenset[str], second: str
) -> Table:
    table = Table(title=title, title_justify="left")
    for heading, justify in (
        ("", "left"),
        ("number", "left"),
        ("file", "right"),
        (second, "right"),
        ("", "left"),
    ):
        table.add_column(heading, justify=justify)  # pyright: ignore[reportArgumentType] - a literal of rich's
    previous = ""
    for c in comparisons:
        as_text = _formatter(c.metric, currency, custom)
        served = as_text(c.service) if c.service is not None else (c.reason or "none")
        table.add_row(
            c.subject if c.subject != previous else "",
            c.metric,
            as_text(c.file) + _interval(c.file_interval, as_text),
            served + _interval(c.service_interval, as_text),
            "same" if c.agrees and c.file == c.service else "ok" if c.agrees else "[bold red]differs[/]",
        )
        previous = c.subject
    return table


def _formatter(metric: str, currency: str, custom: frozenset[str]) -> Any:
    def as_text(value: float | None) -> str:
        if value is None:
            return "none"
        if metric in RATES or metric in custom:
            return f"{100 * value:.3f} %"
        if metric in MONEY:
            places = exponent(currency)
            is_average = metric in ("aov", "revenue_per_unit")
            return f"{Decimal(value).scaleb(-places):,.{places + is_average}f}"
        return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}"

    return as_text


def _interval(bounds: tuple[float, float] | None, as_text: Any) -> str:
    return "" if bounds is None else f"  [{as_text(bounds[0])}, {as_text(bounds[1])}]".replace(" %,", ",")


def _shares_table(outcome: Outcome) -> Table:
    days = shares_by_day(outcome)
    keep = {round(place * (len(days) - 1) / max(1, SHOWN_DAYS - 1)) for place in range(SHOWN_DAYS)}
    variants = (
        [variant.key for variant in outcome.mapping.experiment.variants] if outcome.mapping.experiment else []
    )
    table = Table(title="Share of each day's traffic", title_justify="left")
    table.add_column("day")
    for variant in variants:
        table.add_column(variant, justify="right")
    for place, day in enumerate(days):
        if place in keep:
            table.add_row(day["day"], *(f"{100 * day['shares'].get(v, 0.0):.1f} %" for v in variants))
    return table
