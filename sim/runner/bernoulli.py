"""Bernoulli arms under a sampled policy: replications that any number of processes may share out.

The job on which bandit libraries are compared, and the quickest answer to what a policy costs in regret
where rewards are yes or no and come at once. Where Numba is installed, the loop of `sampled_loop` plays each
replication from a stream of its own; else NumPy plays blocks of 128 side by side, each block from one. Both
have one law. Results depend on seed, replication and engine, to the byte, and not on how replications are
shared out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.sampled_loop import Running, compile_loop
from experiments.allocation.sampled_play import Played, SampledPolicy, play, play_many

BLOCK = 128
"""Replications that NumPy plays side by side; a process that wants fewer of a block plays all of them."""


class Engine(StrEnum):
    """What plays: the loop that Numba compiles, or NumPy's arrays, at half its speed or less."""

    COMPILED = "compiled"
    ARRAYS = "arrays"


@dataclass(frozen=True, slots=True)
class BernoulliJob:
    """Arms with these rates under a policy, for times[-1] decisions; regret is kept at `times`, ascending."""

    rates: tuple[float, ...]
    times: tuple[int, ...]
    policy: SampledPolicy = field(default_factory=SampledPolicy)


@dataclass(frozen=True, slots=True)
class BernoulliRun:
    """Replications `first` and those after it: what each gave away, chose and won.

    `regret` (replications, times) in successes; `pulls` and `successes` (replications, arms).
    """

    job: BernoulliJob
    seed: int
    engine: Engine
    first: int
    regret: NDArray[np.float64]
    pulls: NDArray[np.int64]
    successes: NDArray[np.int64]

    @property
    def reward(self) -> NDArray[np.int64]:
        """Successes of all arms in each replication, shape (replications,)."""
        return self.successes.sum(axis=1)

    def regret_mean(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean regret at each time and its standard error, sd / sqrt(replications); two or more of them."""
        n = len(self.regret)
        return self.regret.mean(axis=0), self.regret.std(axis=0, ddof=1) / np.sqrt(n)

    def regret_band(self, prob: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between which values the regret of `prob` of the replications lies at each time, equal tails."""
        low, high = np.quantile(self.regret, [(1 - prob) / 2, (1 + prob) / 2], axis=0)
        return low, high


def run_bernoulli(
    job: BernoulliJob, *, seed: int, replications: int, first: int = 0, engine: Engine | None = None
) -> BernoulliRun:
    """Replications first, first + 1, ... of a job; by the compiled loop where Numba is installed.

    >>> job = BernoulliJob(rates=(0.1, 0.5), times=(50, 100))
    >>> whole = run_bernoulli(job, seed=1, replications=4, engine=Engine.ARRAYS)
    >>> parts = [run_bernoulli(job, seed=1, replications=2, first=n, engine=Engine.ARRAYS) for n in (0, 2)]
    >>> joined(parts).regret.tobytes() == whole.regret.tobytes()
    True
    """
    if replications < 1 or first < 0:
        raise ValueError(f"{replications} replications from {first}: ask for one or more, from 0 or later")
    run = None if engine is Engine.ARRAYS else compile_loop()
    if run is None and engine is Engine.COMPILED:
        raise ModuleNotFoundError("Numba is not installed: pip install 'rialto[compiled]'")
    if run is None:
        played, engine = _by_arrays(job, seed, first, replications), Engine.ARRAYS
    else:
        played, engine = _compiled(run, job, seed, first, replications), Engine.COMPILED
    return BernoulliRun(job, seed, engine, first, played.regret, played.pulls, played.successes)


def joined(runs: Sequence[BernoulliRun]) -> BernoulliRun:
    """The parts of a run as one, in the order of their replications; ValueError if they are none."""
    parts = sorted(runs, key=lambda part: part.first)
    expected = parts[0].first
    for part in parts:
        if (part.job, part.seed, part.engine) != (parts[0].job, parts[0].seed, parts[0].engine):
            raise ValueError("parts differ in job, seed or engine")
        if part.first != expected:
            raise ValueError(f"replication {expected} is missing or there twice")
        expected += len(part.regret)
    whole = _stacked([Played(part.regret, part.pulls, part.successes) for part in parts])
    head = parts[0]
    return BernoulliRun(
        head.job, head.seed, head.engine, head.first, whole.regret, whole.pulls, whole.successes
    )


def _stream(seed: int, number: int) -> np.random.Generator:
    """The random numbers of one replication, or of one block: independent of all others under the seed."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(number,))))


def _compiled(run: Running, job: BernoulliJob, seed: int, first: int, replications: int) -> Played:
    numbers = range(first, first + replications)
    return _stacked(
        [play(run, job.policy, job.rates, job.times, rng=_stream(seed, number)) for number in numbers]
    )


def _by_arrays(job: BernoulliJob, seed: int, first: int, replications: int) -> Played:
    """The blocks that hold the replications, less what is before and after them."""
    blocks = range(first // BLOCK, (first + replications - 1) // BLOCK + 1)
    found = _stacked(
        [play_many(job.policy, job.rates, job.times, BLOCK, rng=_stream(seed, block)) for block in blocks]
    )
    kept = slice(first % BLOCK, first % BLOCK + replications)
    return Played(found.regret[kept], found.pulls[kept], found.successes[kept])


def _stacked(parts: Sequence[Played]) -> Played:
    return Played(
        np.concatenate([part.regret for part in parts]),
        np.concatenate([part.pulls for part in parts]),
        np.concatenate([part.successes for part in parts]),
    )
