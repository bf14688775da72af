"""The loop: the clock moves, what is due is sent, who comes is asked for, and the promises are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from experiments.model import Experiment
from experiments.times import format_instant
from sim.calibration.provenance import commit, rialto_version
from sim.closed_loop.asking import Asking, Standing, is_shown
from sim.closed_loop.books import Books, micros
from sim.closed_loop.checks import Checks
from sim.closed_loop.errors import Broken, hold
from sim.closed_loop.published import Version, check_version, version_of
from sim.closed_loop.setting_up import Stage, set_up, variant_documents
from sim.closed_loop.settings import DAY, DriveSettings, beginning
from sim.closed_loop.traffic import Traffic, Visit
from sim.closed_loop.wire import Wire, encode
from sim.worlds.scenario import Scenario

SAMPLED_EVENTS = 40
SAMPLED_DECISIONS = 3
KEPT_EVENTS = 5_000
"""Acknowledged events that may be sent again later."""

Progress = Callable[[int, int], None]
"""Called after every step with the steps done and all of them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A broken promise: where it was found, and the commands that show it again."""

    invariant: str
    what: str
    expected: str
    found: str
    step: int
    at: str
    replay: list[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was driven, and what broke, if anything. `requests` is a digest of all that was asked."""

    scenario: str
    seed: int
    steps: int
    customers: int
    asks: int
    events: int
    duplicates: int
    restating: int
    versions: int
    calls: int
    requests: str
    is_foretold: bool
    service_version: str
    service_commit: str
    simulator_version: str
    simulator_commit: str
    failure: Failure | None = None


def drive(wire: Wire, settings: DriveSettings, progress: Progress | None = None) -> Outcome:
    """Drive the scenario through the service until the end, the step to stop after, or a broken promise."""
    scenario = settings.found()
    stage = set_up(wire, settings, scenario)
    return Drive(wire, settings, scenario, stage).run(progress)


