"""What the looks said of the objective, beside what was so."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from math import ceil

import numpy as np

from experiments.analysis.metrics import MetricDefinition, metric_definitions
from sim.report.series import LEVELS
from sim.runner.outcome import Look
from sim.runner.run import Run
from sim.worlds.cells import Floats
from sim.worlds.scenario import Scenario
from sim.worlds.truth import VariantTruth, true_lifts, truth_of_period
from sim.worlds.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Fan:
    """The corrected lift of one variant at the looks that named it; `days` (L,) counts from 1.

    quantiles  (5, L) of the lift over the replications that named it, at `LEVELS`
    interval   (2, L) ends of its credible interval, their means
    truth      (L,) true lift of the customers whose windows had closed
    named      (L,) replications that named it
    """

    variant: str
    days: Floats
    quantiles: Floats
    interval: Floats
    truth: Floats
    named: Floats


def objective_of(scenario: Scenario) -> MetricDefinition:
    """The metric the policy learns from."""
    return metric_definitions(scenario.experiment)[scenario.experiment.policy.objective]


def fans(run: Run, *, most: int) -> list[Fan]:
    """The variants that looks named most often, with all that was said of them."""
    said = [look for one in run.replications for look in one.looks if look.lift_abs is not None]
    named = Counter(look.variant for look in said)
    # Of equally many the one that comes first in the world, in whatever order replications came
    order = [effect.variant for effect in run.settings.scenario.world.effects]
    ranked = sorted((key for key in order if named[key]), key=lambda key: -named[key])
    drawn = [_fan(run.settings.scenario, key, said) for key in ranked[:most]]
    return [fan for fan in drawn if fan is not None]


def _fan(scenario: Scenario, variant: str, said: list[Look]) -> Fan | None:
    looks: dict[int, list[Look]] = {}
    for look in said:
        if look.variant == variant and true_lift(scenario, variant, look.day) is not None:
            looks.setdefault(look.day, []).append(look)
    if not looks:
        return None
    days = sorted(looks)
    truths = [true_lift(scenario, variant, day) for day in days]
    lifts = [np.quantile([look.lift_abs or 0.0 for look in looks[day]], LEVELS) for day in days]
    intervals = [
        [_mean([look.lift_low for look in looks[day]]), _mean([look.lift_high for look in looks[day]])]
        for day in days
    ]
    return Fan(
        variant,
        days=np.array(days, dtype=np.float64) + 1,
        quantiles=np.array(lifts).T,
        interval=np.array(intervals).T,
        truth=np.array(truths, dtype=np.float64),
        named=np.array([len(looks[day]) for day in days], dtype=np.float64),
    )


def true_lift(scenario: Scenario, variant: str, day: int) -> float | None:
    """The true absolute lift of the objective, of customers whose window has closed by the end of a day.

    They came from the day the variant was there; None where nobody's window has closed, or the metric is one
    that no truth is known of (a metric of the document's own).
    """
    experiment, objective = scenario.experiment, objective_of(scenario)
    first = scenario.arrives.get(variant, 0)
    closed = day + 1 - ceil(objective.horizon / timedelta(days=1))
    if closed <= first:
        return None
    found = _period(scenario.world, first, closed, experiment.attribution_window)
    lift = true_lifts(found, experiment.control.key, objective.key).get(variant)
    return None if lift is None else lift.absolute


@lru_cache(maxsize=512)
def _period(world: World, first: int, end: int, window: timedelta) -> dict[str, VariantTruth]:
    return truth_of_period(world, range(first, end), window=window)


def coverage(run: Run) -> tuple[int, int]:
    """At the last looks: intervals that covered the true lift of the variant they named, of how many."""
    scenario, covered, of = run.settings.scenario, 0, 0
    for one in run.replications:
        look = one.looks[-1] if one.looks else None
        if look is None or look.variant is None or look.lift_low is None or look.lift_high is None:
            continue
        true = true_lift(scenario, look.variant, look.day)
        if true is not None:
            of += 1
            covered += look.lift_low <= true <= look.lift_high
    return covered, of


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
