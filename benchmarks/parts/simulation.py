"""Decisions simulated a second beside the simulators of bandit libraries, on their own job.

Ten Bernoulli arms, rates 5 % to 12 %, 10,000 decisions, Thompson sampling that learns from each.
Everybody runs in a process of its own, one thread, in turn; what counts is CPU of the simulation alone.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.bench import Bench
from benchmarks.peers.install import python_with_bandits, python_with_obp
from benchmarks.wrk import BenchmarkFailed

ROOT = Path(__file__).parents[2]
OURS = ("compiled", "arrays", "draws")
PEERS: dict[str, Callable[[Path], Path]] = {
    "pymab": python_with_bandits,
    "obp": python_with_obp,
    "obp drawn before": python_with_obp,
    "mabwiser": python_with_bandits,
}
TEXTBOOK = (121.98, 0.17)  # mean regret and its standard error, 30,000 replications by hand, apart from us
TIMEOUT_S = 300


def simulation(bench: Bench) -> dict[str, Any]:
    """Decisions a CPU second of everybody in turn; a peer that cannot be had is named with the reason."""
    commands = {name: [sys.executable, "-m", "benchmarks.peers.bernoulli_ours", name] for name in OURS}
    missing: dict[str, str] = {}
    for name, python_with in PEERS.items():
        try:
            commands[name] = [str(python_with(bench.work)), "-m", "benchmarks.peers.bernoulli_peers", name]
        except BenchmarkFailed as error:
            missing[name] = str(error)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for seed in range(1, bench.rounds + 1):
        for name, command in commands.items():
            rounds[name].append(_run([*command, str(seed)]))
    return {"runs": {name: _row(found) for name, found in rounds.items()}, "missing": missing}


def over(data: dict[str, Any], name: str) -> list[float]:
    """Our decisions a second over somebody's, round by round."""
    ours, theirs = data["runs"]["compiled"]["per_s"], data["runs"][name]["per_s"]
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def from_textbook(data: dict[str, Any]) -> list[float]:
    """How many standard errors of the difference our mean regret is from the textbook's, over all rounds."""
    regret, error = data["runs"]["compiled"]["regret"]
    return [abs(regret - TEXTBOOK[0]) / math.hypot(error, TEXTBOOK[1])]


def _row(found: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "per_s": [round(one["decisions"] / one["cpu_s"], 1) for one in found],
        "decisions": found[0]["decisions"],
        "rss_mb": [round(one["rss_mb"], 1) for one in found],
    }
    if regret := [value for one in found for value in one["regret"]]:
        row["regret"] = [round(mean(regret), 2), round(stdev(regret) / math.sqrt(len(regret)), 2)]
        row["replications"] = len(regret)
    if "compile_s" in found[0]:
        row["compile_s"] = [round(one["compile_s"], 2) for one in found]
    return row


def _run(command: list[str]) -> dict[str, Any]:
    # One thread: CPU of threads that wait for one another would count against them.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=alone, cwd=ROOT)
    if done.returncode:
        raise BenchmarkFailed(f"{command[-2]}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)
