"""A simulated year with every feature on, at 10,000, 100,000 and a million customers: CPU and memory.

One replication of the scenario `whole_year` in a process of its own, one thread; what counts is CPU of the
replication alone. A step of the allocator and a look at the verdict cost by the cells they read, whoever
fills them, so part of the cost is the same for any number of customers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.peers.bernoulli_peers import resident_mb
from benchmarks.wrk import BenchmarkFailed

ROOT = Path(__file__).parents[2]
SCENARIO = "whole_year"
CUSTOMERS = (10_000, 100_000, 1_000_000)
ROUNDS_MAX = 3  # one takes two minutes
TIMEOUT_S = 900


def whole_year(bench: Bench) -> dict[str, Any]:
    """CPU of a customer and resident memory for each number of customers, in turn."""
    rounds: dict[int, list[dict[str, float]]] = {customers: [] for customers in CUSTOMERS}
    for seed in range(1, min(bench.rounds, ROUNDS_MAX) + 1):
        for customers, found in rounds.items():
            found.append(_run(customers, seed))
    return {"runs": {str(customers): _row(found) for customers, found in rounds.items()}}


def growth(data: dict[str, Any], smaller: int) -> list[float]:
    """CPU of a customer among a million over that among fewer, round by round."""
    most, fewer = data["runs"][str(CUSTOMERS[-1])], data["runs"][str(smaller)]
    return [many / few for many, few in zip(most["us"], fewer["us"], strict=True)]


def _row(found: list[dict[str, float]]) -> dict[str, Any]:
    return {
        "customers": [round(one["customers"]) for one in found],
        "cpu_s": [round(one["cpu_s"], 2) for one in found],
        "us": [round(1e6 * one["cpu_s"] / one["customers"], 2) for one in found],
        "rss_mb": [round(one["rss_mb"], 1) for one in found],
    }


def _run(customers: int, seed: int) -> dict[str, float]:
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__, str(customers), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=alone, cwd=ROOT)
    if done.returncode:
        raise BenchmarkFailed(f"{SCENARIO}, {customers} customers: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def main() -> None:
    """One replication with so many customers, by the seed given, and what it took."""
    from sim.runner.replication import replicate
    from sim.runner.settings import RunSettings
    from sim.worlds.scenarios import scenario

    customers, seed = int(sys.argv[1]), int(sys.argv[2])
    settings = RunSettings(scenario(SCENARIO), seed, replications=1, customers=customers)
    start = time.process_time()
    found = replicate(settings, 0)
    cpu_s = time.process_time() - start
    print(json.dumps({"customers": int(found.customers.sum()), "cpu_s": cpu_s, "rss_mb": resident_mb()}))


if __name__ == "__main__":
    main()
