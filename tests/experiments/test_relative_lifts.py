"""Which end of a relative lift is right where ours and gbstats' lie apart: asked of the bootstrap of units.

Ours is the exact distribution of the ratio of two posteriors (Fieller 1954), gbstats' a Normal by the delta
method, straight where a ratio bends. The Bayesian bootstrap (Rubin 1981) assumes neither: weights of the
units from the flat Dirichlet, of the many that bought nothing one Gamma together. Same units as the record of
`make agreement`, so the three are about one posterior.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.agreement import METRICS, SEED, WORLDS, drawn
from tests.experiments.test_against_gbstats import CASES, read

DRAWS = 20_000
CHUNK = 500
ERROR = np.sqrt(0.025 * 0.975 / DRAWS) / 0.0584 / (2 * 1.96)
"""Monte-Carlo error of an end, in widths: .0048; .0034 of the middle of both."""
APART = 0.02
"""Widths: where the ends of the two lie further apart the draws can tell which is right."""
PARTS = {
    "conversion_rate": ("converted", "units"),
    "orders_per_unit": ("orders", "units"),
    "revenue_per_unit": ("net", "units"),
    "margin_per_unit": ("margin", "units"),
    "aov": ("revenue", "orders"),
    "aov_net": ("net", "orders"),
    "refund_rate": ("refunded_orders", "orders"),
    "refund_value_rate": ("refunded_value", "revenue"),
}
FEATURES = ("units", "converted", "orders", "revenue", "refunded_orders", "refunded_value", "margin", "net")
PLACES = [(world, key) for world in WORLDS for key in METRICS]

FloatArray = NDArray[np.float64]


@cache
def weighted_sums(world: str) -> list[dict[str, FloatArray]]:
    """Draws of every sum over weighted units, for each arm."""
    units, arms = WORLDS[world]
    totals = drawn(arms, units, (SEED, list(WORLDS).index(world)))
    rng = np.random.default_rng(7)
    found: list[dict[str, FloatArray]] = []
    for one in totals:
        buyers = len(one["orders"])
        columns = one | {"units": np.ones(buyers), "net": one["revenue"] - one["refunded_value"]}
        matrix = np.column_stack([columns[name] for name in FEATURES]).astype(np.float32)
        weights = (rng.standard_exponential((CHUNK, buyers), dtype=np.float32) for _ in range(DRAWS // CHUNK))
        sums = np.vstack([weight @ matrix for weight in weights]).astype(np.float64)
        sums[:, 0] += rng.standard_gamma(units - buyers, DRAWS)
        found.append(dict(zip(FEATURES, sums.T, strict=True)))
    return found


def ends_off(world: str, key: str) -> list[Mapping[str, FloatArray]]:
    """How far both ends of our lift and of gbstats' lie from the bootstrap's, in widths, by treatment."""
    (case,) = [case for case in CASES if (case["world"], case["name"]) == (world, key)]
    top, bottom = PARTS[key]
    control, *treatments = [sums[top] / sums[bottom] for sums in weighted_sums(world)]
    _, reports, _ = read(case)
    found: list[Mapping[str, FloatArray]] = []
    for place, (treatment, lift) in enumerate(zip(treatments, case["lifts"], strict=True), start=1):
        told, theirs = reports[f"v{place}"].figures.lift_rel, lift["relative"]
        bootstrap = np.quantile(treatment / control - 1.0, [0.025, 0.975])
        width = bootstrap[1] - bootstrap[0]
        both = {
            "ours": [told.ci_low, told.ci_high],
            "gbstats": [theirs["ci_low"], theirs["ci_high"]],
        }
        found.append({name: (np.array(ends) - bootstrap) / width for name, ends in both.items()})
    return found


@pytest.mark.parametrize(("world", "key"), PLACES)
def test_our_ends_are_the_bootstraps(world: str, key: str) -> None:
    for off in ends_off(world, key):
        assert np.abs(off["ours"]).max() < 4.0 * ERROR


def test_where_the_two_part_ours_is_the_nearer() -> None:
    """Ratios of refunds alone are so far apart; the straight line is off by five errors of its middle."""
    parted: set[str] = set()
    for world, key in PLACES:
        for off in ends_off(world, key):
            if np.abs(off["ours"] - off["gbstats"]).max() > APART:
                parted.add(key)
                assert np.abs(off["gbstats"]).min() > 2.0 * np.abs(off["ours"]).max()
                assert abs(off["gbstats"].mean()) > 5.0 * ERROR / np.sqrt(2)
    assert parted == {"refund_rate", "refund_value_rate"}
