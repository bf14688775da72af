"""Every kind of objective through the allocator: the best arm leads, up or down; ratios by bootstrap."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from unittest import mock

import numpy as np
import pytest

from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import propose
from experiments.analysis import objective as reading
from experiments.analysis.objective import allocation_posteriors
from experiments.model import (
    CustomMetric,
    Direction,
    Experiment,
    MetricKind,
    PolicyKind,
    PolicySettings,
)
from experiments.statistics import FIXED_POINT, Cell
from tests.experiments.cells import cell_of, experiment_of

KEYS = ("none", "socks", "mug")
LATER = datetime(2026, 12, 1, tzinfo=UTC)
METRICS = (
    CustomMetric("signups", MetricKind.PROPORTION, "signup"),
    CustomMetric("complaints", MetricKind.PROPORTION, "complaint", direction=Direction.DOWN),
    CustomMetric("minutes", MetricKind.MEAN, "help", direction=Direction.DOWN),
    CustomMetric("depth", MetricKind.RATIO, "page"),
)
LEVELS = {"none": 1.0, "socks": 1.3, "mug": 1.15}
"""How much of everything an arm has: socks is best where more is better, none where less is."""


@cache
def world(seed: int, n: int = 6000) -> list[Cell]:
    """Units that buy, return and write in, all in proportion to their arm's level."""
    rng = np.random.default_rng(seed)
    cells: list[Cell] = []
    for key, level in LEVELS.items():
        orders = rng.binomial(1, 0.2 * level, n) * rng.integers(1, 3, n)
        revenue = (orders * level * rng.integers(3000, 9000, n)).astype(int)
        returned = (orders > 0) * (rng.random(n) < 0.2 * level)
        back = (returned * revenue * 0.9).astype(int)
        events = rng.poisson(0.5, n)
        exposed = (rng.random(n) < 0.8).astype(int)
        columns: dict[str, np.ndarray] = {
            "exposed": exposed,
            "took": exposed * (rng.random(n) < 0.1 * level),
            "clicked": exposed * (rng.random(n) < 0.2 * level),
            "converted": orders > 0,
            "orders": orders,
            "revenue": revenue,
            "refunded_orders": returned,
            "refunded_value": back,
            "margin": (0.5 * revenue).astype(int) - back // 4,
            "signups:had": rng.random(n) < 0.1 * level,
            "complaints:had": rng.random(n) < 0.1 * level,
            "minutes:sum": (rng.exponential(level, n) * FIXED_POINT).astype(np.int64),
            "depth:count": events,
            "depth:sum": (events * level * rng.exponential(2, n) * FIXED_POINT).astype(np.int64),
        }
        cells.append(cell_of(key, n=n, candidates=KEYS, **columns))  # type: ignore[arg-type]
    return cells


def experiment(objective: str, kind: PolicyKind = PolicyKind.THOMPSON) -> Experiment:
    policy = PolicySettings(kind=kind, objective=objective, control_share=0.02, floor=0.02, burn_in=10)
    return experiment_of("socks", "mug", settings=policy, metrics=METRICS)


def shares(of: Experiment, cells: list[Cell]) -> Mapping[str, float]:
    proposal = propose(
        of,
        cells,
        frozenset(KEYS),
        [KEYS],
        guarded=Guarded(),
        promoted=None,
        last=None,
        time_zone="UTC",
        now=LATER,
    )
    return {key: share / 2**32 for key, share in proposal.sets[KEYS].shares.items()}


UP = ("conversion_rate", "take_rate", "click_through_rate", "margin_per_unit", "revenue_per_unit")
RATIOS = ("aov", "aov_net", "refund_rate", "refund_value_rate", "depth")
DOWN = ("refund_rate", "refund_value_rate", "complaints", "minutes")


@pytest.mark.parametrize("objective", [*UP, "aov", "depth", "signups", *DOWN])
def test_the_best_arm_leads_whichever_way_is_good(objective):
    """Top-two gives the leader about half and the rest to its challengers, also where less is better.

    A rival ranks columns 1 and 2 instead of 0 and 1 there, so that its best arm gets nothing.
    """
    cells = world(11)
    best = "none" if objective in DOWN else "socks"
    thompson = shares(experiment(objective), cells)
    top_two = shares(experiment(objective, PolicyKind.TOP_TWO), cells)
    assert max(thompson, key=lambda key: thompson[key]) == best
    assert thompson[best] > 0.8
    assert max(top_two, key=lambda key: top_two[key]) == best
    assert 0.42 < top_two[best] < 0.56
    assert min(top_two.values()) >= 0.02


@pytest.mark.parametrize("objective", DOWN)
def test_without_turning_lower_is_better_round_the_worst_would_lead(objective):
    cells = world(11)
    with mock.patch.object(reading, "oriented", lambda posterior, _: posterior):
        planted = shares(experiment(objective, PolicyKind.TOP_TWO), cells)
    assert max(planted, key=lambda key: planted[key]) == "socks"


def test_two_arms_that_are_better_low_share_as_their_odds_say():
    """With two arms top-two is a half each whatever the odds; a rival raises IndexError here."""
    cells = [cell for cell in world(12) if cell.key.variant != "mug"]
    for cell in cells:
        cell.candidates = frozenset({"none", "socks"})
    policy = PolicySettings(
        kind=PolicyKind.TOP_TWO, objective="complaints", control_share=0.02, floor=0.02, burn_in=10
    )
    two = experiment_of("socks", settings=policy, metrics=METRICS)
    proposal = propose(
        two,
        cells,
        frozenset({"none", "socks"}),
        [],
        guarded=Guarded(),
        promoted=None,
        last=None,
        time_zone="UTC",
        now=LATER,
    )
    (found,) = proposal.sets.values()
    assert found.shares["none"] / 2**32 == pytest.approx(0.5, abs=0.03)
    assert found.prob_best is not None
    assert found.prob_best["none"] > 0.99


@pytest.mark.parametrize("objective", RATIOS)
def test_ratios_agree_with_the_bayesian_bootstrap(objective):
    """Rubin (1981): Dirichlet(1, ..., 1) weights on units. 2,000 draws: sd within 8 % (5 of their errors)."""
    rng = np.random.default_rng(13)
    n = 3000
    orders = rng.binomial(1, 0.3, n) * rng.integers(1, 4, n)
    revenue = orders * rng.integers(2000, 9000, n)
    returned = np.minimum(orders, rng.binomial(2, 0.3, n))
    back = np.minimum(revenue, returned * 3000)
    values = (rng.exponential(2, n) * orders * FIXED_POINT).astype(np.int64)
    columns = {"orders": orders, "revenue": revenue, "refunded_orders": returned, "refunded_value": back}
    cells = [
        cell_of(key, n=n, candidates=KEYS, **columns, **{"depth:count": orders, "depth:sum": values})
        for key in KEYS
    ]
    found = allocation_posteriors(experiment(objective), cells, KEYS, time_zone="UTC", now=LATER)
    top, bottom = {
        "aov": (revenue, orders),
        "aov_net": (revenue - back, orders),
        "refund_rate": (returned, orders),
        "refund_value_rate": (back, revenue),
        "depth": (values / FIXED_POINT, orders),
    }[objective]
    weights = rng.standard_exponential((2000, n))
    draws = (weights @ top) / (weights @ bottom)
    posterior = found.posteriors["socks"]
    assert posterior.mean == pytest.approx(top.sum() / bottom.sum(), rel=1e-12)
    assert abs(posterior.mean - draws.mean()) < 0.1 * draws.std()
    assert posterior.variance**0.5 == pytest.approx(draws.std(), rel=0.08)
