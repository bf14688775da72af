"""The histograms of cells, of many customers at once: money totals, ages of events, hours of the day."""

from collections.abc import Mapping

import numpy as np

from experiments.ages import BINS, HOUR_US, HOURS, REFUNDS, binned
from experiments.model import DelayHandling
from experiments.statistics import MONEY_TOTALS, Cell
from sim.runner.binning import age_bins, bins_of
from sim.runner.vectors import Known
from sim.worlds.cells import Ints

AGED = ("orders", REFUNDS, "converted", "exposed", "clicked", "took")
NAMES = (
    *MONEY_TOTALS,
    HOURS,
    *(binned(feature, number) for feature in AGED for number in range(1, BINS + 1)),
)
"""Every histogram a world's customers can be counted in; entries name them by their places here."""
_HOURS = len(MONEY_TOTALS)
_AGES = {feature: len(MONEY_TOTALS) + BINS * place for place, feature in enumerate(AGED)}
"""Where the bins of a feature's ages begin, less one: they count from 1."""
_WIDE = 1 << 13  # more than twice the largest bin of 64 bits of money


def count(cells: Mapping[int, Cell], group: Ints, known: tuple[Known, Known]) -> None:
    """Count what is known now (first), and take out what was (second); `group` of both, in this order."""
    parts: list[Ints] = []
    signs: list[Ints] = []
    first = 0
    for one, sign in zip(known, (1, -1), strict=True):
        rows, names, bins = entries_of(one)
        parts.append((group[first + rows] * len(NAMES) + names) * _WIDE + bins + _WIDE // 2)
        signs.append(np.full(len(rows), sign))
        first += len(one.age_us)
    code, place = np.unique(np.concatenate(parts), return_inverse=True)
    change = np.bincount(place, weights=np.concatenate(signs), minlength=len(code)).astype(np.int64)
    code, change = code[change != 0], change[change != 0]
    where, bins = code // _WIDE, code % _WIDE - _WIDE // 2
    numbers, names = where // len(NAMES), where % len(NAMES)
    for number, name, bin_number, n in zip(
        numbers.tolist(), names.tolist(), bins.tolist(), change.tolist(), strict=True
    ):
        _add(cells[number].histograms, NAMES[name], bin_number, n)


def entries_of(known: Known) -> tuple[Ints, Ints, Ints]:
    """Every unit that counts in a histogram: (its row, the place of the name in `NAMES`, its bin).

    The bin is that of a total of money, the hour of its anchor, or how many events it has at that age.
    """
    found: list[tuple[Ints, Ints, Ints]] = []
    for place, total in enumerate(known.totals[name] for name in MONEY_TOTALS):
        rows = np.flatnonzero(total)
        found.append((rows, np.full(len(rows), place), bins_of(total[rows])))
    length_us, final_us = known.rules.window_us, known.rules.final_us
    anchor, outcomes = known.anchor_us, known.outcomes
    found.append(_aged("orders", known.order_is_in, known.order_times - anchor, length_us))
    back = outcomes.refund_us - anchor
    counts = known.order_is_in[:1] & known.is_refunded & (back <= final_us)
    found.append(_aged(REFUNDS, counts, back[None], final_us))
    if known.rules.experiment.policy.delay is DelayHandling.MODEL:
        rows = np.flatnonzero(anchor >= 0)
        hour = (known.arrival_us[rows] + anchor[rows]) // HOUR_US
        found.append((rows, np.full(len(rows), _HOURS), 1 + hour))
        orders = known.order_is_in.sum(axis=0)
        first = np.where(known.order_is_in, known.order_times - anchor, np.iinfo(np.int64).max).min(axis=0)
        found.append(_aged("converted", (orders > 0)[None], first[None], length_us))
        slots = ("exposed", known.exposed), ("clicked", known.clicked), ("took", known.took)
        for name, has in slots:
            at_us = getattr(outcomes, f"{name}_us")
            since = np.maximum(at_us, outcomes.exposed_us) - anchor
            found.append(_aged(name, has[None], since[None], length_us))
    rows, names, bins = (np.concatenate(column) for column in zip(*found, strict=True))
    return rows, names, bins


def _aged(feature: str, has: np.ndarray, ages_us: Ints, horizon_us: int) -> tuple[Ints, Ints, Ints]:
    """Events (events, n) of the units that have them, by bin of age: how many each unit has in a bin."""
    events, rows = np.nonzero(has)
    bins = _AGES[feature] + age_bins(ages_us[events, rows], horizon_us)
    if len(has) == 1:
        return rows, bins, np.ones_like(rows)
    code, times = np.unique(rows * len(NAMES) + bins, return_counts=True)
    return code // len(NAMES), code % len(NAMES), times


def _add(histograms: dict[str, dict[int, int]], name: str, bin_number: int, n: int) -> None:
    histogram = histograms.setdefault(name, {})
    left = histogram.get(bin_number, 0) + n
    if left:
        histogram[bin_number] = left
    else:
        del histogram[bin_number]
    if not histogram:
        del histograms[name]
