"""From the context of a request to the integers a contextual policy learns from and decides with.

Each declared feature is encoded as one integer at enrolment and never again: a category as the place of
its value (0 for any other, or none), a number as round(2^16 (value - center) / scale), cut at 8 scales. So
a decision, the sums in the ledger and a replay see the very same numbers, and refunds restate exactly.

Two ways into the unit vector (`vector_of`). Where few contexts are possible (`is_grouped`), the unit counts
in its context: cross-products then hold, for each context, its units and every sum over them. Else each
column stands in the vector, and cross-products hold sum x x' and sum x y. Columns take 2^16, not the 2^32
of other fractions, so that products of a slice of units fit 64 bits: a thousandth of a percent of a scale
is far below what any coefficient can be told to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10, prod

from experiments.eligibility import RequestContext, is_same, value_of
from experiments.model import Feature, FeatureKind

FEATURE_POINT = 1 << 16
"""Scale of a number's column: 1 stands for one `scale` of the document."""
FEATURE_REACH = 8
"""Numbers further than so many scales from their center are cut there."""
GROUPED_MAX = 256
"""Up to so many possible contexts units are counted by context."""

Encoded = tuple[int, ...]
"""One integer for each declared feature."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The design of declared features: an intercept, then one column a number and one a category's value.

    >>> device = Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop"))
    >>> spent = Feature("spent", FeatureKind.NUMBER, scale=1000.0)
    >>> columns = Columns((device, spent))
    >>> encoded = columns.encoded(RequestContext(fields={"device": "desktop", "spent": 1500}), "")
    >>> encoded, columns.row(encoded)
    ((2, 98304), (65536, 0, 65536, 98304))
    """

    features: tuple[Feature, ...]

    @property
    def width(self) -> int:
        """Number of columns, the intercept among them."""
        return 1 + sum(_width(feature) for feature in self.features)

    @property
    def names(self) -> tuple[str, ...]:
        """What each column says, for people."""
        found = ["1"]
        for feature in self.features:
            found += [f"{feature.name}={value}" for value in feature.values] or [feature.name]
        return tuple(found)

    @property
    def contexts(self) -> int | None:
        """How many contexts are possible; None where a number makes them endless."""
        if any(feature.kind is FeatureKind.NUMBER for feature in self.features):
            return None
        return prod(1 + len(feature.values) for feature in self.features)

    @property
    def nothing(self) -> Encoded:
        """The context without any value."""
        return (0,) * len(self.features)

    @property
    def is_grouped(self) -> bool:
        """Whether units are counted by context."""
        return bool(self.features) and self.contexts is not None and self.contexts <= GROUPED_MAX

    def encoded(self, context: RequestContext, segment: str | None) -> Encoded:
        """A request's context as integers."""
        return tuple(_encoded(feature, context, segment) for feature in self.features)

    def row(self, encoded: Sequence[int]) -> tuple[int, ...]:
        """The columns of an encoded context, times 2^16."""
        found = [FEATURE_POINT]
        for feature, code in zip(self.features, encoded, strict=True):
            if feature.kind is FeatureKind.NUMBER:
                found.append(code)
            else:
                found += [FEATURE_POINT * (code == place) for place in range(1, 1 + len(feature.values))]
        return tuple(found)

    def vector_of(self, encoded: Sequence[int]) -> dict[str, int]:
        """What an encoded context adds to a unit's vector."""
        if self.is_grouped:
            return {_context_name(self._number(encoded)): 1}
        row = self.row(encoded)
        return {column_name(place): row[place] for place in range(1, len(row)) if row[place]}

    def all_contexts(self) -> Iterator[tuple[str, Encoded]]:
        """Every possible context where units are counted by context: its name in the vector, encoded."""
        for number in range(self.contexts or 0):
            encoded: list[int] = []
            rest = number
            for feature in reversed(self.features):
                rest, code = divmod(rest, 1 + len(feature.values))
                encoded.append(code)
            yield _context_name(number), tuple(reversed(encoded))

    def told(self, encoded: Sequence[int]) -> Mapping[str, str | int | float | bool | None]:
        """An encoded context as people read it: a number in its own unit, None for any other value."""
        found: dict[str, str | int | float | bool | None] = {}
        for feature, code in zip(self.features, encoded, strict=True):
            if feature.kind is FeatureKind.NUMBER:
                digits = -floor(log10(feature.scale / FEATURE_POINT)) - 1  # those that rounding left
                found[feature.name] = round(feature.center + feature.scale * code / FEATURE_POINT, digits)
            else:
                found[feature.name] = feature.values[code - 1] if code else None
        return found

    def _number(self, encoded: Sequence[int]) -> int:
        number = 0
        for feature, code in zip(self.features, encoded, strict=True):
            number = number * (1 + len(feature.values)) + code
        return number


def column_name(place: int) -> str:
    """The name of a column in the unit vector; no metric's feature has a bracket."""
    return f"context[{place}]"


def _context_name(number: int) -> str:
    return f"context={number}"


def _width(feature: Feature) -> int:
    return 1 if feature.kind is FeatureKind.NUMBER else len(feature.values)


def _encoded(feature: Feature, context: RequestContext, segment: str | None) -> int:
    found = value_of(feature.name, context, segment)
    if feature.kind is FeatureKind.CATEGORY:
        return next((place for place, value in enumerate(feature.values, 1) if is_same(found, value)), 0)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0
    scaled = (found - feature.center) / feature.scale if isfinite(found) else 0.0
    return round(FEATURE_POINT * min(max(scaled, -FEATURE_REACH), FEATURE_REACH))
