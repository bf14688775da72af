"""When and where unit totals are capped (winsorised).

Caps are bin edges at quantiles of the non-zero totals of matured units, pooled over variants: one pair
per money total, fixed for good once 2,000 such totals exist. Before that there is no cap: at the default
quantiles a dozen buyers would clip the very tail that carries the mean.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from experiments.analysis.maturity import matured
from experiments.histogram import caps
from experiments.model import Experiment
from experiments.statistics import MONEY_TOTALS, Cell

TOTALS_NEEDED = 2_000


def new_caps(
    experiment: Experiment,
    cells: Sequence[Cell],
    fixed: Mapping[str, tuple[int, int]],
    *,
    time_zone: str,
    now: datetime,
) -> dict[str, tuple[int, int]]:
    """Caps (low, high) that can be fixed now, for totals that have none yet."""
    settings = experiment.winsorise
    if settings is None or len(fixed) == len(MONEY_TOTALS):
        return {}
    closed = matured(cells, experiment.attribution_window, time_zone, now)
    found: dict[str, tuple[int, int]] = {}
    for name in MONEY_TOTALS:
        if name in fixed:
            continue
        histogram: dict[int, int] = {}
        for cell in closed:
            for bin_number, units in cell.histograms.get(name, {}).items():
                histogram[bin_number] = histogram.get(bin_number, 0) + units
        if sum(histogram.values()) >= TOTALS_NEEDED:
            found[name] = caps(histogram, settings.lower, settings.upper)
    return found
