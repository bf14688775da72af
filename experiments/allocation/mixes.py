"""The mix of all units' contexts: what figures of a contextual policy are averaged over.

Where units are counted by context (categories only, at most 256 contexts) it is exact: every unit of the
cells counts, whichever variant it got. Else cells know first and second moments of the columns only, so
the mix is a sample of units' contexts, each counting the same: an average over it of figures with spread s
errs by s / sqrt(size).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.allocation.contextual import Row
from experiments.allocation.features import Columns, Encoded
from experiments.statistics import Cell

SAMPLED = 256
"""Units whose contexts stand for all where contexts are endless."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Contexts as columns (`features.Columns.row`), and each one's part of all units, which sum to 1."""

    rows: tuple[Row, ...] = ()
    parts: tuple[float, ...] = ()


def mix_of(columns: Columns, cells: Sequence[Cell], sample: Sequence[Encoded]) -> Mix:
    """The contexts units have; none while nothing is known of any unit's.

    `sample` holds encoded contexts of units; it is not looked at where all units are counted.

    >>> from experiments.model import Feature, FeatureKind
    >>> spent = Columns((Feature("spent", FeatureKind.NUMBER),))
    >>> mix_of(spent, [], [(65536,), (0,), (65536,), (65536,)])
    Mix(rows=((65536, 65536), (65536, 0)), parts=(0.75, 0.25))
    """
    counts: Counter[Encoded] = Counter()
    if columns.is_grouped:
        for name, encoded in columns.all_contexts():
            counts[encoded] = sum(cell.moments.sum(name) for cell in cells)
    else:
        counts.update(tuple(encoded) for encoded in sample)
    known = {encoded: units for encoded, units in counts.items() if units}
    total = sum(known.values())
    rows = tuple(columns.row(encoded) for encoded in known)
    return Mix(rows, tuple(units / total for units in known.values()))
