"""The outcome of a closed loop, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from sim.closed_loop.drive import Outcome

_ROWS = (
    ("steps", "steps of the clock"),
    ("customers", "customers assigned"),
    ("asks", "asks, repeated ones too"),
    ("events", "events acknowledged"),
    ("duplicates", "sent twice"),
    ("restating", "came after their window had closed"),
    ("versions", "policy versions served"),
    ("calls", "calls"),
)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Plain values; `holds` says whether every promise held."""
    return {"holds": outcome.failure is None, **asdict(outcome)}


def show(outcome: Outcome, console: Console) -> None:
    """What was driven, then what broke and how to see it again."""
    table = Table(show_header=False, box=None)
    for name, title in _ROWS:
        table.add_row(title, f"{getattr(outcome, name):,}")
    console.print(table)
    foretold = "every variant foretold from it" if outcome.is_foretold else "the store's secret is its own"
    _say(console, f"seed {outcome.seed} ({foretold}), requests {outcome.requests}")
    _say(console, f"service {outcome.service_version}, commit {outcome.service_commit}")
    _say(console, f"simulator {outcome.simulator_version}, commit {outcome.simulator_commit}")
    failure = outcome.failure
    if failure is None:
        _say(console, "every promise held")
        return
    _say(console, f"\nBROKEN at step {failure.step} ({failure.at}): {failure.invariant}")
    _say(console, f"  {failure.what}")
    _say(console, f"  expected {failure.expected}")
    _say(console, f"  found    {failure.found}")
    _say(console, "\nTo see it again (RIALTO_KEY as `init` prints it):")
    for line in failure.replay:
        _say(console, f"  {line}")


def _say(console: Console, line: str) -> None:
    """A line as it stands: a command must not be broken, nor brackets be taken for colours."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)
