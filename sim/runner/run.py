"""A whole run: every replication of a scenario, in the order of their numbers whatever order they came in."""

from collections.abc import Callable
from dataclasses import dataclass

from sim.runner.executors import Executor
from sim.runner.outcome import Replication
from sim.runner.replication import refuse, replicate
from sim.runner.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Run:
    """What a run found; incomplete where it was interrupted."""

    settings: RunSettings
    replications: tuple[Replication, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every replication was run to its end."""
        return len(self.replications) == self.settings.replications


def run(settings: RunSettings, executor: Executor, tick: Callable[[], None] = lambda: None) -> Run:
    """Run all replications; Ctrl-C ends it with those that have come by then."""
    refuse(settings.scenario.experiment)
    found: dict[int, Replication] = {}
    try:
        for one in executor.run(replicate, settings, range(settings.replications)):
            found[one.number] = one
            tick()
    except KeyboardInterrupt:
        pass
    return Run(settings, tuple(found[number] for number in sorted(found)))
