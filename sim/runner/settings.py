"""What a run is asked for, and the seeds of its replications."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache

import numpy as np

from experiments.fold import DAY_US, micros
from experiments.model import PolicyKind, PolicySettings
from sim.worlds.scenario import Scenario
from sim.worlds.world import World

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNWRITTEN = PolicySettings(PolicyKind.THOMPSON).cadence
"""The cadence of a document that leaves it out."""
STEPS = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=7))
LOOKS_MAX = 120
"""Where the document leaves the cadence out: the shortest of `STEPS` with at most so many looks."""
CHUNK = 25
"""Replications that are sampled side by side: always the same ones, wherever they are run."""


class Evaluation(StrEnum):
    """Which of the two evaluations of a policy decides: the shares that are served, or sampling."""

    SHARES = "shares"
    SAMPLED = "sampled"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """A run of a scenario: `customers` in each replication over all its days, None for the world's number.

    `cadence` is how often the allocator looks, None for the experiment's own; `look_every` how often the
    verdict is read.
    """

    scenario: Scenario
    seed: int = 0
    replications: int = 20
    customers: int | None = None
    evaluation: Evaluation = Evaluation.SHARES
    cadence: timedelta | None = None
    look_every: timedelta = timedelta(days=7)

    def per_day(self) -> float:
        """Customers on a usual day."""
        scenario = self.scenario
        if self.customers is None:
            return scenario.customers_per_day
        return self.customers / _usual_days(scenario.world, scenario.days)

    def steps(self, day: int) -> list[int]:
        """When the allocator looks that day, since midnight; the last look may be at its end."""
        step_us = micros(self.step())
        return list(range(step_us - day * DAY_US % step_us, DAY_US + 1, step_us))

    @property
    def start_us(self) -> int:
        """Midnight of the first day."""
        return micros(datetime.combine(self.scenario.world.start, time(), tzinfo=UTC) - EPOCH)

    def date(self, day: int) -> date:
        """The calendar day."""
        return self.scenario.world.start + timedelta(days=day)

    def chunk(self, number: int) -> range:
        """The replications of a chunk."""
        return range(number * CHUNK, min(self.replications, (number + 1) * CHUNK))

    @property
    def chunks(self) -> range:
        """The numbers of the chunks."""
        return range(-(-self.replications // CHUNK))

    def step(self) -> timedelta:
        """Time from one look of the allocator to the next.

        A document that leaves `cadence` out has 60 s, at which a month is 40,000 looks; what a service does
        for nothing would take a simulation hours and change little.
        """
        policy = self.scenario.experiment.policy
        if self.cadence is not None or policy.cadence != UNWRITTEN:
            return self.cadence or policy.cadence
        whole = timedelta(days=self.scenario.days)
        return next((step for step in STEPS if whole <= LOOKS_MAX * step), STEPS[-1])


@dataclass(frozen=True, slots=True)
class Streams:
    """The randomness of one replication: who comes, and who gets what.

    Who comes does not depend on the policy: two policies under one seed meet the same customers.
    """

    customers: np.random.Generator
    assignment: np.random.Generator


@lru_cache(maxsize=16)
def _usual_days(world: World, days: int) -> float:
    """How many usual days' customers come in so many days."""
    return sum(world.season.factors(world.start, day).traffic for day in range(days))


def sampling_stream(seed: int, chunk: int) -> np.random.Generator:
    """The draws that decide for all replications of a chunk."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(1 << 31, chunk))))


def instant(at_us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime."""
    return EPOCH + timedelta(microseconds=at_us)


def streams(seed: int, replication: int) -> Streams:
    """The streams of a replication, whatever machine or order it is run in.

    >>> float(streams(1, 0).customers.random()) == float(streams(1, 0).customers.random())
    True
    """
    children = np.random.SeedSequence(seed, spawn_key=(replication,)).spawn(2)
    return Streams(*(np.random.Generator(np.random.PCG64(child)) for child in children))
