"""Variants that come while an experiment runs: they burn in alone, at a bounded share.

The others go on as if the newcomer were not there, on all that is known of them, and give up the same part
of what they have above their minima. A newcomer's share is min(`NEWCOMER_SHARE`, (1 - c) / (K - 1)), and all
of them together take at most half of the traffic that is not promised as a floor; never below the floor
(its ramp and its throttle are caps and may lie below). It is one until it has `burn_in` units of its own
and a posterior without help from a warm start.

From then on it is compared like any other, over the units that could have had it: those since it came. So
a warm start does not shorten it: before, the others would have next to no units to be compared by.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from experiments.allocation.caps import WHOLE, cap_integer, to_integer
from experiments.allocation.published import SetShares
from experiments.analysis.objective import allocation_posteriors
from experiments.model import Experiment
from experiments.statistics import Cell

NEWCOMER_SHARE = 0.10
"""What a newcomer gets at most while it burns in."""


def newcomers(
    experiment: Experiment,
    cells: Sequence[Cell],
    added: Collection[str],
    *,
    time_zone: str,
    now: datetime,
) -> frozenset[str]:
    """Which variants added to a running experiment still burn in; `added` are active."""
    assigned = dict.fromkeys(added, 0)
    for cell in cells:
        if cell.key.variant in assigned:
            assigned[cell.key.variant] += cell.moments.sum("assigned")
    control = experiment.control.key
    found: set[str] = set()
    for key, units in assigned.items():
        if units >= experiment.policy.burn_in:
            pair = allocation_posteriors(experiment, cells, (control, key), time_zone=time_zone, now=now)
            if key in pair.posteriors or pair.reason != "insufficient_data":
                continue  # any other reason holds the shares of everybody, and is said so
        found.add(key)
    return frozenset(found)


def admitted(
    experiment: Experiment,
    others: SetShares,
    candidates: Sequence[str],
    fresh: Collection[str],
    capped: Mapping[str, float],
) -> SetShares:
    """The shares of all candidates: the newcomers' bounded ones, the rest in proportion to `others`.

    `others` are the shares of the candidates that are no newcomers. Only what a variant has above its minimum
    (the floor, the control its control_share) is taken from.
    """
    new = [key for key in candidates if key in fresh]
    if not new:
        return others
    settings, control = experiment.policy, experiment.control.key
    before = {key: share / WHOLE for key, share in others.shares.items()}
    minimum = dict.fromkeys(before, settings.floor) | {control: settings.control_share}
    above = {key: max(0.0, share - minimum[key]) for key, share in before.items()}
    free = sum(above.values())
    equal = (1.0 - settings.control_share) / (len(candidates) - 1)
    share = max(settings.floor, min(NEWCOMER_SHARE, equal, free / (2 * len(new))))
    taken = share * len(new) / free
    split = {key: before[key] - taken * above[key] if key in before else share for key in candidates}
    caps = {key: cap for key, cap in capped.items() if key in split}
    return SetShares(cap_integer(to_integer(split), caps, control), others.prob_best, others.posteriors)
