"""A whole replay: read the file, drive the service, put both sides' numbers next to each other."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.model import Experiment
from sim.replay import checkpoint
from sim.replay.actions import Action, Assign, Event
from sim.replay.checkpoint import Progress
from sim.replay.client import EventCounts, Service
from sim.replay.compare import Comparison, compare_report, compare_sample, compare_summary
from sim.replay.errors import Refused, ReplayError
from sim.replay.file_summary import file_summary, summary_of_events
from sim.replay.forced import ForcedReplay, by_count, by_time, shuffled, with_duplicates
from sim.replay.mapping import Mode, ReplayMapping
from sim.replay.mapping_reader import read_mapping
from sim.replay.plan import LoggedRow, forced_actions, logged_rows
from sim.replay.rejection import RejectionReplay
from sim.replay.source import Row, read_rows
from sim.replay.tally import VariantNumbers, tally
from sim.replay.timekeeper import Timekeeper

Tick = Callable[[int], None]
Begin = Callable[[str, int], Tick]
"""Told what is about to happen and how many pieces it has; gives the function to report them by."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line may change of a run."""

    shuffle: int | None = None
    duplicates: float = 0.0
    limit: int | None = None
    checkpoint: Path | None = None


@dataclass(slots=True)
class Outcome:
    """What was sent, and the two sides' numbers."""

    mapping: ReplayMapping
    rows: int
    progress: Progress
    counts: EventCounts
    steps: int
    file: dict[str, Any] = field(default_factory=dict)
    service: dict[str, Any] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    sample: list[Comparison] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Nothing was refused and every number is the same on both sides."""
        return not self.counts.rejected and all(c.agrees for c in (*self.comparisons, *self.sample))


def replay(service: Service, file: Path, mapping_file: Path, options: Options, begin: Begin) -> Outcome:
    """Run the replay a mapping describes; raises `ReplayError` when it cannot be finished."""
    mapping = read_mapping(mapping_file)
    if mapping.mode is Mode.REJECTION and (options.shuffle is not None or options.duplicates):
        raise ReplayError(
            "--shuffle and --duplicates are for histories; this mapping lets the service choose"
        )
    marks = f"{options.shuffle} {options.duplicates} {options.limit}"
    progress = checkpoint.load(options.checkpoint, checkpoint.fingerprint(file, mapping_file, marks))
    rows = read_rows(file, mapping, options.limit)
    if mapping.mode is Mode.REJECTION:
        return _choose(service, mapping, rows, options, progress, begin)
    return _repeat(service, mapping, rows, options, progress, begin)


def _repeat(
    service: Service,
    mapping: ReplayMapping,
    rows: Sequence[Row],
    options: Options,
    progress: Progress,
    begin: Begin,
) -> Outcome:
    """Forced assignments and events, in order of time or shuffled."""
    actions = forced_actions(rows, mapping)
    keeper = Timekeeper(service, is_required=False)
    keeper.move(actions[0].at)
    keeper.allow_until(actions[-1].at)
    enter_experiment(service, mapping)
    sent = with_duplicates(actions, options.duplicates, options.shuffle or 0)
    chunks = by_time(sent, mapping.step)
    if options.shuffle is not None:
        keeper.move(actions[-1].at)
        chunks = by_count(shuffled(sent, options.shuffle))
    run = ForcedReplay(service, mapping, actions, progress)
    run.run(chunks, keeper, options.checkpoint, begin("replaying history", len(sent)))
    keeper.move(actions[-1].at + mapping.settle)
    outcome = Outcome(mapping, len(rows), progress, run.counts, keeper.steps)
    if mapping.experiment is not None:
        numbers = _tally(actions, mapping.experiment)
        _add_report(outcome, service, mapping.experiment, numbers)
    if mapping.mode is Mode.EVENTS:
        _add_summary(outcome, service, rows, actions)
    return outcome


def _choose(
    service: Service,
    mapping: ReplayMapping,
    rows: Sequence[Row],
    options: Options,
    progress: Progress,
    begin: Begin,
) -> Outcome:
    """The service chooses; rows that agree are kept."""
    experiment = mapping.experiment
    if experiment is None:
        raise AssertionError("mode rejection has an experiment")
    logged = logged_rows(rows, mapping)
    keeper = Timekeeper(service, is_required=True)
    if progress.clock is None:
        keeper.move(logged[0].assign.at)
        enter_experiment(service, mapping)
        progress.clock = ""
        checkpoint.save(options.checkpoint, progress)
    run = RejectionReplay(service, mapping, experiment, progress, keeper)
    run.run(logged, options.checkpoint, begin("asking and keeping", len(logged)))
    keeper.move(_last(logged) + mapping.settle)
    outcome = Outcome(mapping, len(rows), progress, run.counts, keeper.steps)
    kept = _tally_rows([logged[place] for place in progress.kept], experiment)
    _add_report(outcome, service, experiment, kept)
    whole = _tally_rows(logged, experiment)
    outcome.file["log"] = _plain(whole)
    outcome.sample = compare_sample(whole, kept)
    return outcome


def enter_experiment(service: Service, mapping: ReplayMapping) -> None:
    """Create and start the mapping's experiment, unless it is there and runs."""
    if mapping.document is None or mapping.experiment is None:
        return
    key = mapping.experiment.key
    state = str(service.post("/v1/experiments", mapping.document)["state"])
    if state == "draft":
        try:
            state = str(service.post(f"/v1/experiments/{key}/start")["state"])
        except Refused:
            # An earlier try may have started it and lost its answer.
            state = str(service.get(f"/v1/experiments/{key}")["state"])
    if state != "running":
        raise ReplayError(f"experiment {key!r} is {state}: resume it, or give the mapping's another key")


def _add_report(
    outcome: Outcome, service: Service, experiment: Experiment, numbers: dict[str, VariantNumbers]
) -> None:
    report = service.get(f"/v1/experiments/{experiment.key}/report", matured="false")
    outcome.file["variants"] = _plain(numbers)
    outcome.service["report"] = report
    outcome.comparisons += compare_report(numbers, report)


def _add_summary(outcome: Outcome, service: Service, rows: Sequence[Row], actions: Sequence[Action]) -> None:
    if outcome.mapping.orders is not None:
        summary = file_summary(rows, outcome.mapping)
    else:
        summary = summary_of_events(action for action in actions if isinstance(action, Event))
    served = service.get("/v1/store/summary")
    outcome.file["summary"] = {**asdict(summary), "aov": summary.aov, "refund_rate": summary.refund_rate}
    outcome.service["summary"] = served
    outcome.comparisons += compare_summary(summary, served)


def _tally(actions: Sequence[Action], experiment: Experiment) -> dict[str, VariantNumbers]:
    assigns = [action for action in actions if isinstance(action, Assign)]
    events = [action for action in actions if isinstance(action, Event)]
    return tally(assigns, events, experiment)


def _tally_rows(rows: Sequence[LoggedRow], experiment: Experiment) -> dict[str, VariantNumbers]:
    return tally([row.assign for row in rows], [e for row in rows for e in row.events], experiment)


def _last(rows: Sequence[LoggedRow]) -> datetime:
    return max([rows[-1].assign.at, *(event.at for row in rows for event in row.events)])


def _plain(numbers: dict[str, VariantNumbers]) -> dict[str, Any]:
    return {
        key: {
            "units": found.units,
            "metrics": {name: {"value": f.value, **asdict(f)} for name, f in found.metrics.items()},
        }
        for key, found in numbers.items()
    }
