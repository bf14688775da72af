"""The hurdle as the allocator reads it (`policy.model: hurdle`): sizes from histograms, by stratum.

A bin of a histogram is at most 3.1 % wide (`experiments.histogram`); a total counts as the geometric middle
of its bin, which moves the mean of the logs by less than 1e-3 and their variance by 1e-4. Winsorising caps
have no part in it: the log tames the tail.

Where the sizes of some arm are refused by `law_z` beyond 3.29 standard errors (two-sided p = 0.001), the law
is not theirs, and every arm is read by Student-t instead, as without a hurdle: arms under two laws could not
be compared. The method says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from experiments.analysis.estimates import Estimate
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.strata import Stratum, Table
from experiments.analysis.sums import Atom, atom_of
from experiments.histogram import edge
from experiments.posteriors.hurdle import Hurdle, LogSizes, law_z
from experiments.posteriors.log_normal import ShiftedLogNormal
from experiments.statistics import Cell

METHOD = "hurdle, log-normal sizes"
REFUSED = "student-t, since sizes are not log-normal"
REFUSED_BEYOND = 3.29

Signed = tuple[LogSizes, LogSizes]
"""Sizes of the positive and of the negative totals."""

HISTOGRAM = {"margin_per_unit": "margin", "revenue_per_unit": "net_revenue"}


def sizes_by_atom(
    cells: Sequence[Cell], definition: MetricDefinition, weight: Callable[[Cell], float] | None = None
) -> dict[Atom, Signed]:
    """The sizes of a metric's non-zero totals by (variant, candidate set, epoch)."""
    name = HISTOGRAM[definition.key]
    found: dict[Atom, Signed] = {}
    for cell in cells:
        factor = 1.0 if weight is None else weight(cell)
        up, down = found.get(atom_of(cell.key), (LogSizes(), LogSizes()))
        for number, units in cell.histograms.get(name, {}).items():
            size = _middle(abs(number))
            logs = math.log(size)
            n = factor * units
            one = LogSizes(n, n * logs, n * logs * logs, n * size)
            up, down = (up + one, down) if number > 0 else (up, down + one)
        found[atom_of(cell.key)] = up, down
    return found


def hurdle_estimates(
    table: Table, sizes: Mapping[Atom, Signed], arms: Sequence[str], strata: Sequence[Stratum]
) -> dict[str, Estimate] | None:
    """The standardised hurdle of every arm that has units; None where some arm's sizes refuse the law."""
    own = {arm: _total(sizes, arm, [place for s in strata for place in s.places]) for arm in arms}
    if any(abs(law_z(signed)) > REFUSED_BEYOND for both in own.values() for signed in both):
        return None
    pooled = LogSizes(), LogSizes()
    for up, down in own.values():
        pooled = pooled[0] + up, pooled[1] + down
    if not pooled[0].n or not strata:  # strata hold units of every arm
        return {}
    prior = Hurdle.prior(*pooled)
    found: dict[str, Estimate] = {}
    for arm in arms:
        parts = [table.of(arm, stratum.places) for stratum in strata]
        marginals = [
            prior.updated(part.units, *_total(sizes, arm, stratum.places)).marginal_mean()
            for part, stratum in zip(parts, strata, strict=True)
        ]
        figure = math.fsum(s.weight * part.mean_x for s, part in zip(strata, parts, strict=True))
        posterior = _standardised([stratum.weight for stratum in strata], marginals)
        found[arm] = Estimate(figure, posterior, METHOD)
    return found


def _standardised(weights: Sequence[float], parts: Sequence[ShiftedLogNormal]) -> ShiftedLogNormal:
    """The shifted log-normal with the shift, mean and variance of the weighted sum of independent ones."""
    shift, mean = (
        math.fsum(w * value for w, value in zip(weights, values, strict=True))
        for values in ([part.shift for part in parts], [part.mean for part in parts])
    )
    variance = math.fsum(w * w * part.variance for w, part in zip(weights, parts, strict=True))
    return ShiftedLogNormal.matching(shift, mean, variance)


def _total(sizes: Mapping[Atom, Signed], arm: str, places: Sequence[tuple[int, int]]) -> Signed:
    up, down = LogSizes(), LogSizes()
    for place in places:
        more_up, more_down = sizes.get((arm, *place), (LogSizes(), LogSizes()))
        up, down = up + more_up, down + more_down
    return up, down


@lru_cache(maxsize=4096)
def _middle(number: int) -> float:
    """The geometric middle of the bin's values."""
    return math.sqrt((edge(number - 1) + 1) * edge(number))
