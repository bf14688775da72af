"""A whole run: every replication of a scenario, in the order of their numbers whatever order they came in."""

from collections.abc import Callable
from dataclasses import dataclass

from sim.runner.contexts import contexts_of
from sim.runner.errors import NotSimulated
from sim.runner.executors import Executor
from sim.runner.outcome import Replication
from sim.runner.replication import replicate
from sim.runner.sampled import refuse_sampled, replicate_sampled
from sim.runner.settings import Evaluation, RunSettings


@dataclass(frozen=True, slots=True)
class Run:
    """What a run found; incomplete where it was interrupted."""

    settings: RunSettings
    replications: tuple[Replication, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The variants, in the order of the arms."""
        return tuple(effect.variant for effect in self.settings.scenario.world.effects)

    def arm(self, variant: str) -> int:
        """The index of a variant."""
        return self.keys.index(variant)

    @property
    def is_complete(self) -> bool:
        """Whether every replication was run to its end."""
        return len(self.replications) == self.settings.replications


def run(settings: RunSettings, executor: Executor, tick: Callable[[int], None] = lambda done: None) -> Run:
    """Run all replications; Ctrl-C ends it with those that have come by then."""
    refuse(settings)
    by_sampling = settings.evaluation is Evaluation.SAMPLED
    numbers = settings.chunks if by_sampling else range(settings.replications)
    job = replicate_sampled if by_sampling else replicate_alone
    found: dict[int, Replication] = {}
    try:
        for some in executor.run(job, settings, numbers):
            found |= {one.number: one for one in some}
            tick(len(some))
    except KeyboardInterrupt:
        pass
    return Run(settings, tuple(found[number] for number in sorted(found)))


def replicate_alone(settings: RunSettings, number: int) -> tuple[Replication, ...]:
    """One replication by published shares."""
    return (replicate(settings, number),)


def refuse(settings: RunSettings) -> None:
    """What the runner cannot do, said before it begins."""
    experiment = settings.scenario.experiment
    contexts_of(experiment, settings.scenario.world)
    if settings.evaluation is Evaluation.SAMPLED:
        if settings.scenario.arrives:
            raise NotSimulated("variants that come later by sampling", "take --evaluation shares")
        refuse_sampled(experiment)
