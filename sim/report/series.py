"""What a run's plots are drawn from: arrays over its days, with quantiles over its replications."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.model import PolicyKind
from sim.runner.outcome import STATES, Replication
from sim.runner.run import Run
from sim.runner.settings import Evaluation
from sim.worlds.cells import Floats

MONTHS_D = 90
"""Runs of more days are drawn by the week where single days are few customers."""
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """A figure of all replications over time: quantiles (5, D) at `LEVELS`, and the mean (D,)."""

    quantiles: Floats
    mean: Floats

    @property
    def low(self) -> float:
        """The lowest value there is to draw."""
        return float(min(self.quantiles.min(), self.mean.min()))

    @property
    def high(self) -> float:
        """The highest."""
        return float(max(self.quantiles.max(), self.mean.max()))


def spread_of(values: Any) -> Spread:
    """The spread over replications of values (R, D)."""
    array = np.asarray(values, dtype=np.float64)
    return Spread(np.quantile(array, LEVELS, axis=0), array.mean(axis=0))


def variants_of(run: Run) -> list[str]:
    """The keys of the arms, in the world's order."""
    return [effect.variant for effect in run.settings.scenario.world.effects]


def control_of(run: Run) -> int:
    """The arm of the control."""
    return variants_of(run).index(run.settings.scenario.experiment.control.key)


def running(daily: Floats) -> Floats:
    """Totals up to the end of each day, from 0 before the first: one longer than `daily`.

    To a thousandth of a minor unit, so that what rounding leaves of equal sums is not drawn as a difference.
    """
    totals: Floats = np.concatenate([np.zeros(1), np.cumsum(daily)])
    return totals.round(3) + 0.0


def regret(run: Run) -> Spread:
    """Cumulative regret, minor units, (days + 1)."""
    return spread_of([running(one.regret_minor) for one in run.replications])


@dataclass(frozen=True, slots=True, eq=False)
class Profit:
    """True margin above that of offering nothing, cumulative, minor units: (days + 1) of each."""

    earned: Spread
    oracle: Spread
    best: Spread


def profit(run: Run) -> Profit:
    """What was earned, what the best of every day and segment would have, and the best single variant."""
    control, found = control_of(run), run.replications
    nothing = [one.if_all_minor[:, control] for one in found]
    single = [best_single(run, one) for one in found]
    return Profit(
        earned=spread_of([running(o.expected_minor - n) for o, n in zip(found, nothing, strict=True)]),
        oracle=spread_of([running(o.oracle_minor - n) for o, n in zip(found, nothing, strict=True)]),
        best=spread_of([running(s - n) for s, n in zip(single, nothing, strict=True)]),
    )


def best_single(run: Run, one: Replication) -> Floats:
    """Daily true margin (D,) had everybody got the one variant that earns most, from the day it is there.

    Before that day everybody gets the control: nothing can be had of an offer that has not come yet.
    """
    could = one.if_all_minor.copy()
    for variant, day in run.settings.scenario.arrives.items():
        could[:day, variants_of(run).index(variant)] = could[:day, control_of(run)]
    return could[:, int(np.argmax(could.sum(axis=0)))]


def is_split(run: Run) -> bool:
    """Whether every segment has shares of its own."""
    return run.settings.scenario.experiment.policy.kind in (PolicyKind.SEGMENT, PolicyKind.CONTEXTUAL)


def smoothed(run: Run) -> int:
    """Over how many days what segments were given is counted together: a week in a run of months."""
    return 7 if run.settings.scenario.days > MONTHS_D else 1


def is_sampled(run: Run) -> bool:
    """Whether draws of the posteriors decided, without shares, guardrails or looks."""
    return run.settings.evaluation is Evaluation.SAMPLED


def published(run: Run) -> Floats:
    """The share of every variant at the end of every day, (R, D, K); by sampling, of the day's customers."""
    return np.array([one.shares for one in run.replications])


def given_in(run: Run, segment: int) -> Floats:
    """The part of a segment's customers that got each variant, by day (R, D, K); 0 where nobody came.

    Of the last `smoothed` days together: the chances of single days would hide the course of months.
    """
    totals = np.cumsum([one.by_segment[:, :, segment] for one in run.replications], axis=1)
    counts, days = totals.copy(), smoothed(run)
    counts[:, days:] -= totals[:, :-days]
    return counts / np.maximum(1, counts.sum(axis=2, keepdims=True))


def best_first(run: Run) -> list[int]:
    """Arms by what they would have earned had everybody got them, the best first."""
    total = np.sum([one.if_all_minor.sum(axis=0) for one in run.replications], axis=0)
    return [int(arm) for arm in np.argsort(-total, kind="stable")]


def guardrail_states(run: Run) -> NDArray[np.int8]:
    """The worst state of every variant by day, (R, D, K)."""
    return np.array([one.state for one in run.replications])


def part_in(states: NDArray[np.int8], arm: int, state: str) -> Floats:
    """The part of replications in which an arm was in this very state, by day (D,)."""
    return (states[:, :, arm] == STATES.index(state)).mean(axis=0)


def troubled(states: NDArray[np.int8]) -> list[int]:
    """Arms that were warned of at least once, those with the most days in trouble first."""
    weight = np.maximum(states.astype(np.float64) - STATES.index("ok"), 0).sum(axis=(0, 1))
    return [int(arm) for arm in np.argsort(-weight, kind="stable") if weight[arm]]


def ends(spread: Spread, told: Sequence[float] = (0.05, 0.95)) -> list[float]:
    """Quantiles of the last day."""
    return [float(spread.quantiles[LEVELS.index(level), -1]) for level in told]
