"""The figures as a page: medians, spread, ratios, and what they were measured on."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROWS = {
    "nothing": ("a typed handler that does nothing", "requests"),
    "assign": ("assign, a new unit each, durable before answered", "decisions"),
    "sticky": ("assign, a unit that has its assignment", "decisions"),
    "batch": ("assign/batch, 1,000 new units a body", "decisions"),
    "events": ("events, 100 orders a body", "events"),
}

INTRODUCTION = """# Benchmarks

`make bench` writes this page. One process serves a fresh SQLite ledger (WAL, `synchronous=FULL`) and, beside
it, a typed Litestar handler that does nothing (`/nothing`, an application of its own in the same process). A
small asyncio client calls both from the same machine over kept-alive connections, 32 for single calls and 2
for lists, while the folder and the allocator do their work. Figures are medians of five rounds of one second;
*spread* is the least and the most; a *ratio* is to doing nothing, item by request, in the same round. Ratios
travel between machines, rates do not.
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Per second by call and round; milliseconds alone; report latency by units enrolled."""

    rounds: dict[str, list[float]]
    one_caller_ms: float
    one_caller_busy_ms: float
    reports_ms: dict[int, float]


def write_page(file: Path, figures: Figures) -> str:
    """Write the page and return it."""
    (few, fast), (many, slow) = sorted(figures.reports_ms.items())
    lines = [INTRODUCTION, "| call | per second | spread | ratio |", "|---|---|---|---|"]
    for name, (label, unit) in ROWS.items():
        rates = figures.rounds[name]
        ratios = [rate / nothing for rate, nothing in zip(rates, figures.rounds["nothing"], strict=True)]
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        lines.append(f"| {label} | {median(rates):,.0f} {unit} | {spread} | {median(ratios):.2f} |")
    lines += [
        "",
        f"One caller, one request at a time: {figures.one_caller_ms:.1f} ms from question to durable answer, "
        f"{figures.one_caller_busy_ms:.1f} ms while the folder works off a backlog.",
        "",
        "| report of one day's cohorts, everything folded | milliseconds |",
        "|---|---|",
        f"| {few:,} units enrolled | {fast:.0f} |",
        f"| {many:,} units enrolled | {slow:.0f} |",
        "",
        f"Ten times the units cost {slow / fast:.2f} times the time: a report reads cells, not units.",
        "",
        f"Measured on {_processor()}, {os.cpu_count()} cores, {platform.system()};",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},",
        ", ".join(f"{name} {version(name)}" for name in ("litestar", "uvicorn", "msgspec", "sqlalchemy"))
        + ".",
        "",
    ]
    text = "\n".join(lines)
    file.write_text(text, "utf-8")
    return text


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.machine()
