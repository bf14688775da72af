"""History as it was: every unit gets the variant the file logged, and its outcomes follow.

Nothing here depends on what the service answers, so a run may be repeated, shuffled or cut off anywhere
and ends with the same ledger.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from sim.replay import checkpoint
from sim.replay.actions import Action, Assign, Event
from sim.replay.checkpoint import Progress
from sim.replay.client import EventCounts, Service
from sim.replay.mapping import ReplayMapping
from sim.replay.timekeeper import Timekeeper

Chunk = Sequence[Action]
SHUFFLED_RUN = 250


def with_duplicates(actions: Sequence[Action], share: float, seed: int) -> list[Action]:
    """The actions with that share of the events sent a second time, right after the first."""
    again = np.random.default_rng(seed).random(len(actions)) < share
    return [
        copy
        for action, is_double in zip(actions, again, strict=True)
        for copy in ([action, action] if is_double and isinstance(action, Event) else [action])
    ]


def shuffled(actions: Sequence[Action], seed: int) -> list[Action]:
    """The actions in an order drawn by the seed: outcomes before assignments, refunds before orders."""
    return [actions[int(place)] for place in np.random.default_rng(seed).permutation(len(actions))]


def by_time(actions: Sequence[Action], step: timedelta) -> Iterator[Chunk]:
    """Runs of actions of one step of simulated time; the actions are in order of time."""
    begin = 0
    origin = actions[0].at
    for place, action in enumerate(actions):
        if (action.at - origin) // step != (actions[begin].at - origin) // step:
            yield actions[begin:place]
            begin = place
    yield actions[begin:]


def by_count(actions: Sequence[Action]) -> Iterator[Chunk]:
    """Runs small enough that assignments and events of a shuffled run alternate."""
    for begin in range(0, len(actions), SHUFFLED_RUN):
        yield actions[begin : begin + SHUFFLED_RUN]


class ForcedReplay:
    """Sends chunks of actions; keeps count of what became of them."""

    def __init__(
        self, service: Service, mapping: ReplayMapping, actions: Sequence[Action], progress: Progress
    ) -> None:
        self._service = service
        self._mapping = mapping
        self._assigns = {action.unit: action for action in actions if isinstance(action, Assign)}
        self._decisions: dict[str, str] = {}
        self._progress = progress
        self.counts = EventCounts(progress.accepted, progress.duplicates)

    def run(
        self,
        chunks: Iterator[Chunk],
        keeper: Timekeeper,
        checkpoint_path: Path | None,
        tick: Callable[[int], None],
    ) -> None:
        """Send every chunk not sent before, the store's clock moving ahead of each."""
        done = self._progress.position
        position = 0
        for chunk in chunks:
            position += len(chunk)
            if position > done:
                keeper.move(max(action.at for action in chunk))
                self._send(chunk)
                self._progress.position = position
                self._progress.accepted = self.counts.accepted
                self._progress.duplicates = self.counts.duplicates
                checkpoint.save(checkpoint_path, self._progress)
            tick(len(chunk))

    def _send(self, chunk: Chunk) -> None:
        assigns = [action for action in chunk if isinstance(action, Assign)]
        events = [action for action in chunk if isinstance(action, Event)]
        if isinstance(chunk[0], Assign):
            self._assign(assigns)
            self._events(events)
        else:
            self._events(events)
            self._assign(assigns)
        self._progress.assigned += len(assigns)

    def _assign(self, assigns: Sequence[Assign]) -> None:
        experiment = self._mapping.experiment
        if experiment is None or not assigns:
            return
        requests = [assign.forced(experiment.touchpoint, experiment.key) for assign in assigns]
        for assign, decision in zip(assigns, self._service.assign(requests), strict=True):
            fault = fault_of(decision, assign)
            if fault is not None:
                self.counts.rejected += 1
                self.counts.note_problem(f"row {assign.row}, unit {assign.unit}: {fault}")
            else:
                self._decisions[assign.unit] = str(decision["decision_id"])

    def _events(self, events: Sequence[Event]) -> None:
        bound = {event.unit for event in events if event.is_bound}
        # An event that names its decision may come before its assignment (shuffled, or after a restart).
        self._assign([self._assigns[unit] for unit in sorted(bound - self._decisions.keys())])
        self._service.send([self._body(event) for event in events], self.counts)

    def _body(self, event: Event) -> dict[str, Any]:
        if event.is_bound and event.unit in self._decisions:
            return {**event.body, "decision_id": self._decisions[event.unit]}
        return event.body


def fault_of(decision: dict[str, Any], assign: Assign) -> str | None:
    """What is wrong with the answer to a forced assignment; None when it was recorded as asked."""
    problem = decision.get("problem")
    if problem is not None:
        return str(problem.get("detail") or problem.get("title"))
    if decision.get("decision_id") is None:
        return f"not enrolled ({decision.get('reason')})"
    if decision.get("variant") != assign.variant:
        return f"already assigned to {decision.get('variant')!r}, the file says {assign.variant!r}"
    return None
