"""What one allocation costs, posteriors to integer shares, over drawing the same posteriors 100,000 times.

Both in this process, in turn; CPU of the process, so that what else the machine does counts little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from experiments.allocation.caps import to_integer
from experiments.allocation.joint import Joint, JointArm, Limit, draw_wins
from experiments.allocation.thompson import shares, top_two
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT

ARMS = (10, 100)
DRAWS = 100_000
UNITS = 10_000
TOO_SHORT_S = 0.05
INDEPENDENT = ((1.0, 0.0), (0.0, 1.0))


def allocation(bench: Bench) -> dict[str, Any]:
    """CPU of each kind of allocation over that of its Monte Carlo, by arms, every round."""
    found: dict[str, Any] = {}
    for count in ARMS:
        for name, (allocate, draw) in _kinds(count).items():
            allocate()  # what is imported or cached at first use is not measured
            row: dict[str, list[float]] = {"ms": [], "draws_ms": [], "ratios": []}
            for _ in range(bench.rounds):
                ours, theirs = cpu_ms(allocate), cpu_ms(draw)
                row["ms"].append(round(ours, 4))
                row["draws_ms"].append(round(theirs, 2))
                row["ratios"].append(round(ours / theirs, 6))
            found[f"{name} {count}"] = row
    return {"kinds": found}


def cpu_ms(work: Callable[[], object]) -> float:
    """Milliseconds of CPU of one run, over as many as take a twentieth of a second."""
    runs, start = 0, time.process_time()
    while (spent := time.process_time() - start) < TOO_SHORT_S:
        work()
        runs += 1
    return 1000 * spent / runs


def _kinds(count: int) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """How to allocate, and how to draw the same."""
    rates = np.linspace(0.05, 0.12, count)
    alpha, beta = 1 + UNITS * rates, 1 + UNITS * (1 - rates)
    proportions = [Beta(a, b) for a, b in zip(alpha.tolist(), beta.tolist(), strict=True)]
    means = np.linspace(10.0, 11.0, count)
    students = [StudentT(mean, 0.5, UNITS - 1.0) for mean in means.tolist()]
    keys = ["none", *(f"variant-{k}" for k in range(1, count))]
    limit = Limit("refund_rate", 0.2, is_up_bad=True, absolute=False)
    joint_arms = tuple(JointArm(arm, (arm,), INDEPENDENT) for arm in proportions)
    joint = Joint(tuple(keys), "none", (limit,), joint_arms, seed=1)
    rng = np.random.default_rng(1)

    def draw_means() -> object:
        return best_of(means + 0.5 * rng.standard_t(UNITS - 1.0, (DRAWS, count)))

    def draw_both() -> object:
        """Goal and guardrail drawn as if independent, which costs less than drawing them correlated."""
        goals, guards = (rng.beta(alpha, beta, (DRAWS, count)) for _ in range(2))
        goals[:, 1:][guards[:, 1:] > 1.2 * guards[:, :1]] = -1.0
        return best_of(goals)

    def draw_rates() -> object:
        return best_of(rng.beta(alpha, beta, (DRAWS, count)))

    return {
        "thompson, proportions": (lambda: split(keys, prob_best(proportions).tolist()), draw_rates),
        "thompson, means": (lambda: split(keys, prob_best(students).tolist()), draw_means),
        "top_two, proportions": (
            lambda: split(keys, top_two(named(keys, prob_best(proportions).tolist())).values()),
            draw_rates,
        ),
        "thompson, a guardrail": (lambda: split(keys, draw_wins(joint).won.tolist()), draw_both),
    }


def split(keys: Sequence[str], weights: Any) -> Mapping[str, int]:
    """Integer shares over 2^32, with a floor and a control share."""
    return to_integer(shares(named(keys, weights), control="none", control_share=0.1, floor=0.005))


def named(keys: Sequence[str], weights: Any) -> dict[str, float]:
    """Weights by variant."""
    return dict(zip(keys, weights, strict=True))


def best_of(draws: Any) -> Any:
    """How often each arm is the best, as a Monte Carlo counts it."""
    return np.bincount(draws.argmax(axis=1), minlength=draws.shape[1])
