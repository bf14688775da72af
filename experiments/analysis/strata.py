"""Which units may be compared with which: candidate sets, and runs of epochs within them.

A variant is compared with control only among units that could have had either. Where shares moved
between epochs, an arm's own mix of epochs differs from the others', so each stratum is a set and a
run of epochs, and every arm is weighed by the stratum's share of *all* units. The naive alternative,
pooling an arm's own units, mistakes a difference between the strata for an effect.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter

from experiments.analysis.estimates import Part, Pool, SetEpoch
from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.sums import Adjust, Atom, PairSums, gather, total_sums
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

    `all_units` counts the units of every variant at a place, never discounted: the strata's weights.
    """

    definition: MetricDefinition
    sums: Mapping[Atom, PairSums]
    candidates: Mapping[int, frozenset[str]]
    all_units: Mapping[SetEpoch, float]
    places: Mapping[int, tuple[SetEpoch, ...]]  # of each set, in order of epoch
    variants: frozenset[str]
    segments: Mapping[int, str]  # of the sets whose units are all of one segment
    pools: dict[tuple[SetEpoch, ...], Pool] = field(  # told once, for every arm asks for the same ones
        default_factory=dict[tuple[SetEpoch, ...], Pool], compare=False, repr=False
    )

    def of(self, variant: str, places: Iterable[SetEpoch]) -> PairSums:
        """The variant's sums over some places."""
        found = (self.sums.get((variant, *place)) for place in places)
        return total_sums(sums for sums in found if sums is not None)

    def size(self, variant: str, places: Iterable[SetEpoch]) -> float:
        """How many units inform the metric there: those in the denominator of a proportion."""
        return sum(self.size_at(variant, place) for place in places)

    def size_at(self, variant: str, place: SetEpoch) -> float:
        """The size at one place."""
        sums = self.sums.get((variant, *place))
        if sums is None:
            return 0.0
        return sums.denominator if self.definition.kind is MetricKind.PROPORTION else sums.units

    def pool(self, places: tuple[SetEpoch, ...]) -> Pool:
        """Pooled mean, and variance within variants, over all variants at the places."""
        if places not in self.pools:
            self.pools[places] = _pool(self, places)
        return self.pools[places]


def tabulate(
    cells: Sequence[Cell],
    definition: MetricDefinition,
    weight: Callable[[Cell], float] | None = None,
    adjust: Adjust | None = None,
) -> Table:
    """Sum the cells for one metric; `weight` discounts what they say, not how much a set counts.

    `adjust` corrects the sums of open cohorts; see `sums.gather`.
    """
    sums = gather(cells, definition, weight, adjust)
    all_units: dict[SetEpoch, float] = {}
    for cell in cells:
        place = cell.key.candidate_set, cell.key.epoch
        all_units[place] = all_units.get(place, 0.0) + cell.moments.sums.get("units", 0)
    candidates = {cell.key.candidate_set: cell.candidates for cell in cells}
    places: dict[int, tuple[SetEpoch, ...]] = {
        candidate_set: tuple(group) for candidate_set, group in groupby(sorted(all_units), key=itemgetter(0))
    }
    variants = frozenset(variant for variant, _, _ in sums)
    return Table(definition, sums, candidates, all_units, places, variants, _segments(cells))


def _segments(cells: Sequence[Cell]) -> dict[int, str]:
    """Candidate set -> its units' segment, of the sets that have one only."""
    seen: dict[int, set[str]] = {}
    for candidate_set, segment in {(cell.key.candidate_set, cell.key.segment) for cell in cells}:
        seen.setdefault(candidate_set, set()).add(segment)
    return {candidate_set: next(iter(found)) for candidate_set, found in seen.items() if len(found) == 1}


def by_segment(cells: Sequence[Cell]) -> list[Cell]:
    """The same cells, each candidate set split by segment.

    What is standardised over candidate sets is then standardised over segments too, with weights common to
    all arms.
    """
    numbers: dict[tuple[int, str], int] = {}
    return [
        replace(
            cell,
            key=cell.key._replace(
                candidate_set=numbers.setdefault((cell.key.candidate_set, cell.key.segment), len(numbers))
            ),
        )
        for cell in cells
    ]


def set_strata(table: Table, arms: Sequence[str]) -> list[Stratum]:
    """One stratum for each candidate set that contains all the arms and has `MIN_UNITS` of each.

    Where no set has that many, the one with most units that has any of each.
    """
    return _weighed(table, arms, [table.places[candidate_set] for candidate_set in _common_sets(table, arms)])


def epoch_strata(table: Table, arms: Sequence[str]) -> list[Stratum]:
    """Within each such set, epochs merged in order until every arm has `MIN_UNITS`; a rest joins the last."""
    groups: list[tuple[SetEpoch, ...]] = []
    for candidate_set in _common_sets(table, arms):
        runs: list[tuple[SetEpoch, ...]] = []
        pending: tuple[SetEpoch, ...] = ()
        counts = dict.fromkeys(arms, 0.0)
        for place in table.places[candidate_set]:
            pending += (place,)
            for arm in arms:
                counts[arm] += table.size_at(arm, place)
            if min(counts.values()) >= MIN_UNITS:
                runs.append(pending)
                pending, counts = (), dict.fromkeys(arms, 0.0)
        if pending and runs:
            runs[-1] += pending
        elif pending:
            runs.append(pending)
        groups += runs
    return _weighed(table, arms, groups)


def parts_of(table: Table, arm: str, strata: Sequence[Stratum], *, with_prior: bool = True) -> list[Part]:
    """The arm's sums in each stratum, with what the default prior of a mean needs."""
    needs_pool = with_prior and table.definition.kind is MetricKind.MEAN
    everywhere = table.pool(tuple(table.all_units)) if needs_pool else None
    parts: list[Part] = []
    for stratum in strata:
        found = {place: table.sums.get((arm, *place)) for place in stratum.places}
        places = {place: sums.units for place, sums in found.items() if sums is not None and sums.n}
        pool = everywhere
        if everywhere is not None and len(strata) > 1:
            local = table.pool(stratum.places)
            # A stratum where nobody bought yet has no spread of its own; it is not known to have none.
            pool = local if local.variance > 0.0 else Pool(local.mean, everywhere.variance)
        segment = table.segments.get(stratum.places[0][0])  # all places of a stratum are of one set
        parts.append(Part(stratum.weight, table.of(arm, stratum.places), places, pool, segment))
    return parts


def plain_part(table: Table, arm: str) -> Part:
    """All the arm's units as one part: its own figure, whatever the sets."""
    places = tuple(table.all_units)
    return Part(1.0, table.of(arm, places), {}, table.pool(places))


def _common_sets(table: Table, arms: Sequence[str]) -> list[int]:
    return sorted(s for s, candidates in table.candidates.items() if candidates.issuperset(arms))


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
    found = {variant: table.of(variant, places) for variant in table.variants}
    by_variant = {variant: sums for variant, sums in found.items() if sums.n}
    total = total_sums(by_variant.values())
    if not total.n:
        return Pool(0.0, 0.0)
    freedom = total.units - len(by_variant)
    within = sum(sums.squared_deviations() for sums in by_variant.values())
    return Pool(total.mean_x, within / freedom if freedom > 0 else 0.0)
