"""What a replication counts by day, against the truth of its world."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from experiments.allocation.published import PolicyVersion
from experiments.fold import FoldRules
from experiments.model import Experiment
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
    """Counts of one replication, by day and arm."""

    def __init__(self, scenario: Scenario, number: int) -> None:
        days, arms = scenario.days, len(scenario.world.effects)
        self._scenario, self._number = scenario, number
        self._keys = tuple(effect.variant for effect in scenario.world.effects)
        self._rules = FoldRules(scenario.experiment, "UTC")
        self._control = self._keys.index(scenario.experiment.control.key)
        self._customers = np.zeros(days, np.int64)
        self._assigned = np.zeros((days, arms), np.int64)
        self._shares = np.zeros((days, arms))
        self._expected, self._oracle = np.zeros(days), np.zeros(days)
        self._if_all = np.zeros((days, arms))
        self._booked, self._harmed = np.zeros(days, np.int64), np.zeros(days, np.int64)
        self._state = np.zeros((days, arms), np.int8)

    def assigned(self, day: int, customers: Customers, arm: Ints, what: Outcomes) -> None:
        """Count customers under the arms they got."""
        experiment: Experiment = self._scenario.experiment
        margins = true_margins(self._scenario.world, day, experiment.attribution_window)
        counts = np.zeros(margins.shape)
        np.add.at(counts, (arm, customers.segment), 1)
        arrives = self._scenario.arrives
        here = [index for index, key in enumerate(self._keys) if arrives.get(key, 0) <= day]
        met = counts.sum(axis=0)
        self._customers[day] += len(customers)
        self._assigned[day] += np.bincount(arm, minlength=len(self._keys))
        self._expected[day] += float((counts * margins).sum())
        self._if_all[day] += margins @ met
        self._oracle[day] += float(margins[here].max(axis=0) @ met)
        is_harmful = margins < margins[self._control] - 1e-9
        self._harmed[day] += int((is_harmful[arm, customers.segment] & (what.exposed_us >= 0)).sum())
        ages = np.full(len(customers), _LATER_US)
        final = Known(self._rules, what, customers.pre_margin_minor, customers.arrival_us, ages)
        self._booked[day] += int(final.totals["margin"].sum())

    def ended(
        self,
        day: int,
        version: PolicyVersion,
        candidates: Sequence[str],
        guardrails: Sequence[Mapping[str, Any]],
    ) -> None:
        """Note what was published when the day ended."""
        shares = version.shares_for(candidates)
        for key in candidates:
            self._shares[day, self._keys.index(key)] = shares[key] / WHOLE
        for entry in guardrails:
            arm, state = self._keys.index(entry["variant"]), STATES.index(entry["state"])
            self._state[day, arm] = max(int(self._state[day, arm]), state)

    def result(self, looks: Sequence[Look]) -> Replication:
        """The whole replication."""
        return Replication(
            number=self._number,
            customers=self._customers,
            assigned=self._assigned,
            shares=self._shares,
            expected_minor=self._expected,
            booked_minor=self._booked,
            if_all_minor=self._if_all,
            oracle_minor=self._oracle,
            harmed=self._harmed,
            state=self._state,
            looks=tuple(looks),
        )
