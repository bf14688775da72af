"""Whole runs of the production allocator: what harms is killed in time, what does not is let live.

A short version of `benchmarks/studies/kills.py` (1,000 runs of each, in docs/guardrails-measured.md). Of 12
checkout runs, each killed with 95 % or more, 8 or fewer are with probability 2e-4; of 8 runs without harm,
each killed with 1 % or less, 2 or more are with 3e-3.
"""

from __future__ import annotations

import numpy as np

from benchmarks.studies.kills import CHECKOUT, SAME, run
from experiments.model import Guardrail

DULL = (Guardrail("conversion_rate", 0.5, 0.6, 0.9),)


def test_the_checkout_world_kills_what_has_the_best_order_value_and_lowers_conversion():
    ends = [run(CHECKOUT, np.random.default_rng([7, n])) for n in range(12)]
    assert sum(end.killed == "toxic" for end in ends) >= 9
    assert all(end.killed != "fine" for end in ends)
    units = [end.own for end in ends if end.own is not None]
    assert min(units) >= 1_000
    # Planted: guarded by margins so wide that nothing breaches them, the same arm takes over instead.
    unguarded = run(CHECKOUT, np.random.default_rng(7), units=20_000, guardrails=DULL)
    assert unguarded.killed is None
    assert unguarded.shares["toxic"] > 0.7


def test_where_nothing_harms_hardly_anything_is_killed():
    ends = [run(SAME, np.random.default_rng([8, n]), units=20_000) for n in range(8)]
    assert sum(end.killed is not None for end in ends) <= 1
