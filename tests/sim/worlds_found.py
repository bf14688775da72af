"""What a simulation finds of a world, in standard errors from its truth."""

from collections.abc import Mapping
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.fold import FoldRules
from experiments.model import CustomMetric, Experiment, MetricKind
from experiments.statistics import FIXED_POINT
from sim.runner.vectors import Known
from sim.worlds.customers import Customers
from sim.worlds.outcomes import outcomes
from sim.worlds.truth import VariantTruth
from sim.worlds.world import World

Floats = NDArray[np.float64]
AGES_US = 10**15
LEAST = 200
DEFINITIONS = metric_definitions(
    Experiment("k", "t", "EUR", (), metrics=(CustomMetric("nps", MetricKind.NPS, "rating"),))
)


def features_of(world: World, customers: Customers, arm: int, window: timedelta) -> dict[str, Floats]:
    """The matured features of all customers, all shown one variant."""
    happened = outcomes(world, customers, np.full(len(customers), arm))
    rules = FoldRules(Experiment("k", "t", "EUR", (), attribution_window=window), "UTC")
    ages = np.full(len(customers), AGES_US)
    known = Known(rules, happened, happened, customers.pre_margin_minor, customers.arrival_us, ages)
    features = {name: values.astype(float) for name, values in known.vectors().items()}
    rated, score = features["ratings"], happened.rating
    features["nps:count"] = rated
    features["nps:sum"] = rated * ((score >= 9).astype(float) - (score <= 6))
    features["rating_sum"] = features["rating_sum"] / FIXED_POINT
    return features


def deviations(
    features: dict[str, Floats],
    expected: VariantTruth,
    rows: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """|found - truth| of every metric and feature, in its own standard error (delta method for ratios).

    One without variance must be equal to its truth; what happened fewer than `LEAST` times is left out, since
    its mean is far from a normal law.
    """
    if rows is not None:
        features = {name: values[rows] for name, values in features.items()}
    found: dict[str, float] = {}
    for key, value in expected.metrics.items():
        over, under = (
            _sums(features, DEFINITIONS[key].numerator),
            _sums(features, DEFINITIONS[key].denominator),
        )
        if under.sum() >= 200:  # fewer ratings than that are far from a normal law
            found[key] = _off(over - value / _scale(DEFINITIONS[key]) * under)
    for name, value in expected.features.items():
        if np.count_nonzero(features[name]) >= 200:
            found[name] = _off(features[name] - value)
    return found


def _off(residuals: Floats) -> float:
    """How many standard errors the mean of residuals lies from 0."""
    error = float(residuals.std()) / len(residuals) ** 0.5
    mean = abs(float(residuals.mean()))
    return mean / error if error > 1e-9 else (0.0 if mean < 1e-9 else float("inf"))


def _sums(features: dict[str, Floats], terms: Mapping[str, int]) -> Floats:
    total = np.zeros(len(features["units"]))
    for name, factor in terms.items():
        total = total + factor * features.get(name, np.zeros(len(total)))
    return total


def _scale(definition: MetricDefinition) -> float:
    return definition.scale * FIXED_POINT if definition.key == "rating_mean" else definition.scale
