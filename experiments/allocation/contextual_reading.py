"""What published draws say, feature by feature: where a variant does well, by how much, and its share there.

A coefficient alone says little: of a category all of whose values are listed, "none of them" is a context
nobody has, and every other value is told against it. So each value is read in a context that people do have:
the feature at that value, every other column at its mean over all units,

    x = (1, average of the other features, the feature's own columns),
    theta_rk = common + sign * draw_rk x,  its inverse logit for a logistic model,

which for a linear model is the mean over units if the feature took that value and the others did not follow.
A number is read at its average and one `scale` above. Errors: those of the published draws, sd / sqrt(draws)
for a mean and about 1.6 times as much for the end of an interval of 95 %; features that go together (a
device that comes with large carts) are taken apart by the model, not by the data of that value alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from scipy import special

from experiments.allocation.caps import WHOLE
from experiments.allocation.contextual import ContextualDraws, Level
from experiments.allocation.features import FEATURE_POINT, FEATURE_REACH
from experiments.model import Feature, FeatureKind
from experiments.posteriors.protocol import FloatArray

CI_PROB = 0.95
_RARE = 1e-3  # a value of fewer units is none to read about
_DIGITS = 2  # that a number is told to, of its scale: a hundredth


@dataclass(frozen=True, slots=True)
class Span:
    """A mean with its credible interval of `CI_PROB`, equal tails."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, slots=True)
class VariantThere:
    """A variant where a feature has a value: its metric, the difference to the control (None for itself)."""

    metric: Span
    lift_abs: Span | None
    prob_best: float
    share: float


@dataclass(frozen=True, slots=True)
class Place:
    """A feature at a value; None is any but those listed. `part` of the units have it (numbers: None)."""

    feature: str
    value: str | int | float | bool | None
    part: float | None
    variants: Mapping[str, VariantThere]


def places(
    drawn: ContextualDraws,
    features: Sequence[Feature],
    candidates: Sequence[str],
    capped: Mapping[str, float],
) -> list[Place]:
    """Every value of every feature, in the document's order, for these candidates; none of draws of old.

    >>> drawn = ContextualDraws("linear", ("none", "a"), ("1", "device=phone"), "none", 0.0, 0.0, 0,
    ...     np.array([[[1, 1], [2, 2]], [[0, 0], [4, 2]]], "<f4").tobytes(),
    ...     level=Level(1, (10.0, 0.0), (1.0, 0.5)))
    >>> device = Feature("device", FeatureKind.CATEGORY, values=("phone",))
    >>> phone, other = places(drawn, [device], ("none", "a"), {})
    >>> phone.value, phone.part, phone.variants["a"].metric.value, phone.variants["a"].lift_abs.value
    ('phone', 0.5, 15.0, 4.0)
    >>> other.value, other.variants["a"].lift_abs.value, other.variants["a"].share
    (None, 1.0, 1.0)
    """
    level = drawn.level
    if level is None:
        return []
    found: list[Place] = []
    first = 1
    for feature in features:
        for value, part, own in _values(feature, level.average, first):
            row = np.array(level.average)
            row[first : first + len(own)] = own
            found.append(Place(feature.name, value, part, _there(drawn, level, candidates, capped, row)))
        first += max(1, len(feature.values))
    return found


_Value = tuple[str | int | float | bool | None, float | None, list[float]]


def _values(feature: Feature, average: Sequence[float], first: int) -> Iterator[_Value]:
    """The values to read a feature at: the value, its part of the units, its columns there."""
    if feature.kind is FeatureKind.NUMBER:
        digits = _DIGITS - floor(log10(feature.scale))
        for at in (average[first], min(average[first] + 1.0, float(FEATURE_REACH))):
            yield round(feature.center + feature.scale * at, digits), None, [at]
        return
    parts = list(average[first : first + len(feature.values)])
    for place, (value, part) in enumerate(zip(feature.values, parts, strict=True)):
        if part >= _RARE:
            yield value, part, [float(place == other) for other in range(len(parts))]
    if (rest := 1.0 - sum(parts)) >= _RARE:
        yield None, rest, [0.0] * len(parts)


def _there(
    drawn: ContextualDraws,
    level: Level,
    candidates: Sequence[str],
    capped: Mapping[str, float],
    row: FloatArray,
) -> dict[str, VariantThere]:
    """Every candidate in one context, that has been drawn."""
    values = level.sign * (drawn.coefficients() @ row) + np.array(level.common) @ row  # (draws, arms)
    if drawn.model == "logistic":
        values = special.expit(values)
    columns = [round(FEATURE_POINT * value) for value in row.tolist()]
    shares, won = drawn.shares_for(candidates, columns, capped), drawn.wins(candidates, columns)
    control = values[:, drawn.keys.index(drawn.control)]
    found: dict[str, VariantThere] = {}
    for key in candidates:
        if key in drawn.keys:
            own = values[:, drawn.keys.index(key)]
            lift = None if key == drawn.control else _span(own - control)
            found[key] = VariantThere(_span(own), lift, won[key] / drawn.count, shares[key] / WHOLE)
    return found


def _span(values: FloatArray) -> Span:
    low, high = np.quantile(values, [(1.0 - CI_PROB) / 2.0, (1.0 + CI_PROB) / 2.0])
    return Span(float(values.mean()), float(low), float(high))
