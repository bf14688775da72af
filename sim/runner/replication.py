"""One replication: customers come, get a variant by the published shares, and the allocator learns.

Time is simulated; at every step the allocator looks at the cells as the ledger's folder would have them then.
The truth of the world goes into the results and never into a decision.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.analysis.guardrails import GuardrailState
from experiments.analysis.read_out import read_out
from experiments.analysis.report import Interval
from experiments.fold import DAY_US, micros
from experiments.model import PolicyKind
from sim.runner.allocating import Allocator
from sim.runner.arriving import arrivals, rows_of
from sim.runner.batch import Batch
from sim.runner.contexts import contexts_of
from sim.runner.kept import kept_for
from sim.runner.ledger import Group, SimulatedLedger
from sim.runner.outcome import Look, Replication
from sim.runner.settings import RunSettings, instant, streams
from sim.runner.tally import WHOLE, Tally
from sim.worlds.customers import Customers
from sim.worlds.outcomes import outcomes
from sim.worlds.sending import as_sent


def replicate(settings: RunSettings, number: int) -> Replication:
    """Run one replication by published shares; a pure function of its arguments."""
    return _Run(settings, number).run()


class _Run:
    """The moving parts of a replication."""

    def __init__(self, settings: RunSettings, number: int) -> None:
        scenario = settings.scenario
        self._settings, self._scenario = settings, scenario
        self._world, self._experiment = scenario.world, scenario.experiment
        self._keys = tuple(effect.variant for effect in self._world.effects)
        self._contexts = contexts_of(self._experiment, self._world)
        is_split = self._contexts is not None or self._experiment.policy.kind is PolicyKind.SEGMENT
        self._segments = [one.key for one in self._world.segments] if is_split else [""]
        self._streams = streams(settings.seed, number)
        here = frozenset(self._keys) - frozenset(scenario.arrives)
        self._ledger = SimulatedLedger(self._experiment, kept_for(self._experiment))
        self._allocator = Allocator(self._experiment, here, settings.start_us)
        self._served: dict[tuple[int, frozenset[str], str], dict[str, float]] = {}
        self._tally = Tally(scenario, [number])

    def run(self) -> Replication:
        """All days, one after the other."""
        look_us, days = micros(self._settings.look_every), self._scenario.days
        looks: list[Look] = []
        for day in range(days):
            self._newcomers(day)
            self._day(day)
            allocator = self._allocator
            self._tally.published(day, allocator.version, allocator.candidates, allocator.body["guardrails"])
            if (day + 1) * DAY_US % look_us < DAY_US or day + 1 == days:
                looks.append(self._look(day))
        return self._tally.results(looks)[0]

    def _day(self, day: int) -> None:
        """Customers of a day, and the allocator's steps between them."""
        customers, since = arrivals(self._settings, self._streams, day), 0
        for at_us in self._settings.steps(day):
            until = int(np.searchsorted(customers.arrival_us, at_us))
            self._assign(rows_of(customers, slice(since, until)))
            since, now_us = until, self._midnight_us(day) + at_us
            self._allocator.step(self._ledger.advance(now_us), now_us)
            self._ledger.fix_caps(instant(now_us))
        self._assign(rows_of(customers, slice(since, len(customers))))

    def _newcomers(self, day: int) -> None:
        for variant, arrives in self._scenario.arrives.items():
            if arrives == day:
                at_us = self._midnight_us(day)
                self._allocator.add(variant, self._ledger.advance(at_us), at_us)

    def _assign(self, customers: Customers) -> None:
        if not len(customers):
            return
        version, keys = self._allocator.version, self._allocator.candidates
        u = self._streams.assignment.random(len(customers))
        of_segment = customers.segment if len(self._segments) > 1 else np.zeros(len(customers), np.int64)
        place = np.zeros(len(customers), np.int64)
        of_segments = [self._shares(keys, index) for index in range(len(self._segments))]
        for index, shares in enumerate(of_segments):
            edges = np.cumsum([shares[key] for key in keys][:-1]) / WHOLE
            rows = of_segment == index
            place[rows] = np.searchsorted(edges, u[rows], side="right")
        arm = np.array([self._keys.index(key) for key in keys])[place]
        what = outcomes(self._world, customers, arm)
        midnight_us = self._midnight_us(customers.day)
        group = of_segment * len(keys) + place
        relevant = self._ledger.relevant(what)
        sent, date = as_sent(self._world, customers, relevant), self._settings.date(customers.day)
        batch = Batch(date, version.epoch, midnight_us, customers, relevant, sent, group)
        self._ledger.enter(batch, self._groups(keys, of_segments))
        self._tally.assigned(customers.day, np.zeros_like(arm), customers, arm, what)

    def _shares(self, keys: tuple[str, ...], index: int) -> dict[str, int]:
        """The shares of a segment over 2^32, by its context where there is one; noted for the report."""
        version, segment = self._allocator.version, self._segments[index]
        row = None if self._contexts is None else self._contexts.rows[index]
        shares = version.shares_for(keys, segment=segment if segment in version.segments else None, row=row)
        if version.contextual is None:
            place = "" if self._contexts is not None else segment
            self._served[version.epoch, frozenset(keys), place] = {k: shares[k] / WHOLE for k in keys}
        return shares

    def _groups(self, keys: tuple[str, ...], of_segments: Sequence[Mapping[str, int]]) -> list[Group]:
        """The groups of all segments and variants; contexts share the cells of a variant."""
        mask, present = sum(1 << self._keys.index(key) for key in keys), frozenset(keys)
        if self._contexts is None:
            return [Group(key, name, mask, present) for name in self._segments for key in keys]
        return [
            Group(key, "", mask, present, context, shares[key])
            for context, shares in zip(self._contexts.names, of_segments, strict=True)
            for key in keys
        ]

    def _look(self, day: int) -> Look:
        """The verdict, as the report would give it when the day ends."""
        now_us, body = self._midnight_us(day + 1), self._allocator.body
        objective = self._experiment.policy.objective
        report = read_out(
            self._allocator.experiment,
            self._ledger.advance(now_us),
            time_zone="UTC",
            now=instant(now_us),
            metric=objective,
            states={(e["metric"], e["variant"]): GuardrailState(e["state"]) for e in body["guardrails"]},
            epoch_shares=self._served,
            stop=body["stop"],
            seed=self._allocator.version.number,
        )
        verdict = report.verdict
        srm = next((check.state for check in report.checks if check.name == "srm"), None)
        leader = next((one for one in report.variants if one.key == verdict.variant), None)
        lift = Interval() if leader is None else leader.metrics[objective].figures.lift_abs
        return Look(day, verdict.kind, verdict.variant, lift.value, lift.ci_low, lift.ci_high, srm)

    def _midnight_us(self, day: int) -> int:
        return self._settings.start_us + day * DAY_US
