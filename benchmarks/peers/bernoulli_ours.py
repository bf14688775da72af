"""Ten Bernoulli arms in Rialto's runner, and NumPy's draws of as many Beta variates: decisions and CPU."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.peers.bernoulli_peers import resident_mb
from sim.runner.bernoulli import BernoulliJob, Engine, run_bernoulli

RATES = tuple(np.linspace(0.05, 0.12, 10).tolist())
REPLICATIONS, DECISIONS = 1000, 10_000
OF_ARRAYS = 128  # replications: they take ten times as long
STEPS = 500  # of mere draws, for 1,000 replications


def main() -> None:
    """Run what is named, for the seed given, and say what it took."""
    name, seed = sys.argv[1], int(sys.argv[2])
    found = draws(seed) if name == "draws" else ours(Engine(name), seed)
    print(json.dumps({**found, "rss_mb": resident_mb()}))


def ours(engine: Engine, seed: int) -> dict[str, Any]:
    """The job of 10,000 decisions learnt from one by one; what compiling it took is told apart."""
    replications = REPLICATIONS if engine is Engine.COMPILED else OF_ARRAYS
    start = time.process_time()
    run_bernoulli(BernoulliJob(RATES, (1,)), seed=seed, replications=1, engine=engine)
    ready = time.process_time()
    run = run_bernoulli(
        BernoulliJob(RATES, (DECISIONS,)), seed=seed, replications=replications, engine=engine
    )
    done = time.process_time()
    return {
        "decisions": replications * DECISIONS,
        "cpu_s": done - ready,
        "compile_s": ready - start,
        "regret": run.regret[:, 0].tolist(),
    }


def draws(seed: int) -> dict[str, Any]:
    """Beta variates of ten arms in 1,000 replications, step by step, from posteriors of this job halfway."""
    rng = np.random.default_rng(seed)
    pulls = 5000 * np.array([1, 1, 1, 2, 3, 5, 8, 14, 25, 40]) / 100
    alpha = np.tile(1 + pulls * np.array(RATES), (REPLICATIONS, 1))
    beta = np.tile(1 + pulls * (1 - np.array(RATES)), (REPLICATIONS, 1))
    start = time.process_time()
    for _ in range(STEPS):
        rng.beta(alpha, beta)
    return {"decisions": STEPS * REPLICATIONS, "cpu_s": time.process_time() - start, "regret": []}


if __name__ == "__main__":
    main()