class Drive:
    """A drive under way."""

    def __init__(self, wire: Wire, settings: DriveSettings, scenario: Scenario, stage: Stage) -> None:
        self._wire, self._settings, self._scenario, self._stage = wire, settings, scenario, stage
        self._experiment: Experiment = stage.experiment
        self._world = scenario.world
        self._books = Books(stage.rules, [variant.key for variant in stage.experiment.variants])
        self._asking = Asking(wire, stage.experiment, settings.seed)
        self._checks = Checks(wire, stage.experiment.key, self._books)
        self._traffic = Traffic(settings, scenario, stage.experiment.key)
        self._sampling = np.random.default_rng([settings.seed, 7])
        self._kept: list[Mapping[str, Any]] = []
        self._versions: dict[int, Version] = {}
        self._to_come = {} if settings.experiment else dict(scenario.arrives)
        self._asks = self._duplicates = self._done = self._step = 0
        self._now = beginning(scenario)

    def run(self, progress: Progress | None = None) -> Outcome:
        """All steps: those in which customers come, then a day each until all windows have closed."""
        times = self._times()
        last = len(times) - 1
        if self._settings.stop_after is not None:
            last = min(last, self._settings.stop_after)
        failure = None
        for self._step, self._now in enumerate(times[: last + 1]):
            try:
                self._take(is_last=self._step == last)
            except Broken as broken:
                failure = self._failed(broken)
                break
            if progress is not None:
                progress(self._step + 1, last + 1)
        return self._outcome(failure)

    def _times(self) -> list[datetime]:
        start, step = beginning(self._scenario), self._settings.step
        coming = [start + number * step for number in range(self._traffic.steps)]
        final = self._experiment.attribution_window + self._experiment.refund_window
        end = start + self._scenario.days * DAY
        return [*coming, *(end + day * DAY for day in range(-(-final // DAY) + 1))]

    def _take(self, *, is_last: bool) -> None:
        """One step."""
        self._set_clock()
        self._add_newcomers()
        standing = self._standing()
        self._send()
        if self._step < self._traffic.steps:
            self._ask(standing)
        self._look(
            is_full=is_last or self._step % self._settings.check_every == self._settings.check_every - 1
        )

    def _set_clock(self) -> None:
        self._wire.post("/v1/clock", {"now": format_instant(self._now)})
        self._books.settle(micros(self._now))

    def _add_newcomers(self) -> None:
        day = (self._now - beginning(self._scenario)) // DAY
        for variant in [key for key, arrives in self._to_come.items() if arrives <= day]:
            del self._to_come[variant]
            body = variant_documents(self._scenario)[variant]
            self._wire.post(f"/v1/experiments/{self._experiment.key}/variants", body)

    def _standing(self) -> Standing:
        """Where the experiment stands after the clock was set; every version since then is looked at."""
        key = self._experiment.key
        found = self._wire.get(f"/v1/experiments/{key}")
        document = self._wire.get(f"/v1/experiments/{key}/policy")
        version = version_of(document, document)
        variants = {variant["key"]: variant["state"] for variant in found["variants"]}
        known = self._versions.setdefault(version.number, version)
        hold("shares", f"version {version.number}, read again", (known.sets, known.segments),
             (version.sets, version.segments))  # fmt: skip
        killed = frozenset(variant for variant, state in variants.items() if state == "killed")
        check_version(version, self._experiment, document, killed)
        return Standing(found["state"], variants, version)

    def _send(self) -> None:
        """Send what is due; the number of new events and of duplicates is known beforehand."""
        events, now_us, start = self._traffic.due(self._now), micros(self._now), 0
        for size, answer in self._wire.post_many("/v1/events", "events", [encode(e) for e in events]):
            batch = events[start : start + size]
            start += size
            if answer["rejected"]:
                first = answer["rejected"][0]
                what = f"event {batch[first['index']]['event_id']}"
                raise Broken("answered", what, "accepted", first["problem"])
            new = len({event["event_id"] for event in batch} - self._books.events)
            answered = answer["accepted"], answer["duplicates"]
            if self._wire.was_repeated:  # some may have been recorded the first time
                answered = new, size - new if sum(answered) == size else -1
            hold("duplicates", f"accepted and duplicate of {size} events", (new, size - new), answered)
            self._duplicates += size - new
            for event in batch:
                self._books.acknowledged(event, now_us)
        self._keep(events)

    def _keep(self, events: list[dict[str, Any]]) -> None:
        """Keep some of the events, so that of all those acknowledged each is as likely to be kept."""
        for event in events:
            self._done += 1
            if len(self._kept) < KEPT_EVENTS:
                self._kept.append(event)
            elif (place := int(self._sampling.integers(self._done))) < KEPT_EVENTS:
                self._kept[place] = event

    def _ask(self, standing: Standing) -> None:
        """Ask for those who come, then for those who come back; note who is shown what."""
        arrivals = self._traffic.arrivals(self._step)
        back = [
            Visit(unit_id, "", None, self._traffic.request_of(unit_id))
            for unit_id in self._traffic.returning(arrivals)
        ]
        asks = [*arrivals.visits, *back]
        answers = self._asking.ask(asks, standing)
        self._asks += len(asks)
        now_us = micros(self._now)
        for visit in asks:
            made = self._asking.made.get(visit.unit_id)
            if made is None:
                self._books.assigned(visit.unit_id, None, None, now_us)
            elif self._books.decision_of(visit.unit_id) is None:
                self._books.assigned(visit.unit_id, made.variant, made.decision_id, now_us)
        first = answers[: len(arrivals.visits)]
        control = self._experiment.control.key
        shown = [self._world.arm(a["variant"] if is_shown(a) else control) for a in first]
        self._traffic.follow(arrivals, shown, [a["decision_id"] for a in first], self._now)

    def _look(self, *, is_full: bool) -> None:
        self._checks.counts()
        self._asking.ratio.check()
        made = list(self._asking.made)
        if made:
            for place in self._sampling.integers(len(made), size=SAMPLED_DECISIONS):
                self._checks.explained(self._asking.made[made[place]])
            self._checks.journey(made[self._sampling.integers(len(made))])
        if self._kept:
            places = self._sampling.integers(len(self._kept), size=SAMPLED_EVENTS)
            self._checks.sent_again([self._renamed(self._kept[place]) for place in places])
        if is_full:  # last, so that a drive that stops here has asked the same until now
            self._set_clock()  # again: carts whose time was up when they came late are given up now
            self._checks.figures()

    def _renamed(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Every other order under another event_id: it is known by its order_id all the same."""
        if event["type"] != "order" or self._sampling.random() < 0.5:
            return event
        return {**event, "event_id": f"{event['event_id']}-again"}

    def _failed(self, broken: Broken) -> Failure:
        stage, currency = self._stage, self._world.currency
        return Failure(
            broken.invariant,
            broken.what,
            str(broken.expected),
            str(broken.found),
            self._step,
            format_instant(self._now),
            self._settings.replay(stage.commit, currency, self._step),
        )

    def _outcome(self, failure: Failure | None) -> Outcome:
        return Outcome(
            scenario=self._scenario.key,
            seed=self._settings.seed,
            steps=self._step + 1,
            customers=len(self._asking.made),
            asks=self._asks,
            events=len(self._books.events),
            duplicates=self._duplicates,
            restating=self._books.restating,
            versions=len(self._versions),
            calls=self._wire.calls,
            requests=self._wire.digest,
            is_foretold=bool(self._asking.is_foretold),
            service_version=self._stage.version,
            service_commit=self._stage.commit,
            simulator_version=rialto_version(),
            simulator_commit=commit(),
            failure=failure,
        )
