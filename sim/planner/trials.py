"""Many tests lived through, and what they come to: power, days, regret, each with its Monte-Carlo error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.allocation.stopping import has_rule
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.verdict import VerdictKind
from experiments.model import DelayHandling, Experiment, TotalsModel
from experiments.planning.baselines import Shop
from sim.planner.simulation import OPEN, Ending, Trial, live
from sim.planner.world import arm_of

QUANTILES = (0.1, 0.5, 0.9)
_GOOD = frozenset({VerdictKind.HEALTHY.value})
_BAD = frozenset({VerdictKind.HARMFUL.value, VerdictKind.TOXIC.value})
_NONE = frozenset({VerdictKind.NO_DIFFERENCE.value})


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the simulated tests came to.

    `power` is the part that ended with the right verdict (by a stop rule: with the right leader), `wrong`
    with another, the rest is open. Days are quantiles over all of them, None beyond the planned ones.
    `regret_minor` is what the enrolled brought less than under the better of treatment and control.
    `right_by_day` is the part that had ended rightly by each day.
    """

    replications: int
    days: int
    power: float
    power_error: float
    wrong: float
    open: float
    days_low: float | None
    days_half: float | None
    days_high: float | None
    units: float
    treated: float
    killed: float
    regret_minor: float | None
    regret_error: float | None
    verdicts: Mapping[str, int]
    right_by_day: Sequence[tuple[float, float]]


def simulate(
    experiment: Experiment,
    shop: Shop,
    effect: float,
    *,
    per_day: float,
    days: int,
    replications: int,
    seed: int,
    is_watched: bool = True,
    step: Callable[[], object] = lambda: None,
) -> Simulated:
    """Live through that many tests in which the first treatment changes the objective by the effect.

    The others are as the control. `seed` and the number of a test give all its randomness.
    """
    objective = experiment.policy.objective
    changed = shop.changed(objective, effect)
    first = next(variant.key for variant in experiment.variants if not variant.is_control)
    arms = {v.key: arm_of(changed if v.key == first else shop) for v in experiment.variants}
    trial = Trial(planned(experiment), arms, per_day, days, is_watched)
    endings: list[Ending] = []
    for number in range(replications):
        endings.append(live(trial, np.random.default_rng([seed, number])))
        step()
    sign = metric_definitions(experiment)[objective].sign
    gain = arms[first].mean("margin") - arms[experiment.control.key].mean("margin")
    has_money = shop.margin() is not None
    return _summary(trial, endings, first, sign * effect, gain if has_money else None)


def planned(experiment: Experiment) -> Experiment:
    """The document as far as a plan simulates it: matured units, Student-t, no head start, no ramp."""
    policy = replace(
        experiment.policy,
        delay=DelayHandling.MATURED,
        model=TotalsModel.STUDENT_T,
        warm_start=None,
        ramp=None,
        discount_half_life=None,
    )
    return replace(experiment, policy=policy, winsorise=None)


def _summary(
    trial: Trial, endings: Sequence[Ending], first: str, effect: float, gain: float | None
) -> Simulated:
    count, experiment = len(endings), trial.experiment
    right = np.array([_is_right(experiment, ending, first, effect) for ending in endings])
    is_open = np.array([ending.verdict == OPEN for ending in endings])
    ended = np.array([math.inf if none else one.day for none, one in zip(is_open, endings, strict=True)])
    power = float(right.mean())
    regret = None
    if gain is not None:
        lacking = [e.units - e.by_variant[first] if gain > 0 else e.by_variant[first] for e in endings]
        regret = np.array(lacking) * abs(gain)
    low, half, high = (float(np.quantile(ended, q, method="inverted_cdf")) for q in QUANTILES)
    by_day = sorted(set(ended[np.isfinite(ended)].tolist()))
    return Simulated(
        replications=count,
        days=trial.days,
        power=power,
        power_error=math.sqrt(max(power * (1 - power), 1.0 / count / 4) / count),
        wrong=float((~right & ~is_open).mean()),
        open=float(is_open.mean()),
        days_low=_finite(low),
        days_half=_finite(half),
        days_high=_finite(high),
        units=float(np.mean([ending.units for ending in endings])),
        treated=float(np.mean([ending.by_variant[first] for ending in endings])),
        killed=float(np.mean([first in ending.killed for ending in endings])),
        regret_minor=None if regret is None else float(regret.mean()),
        regret_error=None if regret is None else float(regret.std() / math.sqrt(count)),
        verdicts=dict(Counter(ending.verdict for ending in endings)),
        right_by_day=[(day, float((right & (ended <= day)).mean())) for day in by_day],
    )


def _is_right(experiment: Experiment, ending: Ending, first: str, effect: float) -> bool:
    """Whether the test ended as it should, `effect` in the good direction of the objective.

    Of a stop rule all that matters is that no better variant than the leader is left behind.
    """
    if ending.verdict == OPEN:
        return False
    if has_rule(experiment.stop_rule):
        return effect == 0 or (ending.leader == first) == (effect > 0)
    if effect == 0:
        return ending.verdict in _NONE
    return ending.leader == first and ending.verdict in (_GOOD if effect > 0 else _BAD)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
