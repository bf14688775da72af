"""Runs of Bernoulli arms: shared out as one likes, byte for byte the same; the published regret."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest

from experiments.allocation import sampled_loop
from experiments.allocation.sampled_play import SampledPolicy
from experiments.model import PolicyKind
from sim.runner.bernoulli import BLOCK, BernoulliJob, BernoulliRun, Engine, joined, run_bernoulli

TEN = tuple(np.linspace(0.05, 0.12, 10).tolist())
JOB = BernoulliJob(TEN, (20, 60))


def bytes_of(run: BernoulliRun) -> bytes:
    return run.regret.tobytes() + run.pulls.tobytes() + run.successes.tobytes()


def part(first: int, replications: int, engine: Engine, seed: int = 3) -> BernoulliRun:
    return run_bernoulli(JOB, seed=seed, replications=replications, first=first, engine=engine)


@pytest.mark.parametrize("engine", Engine)
def test_parts_make_the_whole_to_the_byte(engine: Engine) -> None:
    """Also where a part ends within a block of the arrays; another seed is another run."""
    whole = part(0, 2 * BLOCK + 9, engine)
    ends = [0, 7, BLOCK, BLOCK + 100, 2 * BLOCK + 9]
    parts = [part(low, high - low, engine) for low, high in pairwise(ends)]
    assert bytes_of(joined(parts[::-1])) == bytes_of(whole)
    assert bytes_of(part(0, 9, engine, seed=4)) != bytes_of(part(0, 9, engine))
    assert len(np.unique(whole.pulls, axis=0)) > 2 * BLOCK


def test_processes_share_a_run_to_the_byte() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        theirs = pool.submit(part, 40, 30, Engine.COMPILED).result()
    ours = part(0, 40, Engine.COMPILED)
    assert bytes_of(joined([ours, theirs])) == bytes_of(part(0, 70, Engine.COMPILED))


@pytest.mark.parametrize(("engine", "replications"), [(Engine.COMPILED, 2000), (Engine.ARRAYS, 3 * BLOCK)])
def test_regret_is_the_published(engine: Engine, replications: int) -> None:
    """26.22 +- 0.09 at 1,000 decisions, from 1,000 replications written by hand apart from Rialto."""
    job = BernoulliJob(TEN, (500, 1000))
    run = run_bernoulli(job, seed=11, replications=replications, engine=engine)
    mean, error = run.regret_mean()
    assert abs(mean[1] - 26.22) < 2 * np.hypot(error[1], 0.09)
    low, high = run.regret_band(0.9)
    inside = (low[1] <= run.regret[:, 1]) & (run.regret[:, 1] <= high[1])
    assert inside.mean() == pytest.approx(0.9, abs=2 / replications)
    assert (run.reward == run.successes.sum(axis=1)).all()
    expected = (run.pulls @ np.array(TEN)).mean()
    assert abs(run.reward.mean() - expected) < 5 * np.sqrt(1000 * 0.1 / replications)


def test_without_numba_arrays_play_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled_loop.Compiled, "run", None)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert run_bernoulli(JOB, seed=1, replications=1).engine is Engine.ARRAYS
    with pytest.raises(ModuleNotFoundError, match="compiled"):
        part(0, 1, Engine.COMPILED)


def test_what_is_no_run_is_refused() -> None:
    for replications, first in ((0, 0), (1, -1)):
        with pytest.raises(ValueError, match="one or more"):
            run_bernoulli(JOB, seed=1, replications=replications, first=first)
    first, other = part(0, 2, Engine.ARRAYS), part(0, 2, Engine.ARRAYS, seed=9)
    with pytest.raises(ValueError, match="differ"):
        joined([first, other])
    for parts in ([first, first], [first, part(3, 1, Engine.ARRAYS)]):
        with pytest.raises(ValueError, match="missing or there twice"):
            joined(parts)


def test_a_policy_of_its_own_is_played() -> None:
    """Control's share and the floor are kept: 0.3 and 0.02 of the decisions at least, within 5 errors."""
    policy = SampledPolicy(PolicyKind.TOP_TWO, control=4, control_share=0.3, floor=0.02, update_every=10)
    run = run_bernoulli(BernoulliJob(TEN, (1000,), policy), seed=2, replications=50)
    share = run.pulls.sum(axis=0) / run.pulls.sum()
    assert share[4] > 0.3 - 5 * np.sqrt(0.3 * 0.7 / 50_000)
    assert share.min() > 0.02 - 5 * np.sqrt(0.02 / 50_000)
    assert run.engine is Engine.COMPILED
