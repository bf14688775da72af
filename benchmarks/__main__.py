"""`make bench`: all figures, or `make bench ARGS="assign events"` some of them; the page is written anew."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from benchmarks import machine, results
from benchmarks.bench import Bench
from benchmarks.page import write_page
from benchmarks.parts import (
    allocation,
    analysis,
    contextual,
    decisions,
    folding,
    growth,
    latency,
    memory,
    off_policy,
    peers,
    profile,
    reports,
    simulation,
    whole_year,
)
from benchmarks.wrk import BenchmarkFailed, find_wrk

PAGE = Path(__file__).with_name("README.md")
WORK = Path(__file__).parents[1] / ".bench"
PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "assign": decisions.assign,
    "events": decisions.events,
    "postgres": decisions.on_postgres,
    "folding": folding.folding,
    "latency": latency.latency,
    "memory": memory.memory,
    "growth": growth.growth,
    "reports": reports.reports,
    "analysis": analysis.analysis,
    "allocation": allocation.allocation,
    "contextual": contextual.contextual,
    "simulation": simulation.simulation,
    "whole_year": whole_year.whole_year,
    "off_policy": off_policy.off_policy,
    "peers": peers.peers,
    "profile": profile.profile,
}


def main() -> int:
    """Measure the parts asked for, each on ledgers of its own, and write the page."""
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, _end_in_order)
    WORK.mkdir(exist_ok=True)
    WORK.chmod(0o711)  # a PostgreSQL server of another user has its folder in here
    tempfile.tempdir = str(WORK)  # whatever is measured is on this disk
    bench = replace(
        Bench(WORK),
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        nothing_seconds=arguments.seconds * 2 / 3,
        growth_rows=arguments.rows,
        memory_units=arguments.units,
    )
    wanted = [part for part in arguments.parts or PARTS if part not in arguments.skip]
    try:
        find_wrk()
        failed = [part for part in wanted if not _measure(part, bench)]
    except BenchmarkFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(write_page(PAGE, results.load()))
    return 1 if failed else 0


def _end_in_order(_number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, so that servers are stopped and ledgers removed."""
    sys.exit(143)


def _measure(part: str, bench: Bench) -> bool:
    """Measure one part and keep what came of it; whether it could be measured."""
    found: dict[str, Any] = {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": machine.commit(),
        "machine": machine.machine(bench.work),
        "versions": machine.versions(),
        "rounds": bench.rounds,
        "round_s": bench.seconds,
    }
    sys.stderr.write(f"{part} ...\n")
    start = time.monotonic()
    try:
        found["data"] = PARTS[part](bench)
    except BenchmarkFailed as error:
        sys.stderr.write(f"error: {part}: {error}\n")
        found["failed"] = str(error)
    except Exception as error:  # the other parts are measured all the same
        traceback.print_exc()
        found["failed"] = f"{type(error).__name__}: {error}"
    found["seconds"] = round(time.monotonic() - start)
    results.keep(part, found)
    return "data" in found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=", ".join(PARTS) + "; all when none is named"
    )
    parser.add_argument("--skip", action="append", default=[], choices=list(PARTS), help="leave a part out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each path (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round (default 3)")
    parser.add_argument("--rows", type=int, default=5_000_000, help="of the big ledger (default 5,000,000)")
    parser.add_argument("--units", type=int, default=1_000_000, help="of the memory part (default 1,000,000)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
