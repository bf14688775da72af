"""What a replication counts by day, against the truth of its world."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from experiments.allocation.published import PolicyVersion
from experiments.fold import FoldRules
from sim.runner.outcome import STATES, Look, Replication
from sim.runner.vectors import Known
from sim.worlds.cells import Floats, Ints
from sim.worlds.customers import Customers
from sim.worlds.outcomes import Outcomes
from sim.worlds.scenario import Scenario
from sim.worlds.truth import truth
from sim.worlds.world import World

WHOLE = 1 << 32
_LATER_US = np.iinfo(np.int64).max // 4
"""An age at which everything is known."""


@lru_cache(maxsize=4096)
def true_margins(world: World, day: int, window: timedelta) -> Floats:
    """True margin per customer who comes that day, (arms, segments), minor units."""
    by_segment = [truth(world, day=day, segment=one.key, window=window).values() for one in world.segments]
    return np.array([[found.metrics["margin_per_unit"] for found in column] for column in by_segment]).T


class Tally:
    """Counts of replications that run side by side, by replication, day and arm."""

    def __init__(self, scenario: Scenario, numbers: Sequence[int]) -> None:
        runs, days, arms = len(numbers), scenario.days, len(scenario.world.effects)
        self._scenario, self._numbers = scenario, tuple(numbers)
        self._keys = tuple(effect.variant for effect in scenario.world.effects)
        self._rules = FoldRules(scenario.experiment, "UTC")
        self._control = self._keys.index(scenario.experiment.control.key)
        self._customers = np.zeros((runs, days), np.int64)
        segments = len(scenario.world.segments)
        self._by_segment = np.zeros((runs, days, arms, segments), np.int64)
        self._shares = np.zeros((runs, days, arms))
        self._expected, self._oracle = np.zeros((runs, days)), np.zeros((runs, days))
        self._if_all = np.zeros((runs, days, arms))
        self._booked, self._harmed = np.zeros((runs, days), np.int64), np.zeros((runs, days), np.int64)
        self._state = np.zeros((runs, days, arms), np.int8)

    def assigned(self, day: int, run: Ints, customers: Customers, arm: Ints, what: Outcomes) -> None:
        """Count customers, each of the run (its place, not its number) and under the arm it got."""
        experiment, arrives = self._scenario.experiment, self._scenario.arrives
        margins = true_margins(self._scenario.world, day, experiment.attribution_window)
        runs, (arms, segments) = len(self._numbers), margins.shape
        place = (run * arms + arm) * segments + customers.segment
        counts = np.bincount(place, minlength=runs * arms * segments).reshape(runs, arms, segments)
        here = [index for index, key in enumerate(self._keys) if arrives.get(key, 0) <= day]
        met = counts.sum(axis=1)
        self._customers[:, day] += met.sum(axis=1)
        self._by_segment[:, day] += counts
        self._expected[:, day] += (counts * margins).sum(axis=(1, 2))
        # Nobody can be shown what has not arrived: until then "everybody gets it" is the control
        possible = np.tile(margins[self._control], (arms, 1))
        possible[here] = margins[here]
        self._if_all[:, day] += met @ possible.T
        self._oracle[:, day] += met @ possible.max(axis=0)
        is_harmful = (margins < margins[self._control] - 1e-9)[arm, customers.segment] & (
            what.exposed_us >= 0
        )
        self._harmed[:, day] += np.bincount(run[is_harmful], minlength=runs)
        ages = np.full(len(customers), _LATER_US)
        final = Known(self._rules, what, what, customers.pre_margin_minor, customers.arrival_us, ages)
        # Sums of a day stay far below 2^53, where floating point is exact
        booked = np.bincount(run, weights=final.totals["margin"], minlength=runs)
        self._booked[:, day] += np.rint(booked).astype(np.int64)

    def shares(self, day: int, shares: Floats) -> None:
        """Note shares as they were when the day ended, (runs, arms)."""
        self._shares[:, day] = shares

    def published(
        self,
        day: int,
        version: PolicyVersion,
        candidates: Sequence[str],
        guardrails: Sequence[Mapping[str, Any]],
    ) -> None:
        """Note what a single run had published when the day ended."""
        shares = version.shares_for(candidates)
        for key in candidates:
            self._shares[0, day, self._keys.index(key)] = shares[key] / WHOLE
        for entry in guardrails:
            arm, state = self._keys.index(entry["variant"]), STATES.index(entry["state"])
            self._state[0, day, arm] = max(int(self._state[0, day, arm]), state)

    def results(self, looks: Sequence[Look] = ()) -> tuple[Replication, ...]:
        """The replications, whole; `looks` of a single run."""
        return tuple(
            Replication(
                number=number,
                customers=self._customers[run],
                by_segment=self._by_segment[run],
                shares=self._shares[run],
                expected_minor=self._expected[run],
                booked_minor=self._booked[run],
                if_all_minor=self._if_all[run],
                oracle_minor=self._oracle[run],
                harmed=self._harmed[run],
                state=self._state[run],
                looks=tuple(looks),
            )
            for run, number in enumerate(self._numbers)
        )
