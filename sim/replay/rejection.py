"""The replay of Li et al. (2011): the service chooses, and rows whose logged variant agrees are kept.

Each step of simulated time moves the clock (the folder and the allocator take the steps due), asks in
`preview` what every row of the step would get, records the rows that agree as forced assignments with
the propensity that preview answered, and sends what followed as its time comes. If the log drew its
variants evenly, the kept rows are a sample of what the policy would have seen live.

Source: Li, Chu, Langford, Wang (2011), Unbiased offline evaluation of contextual-bandit-based news
article recommendation algorithms, section 3.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.model import Experiment
from experiments.times import format_instant, parse_instant
from sim.replay import checkpoint
from sim.replay.actions import Assign
from sim.replay.checkpoint import Progress
from sim.replay.client import EventCounts, Service
from sim.replay.forced import fault_of
from sim.replay.mapping import ReplayMapping
from sim.replay.plan import LoggedRow
from sim.replay.timekeeper import Timekeeper

SHOWN = frozenset({"assigned", "sticky", "forced"})
"""Reasons under which the variant answered is the one the shopper would have seen."""


class RejectionReplay:
    """Steps through logged rows; its whole state is a `Progress`, saved after every step."""

    def __init__(
        self,
        service: Service,
        mapping: ReplayMapping,
        experiment: Experiment,
        progress: Progress,
        keeper: Timekeeper,
    ) -> None:
        self._service = service
        self._experiment = experiment
        self._step = mapping.step
        self._progress = progress
        self._keeper = keeper
        self.counts = EventCounts(progress.accepted, progress.duplicates)

    def run(
        self, rows: Sequence[LoggedRow], checkpoint_path: Path | None, tick: Callable[[int], None]
    ) -> None:
        """Take every step not taken before; then deliver what is still to come."""
        origin = rows[0].assign.at
        place = 0
        for number, group in groupby(rows, key=lambda row: (row.assign.at - origin) // self._step):
            step = list(group)
            if place >= self._progress.position:
                self._take(step, place, origin + (number + 1) * self._step)
                self._save(place + len(step), checkpoint_path)
            place += len(step)
            tick(len(step))
        if self._progress.pending:
            self._deliver(max(_time_of(body) for body in self._progress.pending))
            self._save(place, checkpoint_path)

    def _take(self, step: Sequence[LoggedRow], place: int, now: datetime) -> None:
        self._progress.clock = format_instant(now)
        self._deliver(now)
        experiment = self._experiment
        previews = self._service.assign(
            [row.assign.preview(experiment.touchpoint, experiment.key) for row in step]
        )
        kept: list[tuple[int, LoggedRow, Assign]] = []
        for offset, (row, answer) in enumerate(zip(step, previews, strict=True)):
            variant = self._answered(row, answer)
            if variant == row.assign.variant:
                kept.append((place + offset, row, _recorded(row.assign, float(answer["propensity"]))))
        self._record(kept)
        self._send_due(now)

    def _answered(self, row: LoggedRow, answer: dict[str, Any]) -> str | None:
        """The variant the unit would have seen, counted under the row's day."""
        if "problem" in answer:
            self._fault(row.assign, str(answer["problem"].get("detail")))
            return None
        variant = answer.get("variant")
        if variant is None or answer.get("reason") not in SHOWN:
            return None
        day = self._progress.offered.setdefault(row.assign.at.date().isoformat(), {})
        day[variant] = day.get(variant, 0) + 1
        return variant

    def _record(self, kept: Sequence[tuple[int, LoggedRow, Assign]]) -> None:
        requests = [assign.forced(self._experiment.touchpoint, self._experiment.key) for _, _, assign in kept]
        for (place, row, assign), decision in zip(kept, self._service.assign(requests), strict=True):
            fault = fault_of(decision, assign)
            if fault is not None:
                self._fault(assign, fault)
                continue
            self._progress.kept.append(place)
            self._progress.assigned += 1
            for event in row.events:
                bound = {"decision_id": decision["decision_id"]} if event.is_bound else {}
                self._progress.pending.append({**event.body, **bound})

    def _deliver(self, now: datetime) -> None:
        self._keeper.move(now)
        self._send_due(now)

    def _send_due(self, now: datetime) -> None:
        due = [body for body in self._progress.pending if _time_of(body) <= now]
        self._service.send(due, self.counts)
        self._progress.pending = [body for body in self._progress.pending if _time_of(body) > now]

    def _fault(self, assign: Assign, fault: str) -> None:
        self.counts.rejected += 1
        self.counts.note_problem(f"row {assign.row}, unit {assign.unit}: {fault}")

    def _save(self, position: int, checkpoint_path: Path | None) -> None:
        self._progress.position = position
        self._progress.accepted = self.counts.accepted
        self._progress.duplicates = self.counts.duplicates
        checkpoint.save(checkpoint_path, self._progress)


def _recorded(assign: Assign, propensity: float) -> Assign:
    return Assign(assign.at, assign.row, assign.unit, assign.variant, propensity, assign.context)


def _time_of(body: dict[str, Any]) -> datetime:
    return parse_instant(str(body["occurred_at"]))
