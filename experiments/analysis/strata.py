"""Which units may be compared with which: candidate sets, and runs of epochs within them.

A variant is compared with control only among units that could have had either. Where shares moved
between epochs, an arm's own mix of epochs differs from the others', so each stratum is a set and a
run of epochs, and every arm is weighed by the stratum's share of *all* units. The naive alternative,
pooling an arm's own units, mistakes a difference between the strata for an effect.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.analysis.estimates import Part, Pool, SetEpoch
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.sums import Atom, PairSums, gather, total_sums
from experiments.model import MetricKind
from experiments.statistics import Cell

MIN_UNITS = 10
"""Units each compared arm needs in a stratum."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Places compared as one, and their share of all units of the comparison."""

    weight: float
    places: tuple[SetEpoch, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One metric's sums by (variant, set, epoch), with the candidates of each set.

    `all_units` counts the units of every variant at a place: the strata's weights.
    """

    definition: MetricDefinition
    sums: Mapping[Atom, PairSums]
    candidates: Mapping[int, frozenset[str]]
    all_units: Mapping[SetEpoch, float]

    def of(self, variant: str, places: Iterable[SetEpoch]) -> PairSums:
        """The variant's sums over some places."""
        found = (self.sums.get((variant, *place)) for place in places)
        return total_sums(sums for sums in found if sums is not None)

    def size(self, variant: str, places: Iterable[SetEpoch]) -> float:
        """How many units inform the metric there: those in the denominator of a proportion."""
        sums = self.of(variant, places)
        return sums.denominator if self.definition.kind is MetricKind.PROPORTION else sums.units


def tabulate(
    cells: Sequence[Cell], definition: MetricDefinition, weight: Callable[[Cell], float] | None = None
) -> Table:
    """Sum the cells for one metric."""
    sums = gather(cells, definition, weight)
    all_units: dict[SetEpoch, float] = {}
    for (_, candidate_set, epoch), pair in sums.items():
        place = candidate_set, epoch
        all_units[place] = all_units.get(place, 0.0) + pair.units
    candidates = {cell.key.candidate_set: cell.candidates for cell in cells}
    return Table(definition, sums, candidates, all_units)


def set_strata(table: Table, arms: Sequence[str]) -> list[Stratum]:
    """One stratum for each candidate set that contains all the arms and has `MIN_UNITS` of each.

    Where no set has that many, the one with most units that has any of each.
    """
    return _weighed(table, arms, [_places_of(table, candidates) for candidates in _common_sets(table, arms)])


def epoch_strata(table: Table, arms: Sequence[str]) -> list[Stratum]:
    """Within each such set, epochs merged in order until every arm has `MIN_UNITS`; a rest joins the last."""
    groups: list[tuple[SetEpoch, ...]] = []
    for candidate_set in _common_sets(table, arms):
        runs: list[tuple[SetEpoch, ...]] = []
        pending: tuple[SetEpoch, ...] = ()
        counts = dict.fromkeys(arms, 0.0)
        for place in _places_of(table, candidate_set):
            pending += (place,)
            for arm in arms:
                counts[arm] += table.size(arm, (place,))
            if min(counts.values()) >= MIN_UNITS:
                runs.append(pending)
                pending, counts = (), dict.fromkeys(arms, 0.0)
        if pending and runs:
            runs[-1] += pending
        elif pending:
            runs.append(pending)
        groups += runs
    return _weighed(table, arms, groups)


def parts_of(table: Table, arm: str, strata: Sequence[Stratum]) -> list[Part]:
    """The arm's sums in each stratum, with what the default prior needs."""
    needs_pool = table.definition.kind is MetricKind.MEAN
    everywhere = _pool(table, tuple(table.all_units)) if needs_pool else None
    parts: list[Part] = []
    for stratum in strata:
        places = {place: table.of(arm, (place,)).units for place in stratum.places}
        pool = everywhere
        if everywhere is not None and len(strata) > 1:
            local = _pool(table, stratum.places)
            # A stratum where nobody bought yet has no spread of its own; it is not known to have none.
            pool = local if local.variance > 0.0 else Pool(local.mean, everywhere.variance)
        parts.append(Part(stratum.weight, table.of(arm, stratum.places), places, pool))
    return parts


def plain_part(table: Table, arm: str) -> Part:
    """All the arm's units as one part: its own figure, whatever the sets."""
    places = tuple(table.all_units)
    return Part(1.0, table.of(arm, places), {}, _pool(table, places))


def _common_sets(table: Table, arms: Sequence[str]) -> list[int]:
    return sorted(s for s, candidates in table.candidates.items() if candidates.issuperset(arms))


def _places_of(table: Table, candidate_set: int) -> tuple[SetEpoch, ...]:
    return tuple(sorted(place for place in table.all_units if place[0] == candidate_set))


def _weighed(table: Table, arms: Sequence[str], groups: Sequence[tuple[SetEpoch, ...]]) -> list[Stratum]:
    sizes = [(min(table.size(arm, places) for arm in arms), places) for places in groups]
    chosen = [places for size, places in sizes if size >= MIN_UNITS]
    if not chosen:
        informed = [places for size, places in sizes if size > 0]
        chosen = [max(informed, key=lambda places: _units(table, places))] if informed else []
    total = sum(_units(table, places) for places in chosen)
    return [Stratum(_units(table, places) / total, places) for places in chosen]


def _units(table: Table, places: Iterable[SetEpoch]) -> float:
    return sum(table.all_units[place] for place in places)


def _pool(table: Table, places: Sequence[SetEpoch]) -> Pool:
    """Pooled mean, and variance within variants, over all variants at the places."""
    wanted = set(places)
    by_variant: dict[str, PairSums] = {}
    for (variant, candidate_set, epoch), sums in table.sums.items():
        if (candidate_set, epoch) in wanted and sums.n:
            by_variant[variant] = by_variant.get(variant, PairSums()) + sums
    total = total_sums(by_variant.values())
    if not total.n:
        return Pool(0.0, 0.0)
    freedom = total.units - len(by_variant)
    within = sum(sums.squared_deviations() for sums in by_variant.values())
    return Pool(total.mean_x, within / freedom if freedom > 0 else 0.0)
