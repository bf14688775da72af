"""Resident memory of the API process after a million assignments."""

from __future__ import annotations

from typing import Any

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.databases import counts
from benchmarks.rounds import resident_mb, resident_mb_beside
from benchmarks.servers import rialto
from benchmarks.wrk import BenchmarkFailed

STEPS = 10


def memory(bench: Bench) -> dict[str, Any]:
    """Assign in batches, and look at the process at the start, on the way and in the end."""
    step = bench.memory_units // STEPS
    with bench.folder() as folder, rialto(folder, known=0) as server, server.http() as http:
        seen = [[0, round(resident_mb(server.pid), 1)]]
        for number in range(STEPS):
            units = [f"unit-{n:010d}" for n in range(number * step, (number + 1) * step)]
            shop.enrol(http, units)
            seen.append([(number + 1) * step, round(resident_mb(server.pid), 1)])
        assigned = counts(server.database_url)["assignment"]
        beside = round(resident_mb_beside(server.pid), 1)
    if assigned != bench.memory_units:
        raise BenchmarkFailed(f"{bench.memory_units} assignments acknowledged, {assigned} in the ledger")
    return {"assigned": assigned, "resident_mb": seen, "beside_mb": beside}
