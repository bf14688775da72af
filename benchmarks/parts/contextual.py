"""What a decision by context costs beside the bandit libraries' linear Thompson sampling.

Five variants, ten columns, 1,000 published draws. Ours finds every candidate's share, which is the logged
propensity, and runs the race of hashes; theirs draws once and answers an arm, with no propensity.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.peers.install import python_with_bandits
from benchmarks.wrk import BenchmarkFailed
from experiments.allocation.contextual import ContextualDraws, rounded_draws
from experiments.allocation.features import FEATURE_POINT
from experiments.allocation.hashing import race
from experiments.allocation.winners import Compiled, compile_winners

ARMS, COLUMNS, DRAWS, CHOICES = 5, 10, 1000, 2000
PEERS = ("mabwiser", "pymab")
SCRIPT = Path(__file__).parents[1] / "peers" / "linear_ts.py"


def contextual(bench: Bench) -> dict[str, Any]:
    """CPU microseconds of a decision, ours and each peer's in turn."""
    python = python_with_bandits(bench.work)
    drawn, rows = _published()
    if not compile_winners():
        raise BenchmarkFailed("Numba is not installed: pip install 'rialto[compiled]'")
    compiled = Compiled.count_wins
    found: dict[str, list[float]] = {name: [] for name in ("ours", "shares alone", "not compiled", *PEERS)}
    for _ in range(bench.rounds):
        found["ours"].append(_ours(drawn, rows, with_race=True))
        found["shares alone"].append(_ours(drawn, rows, with_race=False))
        Compiled.count_wins = None
        found["not compiled"].append(_ours(drawn, rows, with_race=False))
        Compiled.count_wins = compiled
        for peer in PEERS:
            found[peer].append(_theirs(python, peer))
    return {"us": {name: [round(one, 2) for one in values] for name, values in found.items()}}


def _published() -> tuple[ContextualDraws, list[tuple[int, ...]]]:
    rng = np.random.default_rng(1)
    exponent, data = rounded_draws(
        rng.normal(size=(ARMS, COLUMNS)) + 0.1 * rng.normal(size=(DRAWS, ARMS, COLUMNS))
    )
    keys = ("none", *(f"variant-{k}" for k in range(1, ARMS)))
    columns = ("1", *(f"x{n}" for n in range(1, COLUMNS)))
    drawn = ContextualDraws("linear", keys, columns, "none", 0.1, 0.02, exponent, data)
    rows = np.rint(FEATURE_POINT * rng.normal(size=(CHOICES, COLUMNS))).astype(int)
    rows[:, 0] = FEATURE_POINT
    return drawn, [tuple(row) for row in rows.tolist()]


def _ours(drawn: ContextualDraws, rows: list[tuple[int, ...]], *, with_race: bool) -> float:
    unit = bytes(16)
    start = time.process_time()
    for row in rows:
        shares = drawn.shares_for(drawn.keys, row)
        if with_race:
            race("checkout-addon", unit, shares)
    return 1e6 * (time.process_time() - start) / len(rows)


def _theirs(python: Path, peer: str) -> float:
    # One thread: CPU of threads that wait for one another would count against them.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), str(SCRIPT), peer], capture_output=True, text=True, timeout=120, env=alone
    )
    if done.returncode:
        raise BenchmarkFailed(f"{peer}: {done.stderr.strip()[-300:]}")
    return float(json.loads(done.stdout))
