"""Off-policy estimators once more, in plain loops over rows and actions; nothing of the package is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Any


def by_loops(
    actions: Sequence[int],
    propensities: Sequence[float],
    rewards: Sequence[float],
    shares: Sequence[Sequence[float]],
    predictions: Sequence[Sequence[float]] | None,
    *,
    clip: float = math.inf,
    switch: float = math.inf,
    shrink: float = math.inf,
) -> dict[str, float]:
    """The value by each estimator, straight from its definition."""
    n = len(actions)
    sums: dict[str, float] = dict.fromkeys(
        ("ips", "clipped_ips", "snips", "dm", "dr", "sndr", "switch_dr", "dros"), 0.0
    )
    weight_sum = direct = corrected = 0.0
    for i in range(n):
        w = shares[i][actions[i]] / propensities[i]
        weight_sum += w
        sums["ips"] += w * rewards[i] / n
        sums["clipped_ips"] += (w if w < clip else clip) * rewards[i] / n
        sums["snips"] += w * rewards[i]
        if predictions is None:
            continue
        v = sum(map(mul, shares[i], predictions[i]))
        left = rewards[i] - predictions[i][actions[i]]
        direct += v
        corrected += w * left
        sums["dr"] += (v + w * left) / n
        sums["switch_dr"] += (v + (w * left if w <= switch else 0.0)) / n
        softened = w if math.isinf(shrink) else (shrink * w / (w**2 + shrink) if shrink else 0.0)
        sums["dros"] += (v + softened * left) / n
    sums["snips"] /= weight_sum
    if predictions is None:
        return {name: sums[name] for name in ("ips", "clipped_ips", "snips")}
    sums["dm"] = direct / n
    sums["sndr"] = direct / n + corrected / weight_sum
    return sums


def jackknife_error(value_without: Sequence[float]) -> float:
    """Standard error from the values with each unit left out: an outside check of influence functions."""
    groups = len(value_without)
    mean = sum(value_without) / groups
    return math.sqrt((groups - 1) / groups * sum((v - mean) ** 2 for v in value_without))


def ess_of(weights: Sequence[Any]) -> float:
    """(sum w)^2 / sum w^2."""
    return sum(weights) ** 2 / sum(w * w for w in weights)
