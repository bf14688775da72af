"""What seven off-policy estimators cost beside Open Bandit Pipeline, whose values must agree with ours.

The same arrays of 10,000 rows, 80 actions and 3 places: IPS, SNIPS, DM, DR, SNDR, Switch-DR and DRos.
Theirs are values; ours come with standard errors, intervals and effective sample sizes, compiled by Numba and
as operations on arrays. Each round takes the cheapest evaluation of each side, one process after the other
and about two seconds each; one thread each.
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
from experiments.off_policy.gathering import Compiled, compile_gathering
from experiments.off_policy.overlap import overlap
from experiments.off_policy.terms import Log, terms

SCRIPT = Path(__file__).parents[1] / "peers" / "obp_estimators.py"
TRIES, TRIES_OF_OURS = 20, 500
"""Two seconds of either: a cheapest of less time would be a matter of what else the machine does then."""
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
    kinds = ("ours_ms", "with_overlap_ms", "arrays_ms", "obp_ms", "ratios", "arrays_ratios")
    found: dict[str, Any] = {kind: [] for kind in kinds}
    for _ in range(bench.rounds):
        ours = _run(Path(sys.executable), ["-m", "benchmarks.parts.off_policy"])
        theirs = _run(python, [str(SCRIPT), str(TRIES)])
        _compare(ours["values"], theirs["values"])
        peer = min(theirs["cpu_ms"])
        for kind in ("ours_ms", "with_overlap_ms", "arrays_ms"):
            found[kind].append(round(min(ours[kind]), 3))
        found["obp_ms"].append(round(peer, 1))
        found["ratios"].append(round(min(ours["ours_ms"]) / peer, 5))
        found["arrays_ratios"].append(round(min(ours["arrays_ms"]) / peer, 5))
        found["obp"] = theirs["version"]
    return found


def main() -> None:
    """Our side, in a process of its own as theirs is."""
    given = problem()
    given["rewards"] = given["rewards"].astype(float)
    costs: dict[str, list[float]] = {"ours_ms": [], "with_overlap_ms": [], "arrays_ms": []}
    values: dict[str, float | None] = {}
    if not compile_gathering():
        raise BenchmarkFailed("Numba is not installed: pip install 'rialto[compiled]'")
    compiled = Compiled.sweep
    for number in range(2 * TRIES_OF_OURS):
        is_compiled = number % 2 == 0
        Compiled.sweep = compiled if is_compiled else None
        start = time.process_time()
        log = Log(given["actions"], given["propensities"], given["rewards"], ACTIONS, places=given["places"])
        rows = terms(log, given["shares"], given["predictions"])
        values = {name.value: estimate(name, rows, SETTINGS).value for name in SEVEN}
        costs["ours_ms" if is_compiled else "arrays_ms"].append(1000 * (time.process_time() - start))
        if is_compiled:
            overlap(rows)
            costs["with_overlap_ms"].append(1000 * (time.process_time() - start))
    sys.stdout.write(json.dumps(costs | {"values": values}))


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
