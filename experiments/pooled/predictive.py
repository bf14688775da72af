"""Whether data like ours could come from a stage: from its prior before sampling, from its posterior after.

A check compares a figure of the data with the same figure of data drawn from the model. It fails only where
chance (a two-sided probability below `P_MIN`) *and* size (a difference beyond `tolerance`, relative) speak
against the model: with a million units every law is refuted, and most by less than anybody would pay for.

Order values are drawn for at most `UNITS_MAX` buyers of a variant; with more, the drawn figure's distance
from its mean is shrunk by the root of the ratio, as its standard error is.
Source: Gelman et al., Bayesian Data Analysis (2013), 6.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.histogram import bin_of, quantile_edge
from experiments.pooled.data import IntArray, Sizes
from experiments.pooled.stages import Kind, Parameters, Stage, mean_of, prior_draws
from experiments.posteriors.protocol import FloatArray

P_MIN = 0.001
PRIOR_DRAWS = 4000
POSTERIOR_DRAWS = 1000
UNITS_MAX = 1000
TOLERANCE: Mapping[str, float] = {"mean": 0.03, "sd": 0.25, "share of the largest": 0.25, "fit of cells": 1.0}
"""Half of the width of a usual interval is far more; the sd decides the intervals, not the figures."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of the data beside what the model gives: its middle, and how often it gives less or more."""

    name: str
    observed: float
    expected: float
    p: float  # two-sided
    is_ok: bool


def prior_check(stage: Stage, rng: np.random.Generator) -> Check:
    """The pooled rate or mean log size against the prior's; failing, the prior is about another shop."""
    drawn = prior_draws(stage, PRIOR_DRAWS, rng)
    weights = stage.n / stage.n.sum()
    if stage.kind is Kind.BINOMIAL:
        counts = rng.binomial(stage.n.astype(np.int64), mean_of(stage, drawn)).sum(axis=1)
        observed, predicted = stage.s1.sum() / stage.n.sum(), counts / stage.n.sum()
    else:
        eta = drawn.eta
        if stage.kind is Kind.GAMMA:  # E log of a gamma of mean m and shape k is about log m - 1 / (2 k)
            eta = eta - 0.5 / drawn.width[:, stage.layout.variant]
        observed, predicted = stage.s1.sum() / stage.n.sum(), eta @ weights
    return _check(f"prior of {stage.name}", float(observed), predicted, None)


def rate_check(stage: Stage, found: Parameters, rng: np.random.Generator) -> Check:
    """Pearson's chi-square of the cells' counts, over the number of cells: too much, and rates vary more."""
    found = found.thinned(POSTERIOR_DRAWS)
    rate = mean_of(stage, found)
    variance = np.maximum(stage.n * rate * (1.0 - rate), 1e-300)
    drawn = rng.binomial(stage.n.astype(np.int64), rate).astype(np.float64)

    def misfit(counts: FloatArray) -> FloatArray:
        return ((counts - stage.n * rate) ** 2 / variance).sum(axis=1)

    ours, theirs = misfit(stage.s1), misfit(drawn)
    p = 2.0 * min(0.5, float(((theirs > ours) + 0.5 * (theirs == ours)).mean()))
    cells = float((stage.n > 0).sum())
    excess = float(ours.mean()) / cells
    is_ok = p >= P_MIN or excess <= 1.0 + TOLERANCE["fit of cells"]
    return Check(f"fit of cells, {stage.name}", excess, float(theirs.mean()) / cells, p, is_ok)


def size_checks(
    stage: Stage, sizes: Sizes, unit: float, found: Parameters, rng: np.random.Generator
) -> list[Check]:
    """Mean, sd and the share of the largest order values of each variant, against the posterior's."""
    layout = stage.layout
    found = found.thinned(POSTERIOR_DRAWS)
    large = quantile_edge(_total(sizes.bins), 0.9)
    checks: list[Check] = []
    for number, variant in enumerate(layout.variants):
        cells = np.flatnonzero((layout.variant == number) & (sizes.n > 0))
        n = sizes.n[cells].sum()
        if n < 2:
            continue
        x, xx = sizes.x[cells].sum(), sizes.xx[cells].sum()
        above = sum(units for cell in cells for b, units in sizes.bins[cell].items() if b > bin_of(large))
        observed = (x / n, math.sqrt(max(0.0, xx / n - (x / n) ** 2)), above / n)
        drawn = _drawn(stage, found, cells, sizes.n[cells] / n, int(min(n, UNITS_MAX)), rng) * unit
        shrink = math.sqrt(min(1.0, UNITS_MAX / n))
        exact = mean_of(stage, found)[:, cells] @ (sizes.n[cells] / n) * unit
        figures = (
            exact + (drawn.mean(axis=1) - exact) * shrink,
            drawn.std(axis=1),
            (drawn > large).mean(axis=1),
        )
        for name, ours, theirs in zip(list(TOLERANCE)[:3], observed, figures, strict=True):
            if name != "mean":
                theirs = theirs.mean() + (theirs - theirs.mean()) * shrink
            checks.append(_check(f"{name}, {variant}", float(ours), theirs, TOLERANCE[name]))
    return checks


def misfit(checks: Sequence[Check]) -> float:
    """How far off a law is: the sum over its checks of -log p, for choosing between two."""
    return -math.fsum(math.log(max(check.p, 1e-4)) for check in checks)


def _check(name: str, observed: float, predicted: FloatArray, tolerance: float | None) -> Check:
    """Two-sided; with a tolerance, a difference within it passes whatever its probability."""
    p = 2.0 * min(float((predicted >= observed).mean()), float((predicted <= observed).mean()))
    expected = float(np.median(predicted))
    is_near = tolerance is not None and abs(observed - expected) <= tolerance * abs(expected)
    return Check(name, observed, expected, min(1.0, p), p >= P_MIN or is_near)


def _drawn(
    stage: Stage, found: Parameters, cells: IntArray, parts: FloatArray, count: int, rng: np.random.Generator
) -> FloatArray:
    """Sizes of `count` buyers of the cells in their proportions, for each draw, shape (draws, count)."""
    chosen = rng.choice(cells, size=(len(found.eta), count), p=parts)
    eta = np.take_along_axis(found.eta, chosen, axis=1)
    width = found.width[:, stage.layout.variant[cells[0]], None]
    if stage.kind is Kind.GAMMA:
        return rng.standard_gamma(np.broadcast_to(width, eta.shape)) * np.exp(eta) / width
    return np.exp(eta + width * rng.standard_normal(eta.shape))


def _total(bins: Sequence[Mapping[int, int]]) -> Mapping[int, int]:
    total: dict[int, int] = {}
    for part in bins:
        for number, units in part.items():
            total[number] = total.get(number, 0) + units
    return total
