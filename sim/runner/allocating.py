"""The allocator of one replication: the production step, and the rule of what is published."""

from dataclasses import replace
from typing import Any

from experiments.allocation.breakers import KEPT_US, Mark, mark_of
from experiments.allocation.published import Cause, PolicyVersion
from experiments.allocation.publishing import may_move, worth_publishing
from experiments.allocation.stepping import Known, Standing, decide, first_version, numbered
from experiments.model import Experiment
from experiments.statistics import Cell

HOUR_US = 3_600_000_000


class Allocator:
    """Takes the steps the service takes, with versions and marks in memory instead of rows."""

    def __init__(self, experiment: Experiment, active: frozenset[str], now_us: int) -> None:
        self._whole = experiment
        self.experiment = with_variants(experiment, active)
        self.active = active
        self._added: frozenset[str] = frozenset()
        self.version, body = first_version(self.experiment, active, time_zone="UTC", now_us=now_us)
        self.body: dict[str, Any] = body.to_json(self.version)
        self._started_us = self._epoch_began_us = now_us
        self._marks: list[Mark] = []
        self._sets = {self.candidates}

    @property
    def candidates(self) -> tuple[str, ...]:
        """The variants that can be assigned, in the document's order."""
        return tuple(v.key for v in self.experiment.variants if v.key in self.active)

    def add(self, variant: str, cells: list[Cell], now_us: int) -> None:
        """Add a variant while the experiment runs, as a person would."""
        present = frozenset(v.key for v in self.experiment.variants) | {variant}
        self.experiment = with_variants(self._whole, present)
        self.active |= {variant}
        self._added |= {variant}
        decided = decide(
            self._standing(),
            Known(cells, sorted(self._sets), mark_of(self.experiment, cells, now_us), self._marks),
            cause=Cause.ADDED,
            promoted=self.body["promoted"],
        )
        self.active -= decided.killed
        self._publish(decided.version, decided.body.to_json(decided.version), now_us)

    def step(self, cells: list[Cell], now_us: int) -> None:
        """One step on these cells; publishes a version if it is worth one."""
        mark = mark_of(self.experiment, cells, now_us)
        moves = may_move(started_us=self._started_us, epoch_began_us=self._epoch_began_us, now_us=now_us)
        decided = decide(
            self._standing(),
            Known(cells, sorted(self._sets), mark, self._marks),
            cause=Cause.SHARES_MOVED,
            promoted=self.body["promoted"],
            may_promote=moves,
        )
        self.active -= decided.killed
        chosen = worth_publishing(self.version, decided.version, self.body, decided.body, may_move=moves)
        if chosen is not None:
            self._publish(chosen, decided.body.to_json(chosen), now_us)
        self._note(mark)

    def _standing(self) -> Standing:
        return Standing(self.experiment, self.version, self.body, self.active, self._added, "UTC")

    def _publish(self, version: PolicyVersion, body: dict[str, Any], now_us: int) -> None:
        version = numbered(self.version, replace(version, published_at_us=now_us))
        if version.epoch != self.version.epoch:
            self._epoch_began_us = now_us
        self.version, self.body = version, body
        self._sets.add(self.candidates)

    def _note(self, mark: Mark) -> None:
        if not self._marks or mark.at_us - self._marks[-1].at_us >= HOUR_US:
            self._marks.append(mark)
        self._marks = [one for one in self._marks if mark.at_us - one.at_us <= KEPT_US]


def with_variants(experiment: Experiment, keys: frozenset[str]) -> Experiment:
    """The document as it is while it has only these variants: one to come is not in it yet."""
    kept = tuple(variant for variant in experiment.variants if variant.key in keys)
    return replace(experiment, variants=kept)
