"""One test lived through: production shares, production guardrails, production read-out, simulated units.

Time goes in equal steps of whole days (`STEPS_MAX` at most). In each step units come and are split by the
shares then published; at its end shares are proposed anew, guardrails judged and the verdict read, all from
the units whose attribution window has closed. Where the document has a stop rule that one ends the test, else
the first verdict of the treatment that leads: healthy, toxic, harmful or no difference. Units come while
nothing has ended it, and when the planned days are over their windows are waited for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np

from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion, Sets, moved, same_shares
from experiments.allocation.stopping import StopState, decide, has_rule, read_figures
from experiments.analysis.aipw import read_shown
from experiments.analysis.cohorts import Cohorts
from experiments.analysis.comparison import Pair, prob_within
from experiments.analysis.guardrails import guardrail_report
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.reading import Reading
from experiments.analysis.verdict import Facts, VerdictKind, judge, leading_treatment
from experiments.model import Experiment
from experiments.statistics import Cell, CellKey
from sim.planner.world import Arm

STEPS_MAX = 40
START = date(2026, 3, 2)
OPEN = "open"
_FINAL = frozenset({VerdictKind.HEALTHY, VerdictKind.TOXIC, VerdictKind.HARMFUL, VerdictKind.NO_DIFFERENCE})


@dataclass(frozen=True, slots=True)
class Trial:
    """A test to live through: the document, what its variants do, how many units come for how long.

    With `is_watched` the verdict is read after every step, else once, at the end.
    """

    experiment: Experiment
    arms: Mapping[str, Arm]
    per_day: float
    days: int
    is_watched: bool = True

    @property
    def step_days(self) -> int:
        """Days of a step."""
        return max(1, math.ceil(self.days / STEPS_MAX))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a test ended: the verdict of the leading treatment (`open` when there was none), and the cost.

    `units` and `by_variant` are enrolled by then, `day` counts from the start, `stopped` says that it ended
    before its time.
    """

    verdict: str
    leader: str
    day: float
    stopped: bool
    by_variant: Mapping[str, int]
    killed: frozenset[str]

    @property
    def units(self) -> int:
        """Of all variants."""
        return sum(self.by_variant.values())


def live(trial: Trial, rng: np.random.Generator) -> Ending:
    """Live through one test."""
    state = _State(trial, frozenset(trial.arms))
    reading = _Look(trial.experiment)
    end_of_windows = trial.days + math.ceil(trial.experiment.attribution_window / timedelta(days=1))
    day = 0
    while day < end_of_windows:
        step = min(trial.step_days, (trial.days if day < trial.days else end_of_windows) - day)
        if day < trial.days:
            state.enrol(day, step, rng)
        day += step
        now = _midnight(day)
        if trial.is_watched or day >= end_of_windows:
            found = reading.at(state, now)
            if found is not None:
                return state.ending(*found, day, stopped=day < end_of_windows)
        if day < trial.days:
            state.allocate(now)
    return state.ending(OPEN, reading.leader, day, stopped=False)


