"""What seven off-policy estimators cost beside Open Bandit Pipeline, whose values must agree with ours.

The same arrays of 10,000 rows, 80 actions and 3 places: IPS, SNIPS, DM, DR, SNDR, Switch-DR and DRos.
Theirs are values; ours come with standard errors, intervals and effective sample sizes. Each round takes the
cheapest of twenty evaluations of each side, one process after the other; one thread each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.peers.install import python_with_obp
from benchmarks.peers.obp_estimators import ACTIONS, problem
from benchmarks.wrk import BenchmarkFailed
from experiments.off_policy.estimators import Estimator, Settings, estimate
from experiments.off_policy.overlap import overlap
from experiments.off_policy.terms import Log, terms

SCRIPT = Path(__file__).parents[1] / "peers" / "obp_estimators.py"
TRIES = 20
TOLERANCE = 1e-12
SETTINGS = Settings(clip=inf, switch=1.0, shrink=1.0)
SEVEN = (
    Estimator.IPS,
    Estimator.SNIPS,
    Estimator.DM,
    Estimator.DR,
    Estimator.SNDR,
    Estimator.SWITCH_DR,
    Estimator.DROS,
)


def off_policy(bench: Bench) -> dict[str, Any]:
    """CPU milliseconds of each side, every round in turn."""
    python = python_with_obp(bench.work)
    found: dict[str, Any] = {"ours_ms": [], "with_overlap_ms": [], "obp_ms": [], "ratios": []}
    for _ in range(bench.rounds):
        ours = _run(Path(sys.executable), ["-m", "benchmarks.parts.off_policy"])
        theirs = _run(python, [str(SCRIPT), str(TRIES)])
        _compare(ours["values"], theirs["values"])
        cost, peer = min(ours["cpu_ms"]), min(theirs["cpu_ms"])
        found["ours_ms"].append(round(cost, 3))
        found["with_overlap_ms"].append(round(min(ours["with_overlap_ms"]), 3))
        found["obp_ms"].append(round(peer, 1))
        found["ratios"].append(round(cost / peer, 5))
        found["obp"] = theirs["version"]
    return found


def main() -> None:
    """Our side, in a process of its own as theirs is."""
    given = problem()
    given["rewards"] = given["rewards"].astype(float)
    costs: list[float] = []
    with_overlap: list[float] = []
    values: dict[str, float | None] = {}
    for _ in range(TRIES):
        start = time.process_time()
        log = Log(given["actions"], given["propensities"], given["rewards"], ACTIONS, places=given["places"])
        rows = terms(log, given["shares"], given["predictions"])
        values = {name.value: estimate(name, rows, SETTINGS).value for name in SEVEN}
        costs.append(1000 * (time.process_time() - start))
        overlap(rows)
        with_overlap.append(1000 * (time.process_time() - start))
    sys.stdout.write(json.dumps({"cpu_ms": costs, "with_overlap_ms": with_overlap, "values": values}))


def _run(python: Path, arguments: list[str]) -> dict[str, Any]:
    # One thread: CPU of threads that wait for one another would count.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=alone,
        cwd=Path(__file__).parents[2],
    )
    if done.returncode:
        raise BenchmarkFailed(f"{arguments[-1]}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def _compare(ours: dict[str, float], theirs: dict[str, float]) -> None:
    """Refuse figures of two programs that do not say the same."""
    for name, value in ours.items():
        if abs(value - theirs[name]) > TOLERANCE:
            raise BenchmarkFailed(f"{name}: ours {value!r}, Open Bandit Pipeline's {theirs[name]!r}")


if __name__ == "__main__":
    main()