@dataclass(slots=True)
class _State:
    """What has come so far, and the version that is served."""

    trial: Trial
    active: frozenset[str]
    cells: list[Cell] = field(default_factory=list[Cell])
    by_variant: dict[str, int] = field(default_factory=dict[str, int])
    entries: Sequence[Mapping[str, object]] = ()
    version: PolicyVersion = field(init=False)
    came: float = 0.0

    def __post_init__(self) -> None:
        self.by_variant = dict.fromkeys(self.trial.arms, 0)
        first = self._proposed(Guarded(), None, _midnight(0))
        control = self.trial.experiment.control.key
        self.version = PolicyVersion(1, 1, 0, Cause.STARTED, control, first)

    def enrol(self, day: int, step: int, rng: np.random.Generator) -> None:
        """The units of a step, one cell for each arm on its last day."""
        keys = tuple(self.trial.arms)
        before, self.came = round(self.came), self.came + self.trial.per_day * step
        shares = self.version.shares_for([key for key in keys if key in self.active])
        counts = rng.multinomial(
            round(self.came) - before, [shares.get(key, 0) / 2**32 for key in keys]
        ).tolist()
        last_day = START + timedelta(days=day + step - 1)
        for key, n in zip(keys, counts, strict=True):
            self.by_variant[key] += n
            if n:
                place = CellKey(key, "", 1, last_day, self.version.epoch)
                self.cells.append(Cell(place, frozenset(keys), self.trial.arms[key].drawn(n, rng)))

    def allocate(self, now: datetime) -> None:
        """Guardrails, then shares, as the allocator publishes them."""
        experiment, guarded = self.trial.experiment, Guarded()
        if experiment.guardrails:
            guarded = guard(
                experiment, self.cells, self.active, self.entries, self.version, time_zone="UTC", now=now
            )
            self.entries, self.active = guarded.entries, self.active - guarded.killed
        sets = self._proposed(guarded, self.version, now)
        number, epoch = self.version.number + 1, self.version.epoch
        chosen = PolicyVersion(
            number, epoch, 0, Cause.SHARES_MOVED, experiment.control.key, sets, guarded.capped
        )
        if moved(self.version, chosen):
            if not same_shares(self.version, chosen):
                chosen = PolicyVersion(
                    number, epoch + 1, 0, Cause.SHARES_MOVED, experiment.control.key, sets, guarded.capped
                )
            self.version = chosen

    def ending(self, verdict: str, leader: str, day: int, *, stopped: bool) -> Ending:
        """What it came to."""
        killed = frozenset(self.trial.arms) - self.active
        return Ending(verdict, leader, float(day), stopped, dict(self.by_variant), killed)

    def _proposed(self, guarded: Guarded, last: PolicyVersion | None, now: datetime) -> Sets:
        return propose(
            self.trial.experiment,
            self.cells,
            self.active,
            [tuple(self.trial.arms)],
            guarded=guarded,
            promoted=None,
            last=last,
            time_zone="UTC",
            now=now,
        ).sets


class _Look:
    """What the report would say, read from as few metrics as the verdict needs."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._definitions = metric_definitions(experiment)
        self._stop: Mapping[str, object] | None = None
        self.leader = next(v.key for v in experiment.variants if not v.is_control)

    def at(self, state: _State, now: datetime) -> tuple[str, str] | None:
        """The verdict and who leads, where that ends the test."""
        experiment = self._experiment
        cohorts = Cohorts(state.cells, only_matured=True, time_zone="UTC", now=now)
        objective = self._read(cohorts, experiment.policy.objective)
        self.leader = leading_treatment(experiment, objective)
        kind = self._verdict(cohorts, objective)
        if not has_rule(experiment.stop_rule):
            return (kind.value, self.leader) if kind in _FINAL else None
        figures = read_figures(experiment, state.cells, state.active, priors={}, time_zone="UTC", now=now)
        stop = decide(experiment, figures, self._stop, state.entries, promoted=None, now=now)
        assert stop is not None  # it has a rule
        self._stop = stop.to_json()
        is_over = stop.state in (StopState.REACHED, StopState.PROMOTED)
        leader = stop.figures.leader if stop.figures else self.leader
        return (kind.value, leader) if is_over else None

    def _verdict(self, cohorts: Cohorts, objective: Reading) -> VerdictKind:
        experiment, pair = self._experiment, objective.pairs[self.leader]
        broken = [
            report.prob_breach.throttle if report.prob_breach else None
            for report in (
                guardrail_report(
                    rail, reading, self.leader, cohorts.closed(reading.definition.horizon), with_lift=False
                )
                for rail in experiment.guardrails
                for reading in [self._read(cohorts, rail.metric)]
            )
        ]
        is_broken = any(p is not None and p >= experiment.verdict.breach for p in broken)
        facts = Facts(
            prob_up=objective.prob_beats(self.leader),
            prob_aov_up=self._read(cohorts, "aov").prob_beats(self.leader) if is_broken else None,
            prob_within_rope=prob_within(pair, experiment.verdict.rope) if isinstance(pair, Pair) else None,
            prob_broken=tuple(broken),
            treatments=len(experiment.variants) - 1,
        )
        return judge(facts, experiment.verdict)[0]

    def _read(self, cohorts: Cohorts, metric: str) -> Reading:
        definition: MetricDefinition = self._definitions[metric]
        return read_shown(self._experiment, cohorts.of(definition.horizon), definition, seed=0)


def _midnight(day: int) -> datetime:
    return datetime.combine(START + timedelta(days=day), datetime.min.time(), tzinfo=UTC)
