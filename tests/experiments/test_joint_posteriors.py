"""The correlation of two estimates from sums in cells, against the units themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from experiments.allocation.joint import Joint
from experiments.allocation.joint_posteriors import joint_of
from experiments.analysis.maturity import discount
from experiments.analysis.objective import allocation_posteriors
from experiments.model import Experiment, Guardrail, PolicyKind, PolicySettings
from experiments.posteriors.beta import Beta
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

KEYS = ("none", "socks")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
THOMPSON = PolicySettings(kind=PolicyKind.THOMPSON, objective="margin_per_unit")
RAILS = (Guardrail("conversion_rate", 0.01, 0.02, 0.04), Guardrail("refund_rate", 0.1, 0.2, 0.4))


def shoppers(n: int, seed: int) -> dict[str, Any]:
    """Conversion, orders, margin and refunds of n units; half of the refunded lose money."""
    rng = np.random.default_rng(seed)
    orders = rng.binomial(2, 0.3, n)
    refunded = rng.binomial(orders, 0.2)
    margin = orders * rng.integers(1000, 9000, n) - refunded * 6000
    return {"converted": (orders > 0) * 1, "orders": orders, "refunded_orders": refunded, "margin": margin}


def joint(experiment: Experiment, cells: list[Cell], keys: tuple[str, ...] = KEYS) -> Joint | None:
    found = allocation_posteriors(experiment, cells, keys, time_zone="UTC", now=NOW)
    return joint_of(experiment, cells, keys, found, seed=1, time_zone="UTC", now=NOW)


def read(experiment: Experiment, cells: list[Cell], keys: tuple[str, ...] = KEYS) -> Joint:
    found = joint(experiment, cells, keys)
    assert found is not None
    return found


def influences(units: dict[str, Any]) -> np.ndarray:
    """Of margin, conversion and refund rate, one row each: x - mean x, and x - R y."""
    ratio = units["refunded_orders"].sum() / units["orders"].sum()
    return np.array(
        [
            units["margin"] - units["margin"].mean(),
            units["converted"] - units["converted"].mean(),
            units["refunded_orders"] - ratio * units["orders"],
        ]
    )


def test_in_one_set_it_is_the_correlation_between_units():
    units = {key: shoppers(400, seed) for seed, key in enumerate(KEYS)}
    cells = [cell_of(key, n=400, candidates=KEYS, **units[key]) for key in KEYS]
    found = read(experiment_of("socks", settings=THOMPSON, guardrails=RAILS), cells)
    assert [limit.metric for limit in found.limits] == ["conversion_rate", "refund_rate"]
    assert [(limit.margin, limit.is_up_bad, limit.absolute) for limit in found.limits] == [
        (0.02, False, False),
        (0.2, True, False),
    ]
    for key, arm in zip(KEYS, found.arms, strict=True):
        assert np.array(arm.correlation) == pytest.approx(np.corrcoef(influences(units[key])), abs=1e-12)
        assert isinstance(arm.guards[0], Beta)
    assert abs(found.arms[1].correlation[0][2]) > 0.2  # or the test had no power


def test_a_goal_of_which_less_is_better_turns_its_correlations_round():
    units = shoppers(400, 1)
    cells = [cell_of(key, n=400, candidates=KEYS, **units) for key in KEYS]
    settings = replace(THOMPSON, objective="refund_rate")
    found = read(experiment_of("socks", settings=settings, guardrails=RAILS[:1]), cells)
    truth = np.corrcoef(influences(units))[2, 1]
    assert found.arms[1].correlation[0][1] == pytest.approx(-truth, abs=1e-12)


def test_sets_days_and_discounts_weigh_as_in_the_estimates():
    """Two sets of unequal size, two days, a half-life: against the sum over units, one by one."""
    half_life = timedelta(days=40)
    settings = replace(THOMPSON, discount_half_life=half_life)
    experiment = experiment_of("socks", "cap", settings=settings, guardrails=RAILS[:1])
    wide, cells, drawn = (*KEYS, "cap"), [], []
    for number, (size, members, day) in enumerate(
        [(300, KEYS, date(2026, 3, 2)), (200, KEYS, date(2026, 3, 9)), (150, wide, date(2026, 3, 2))]
    ):
        which = len(members)
        for place, key in enumerate(members):
            units = shoppers(size + 40 * place, 10 * number + place)
            n = len(units["orders"])
            cells.append(cell_of(key, n=n, candidates=members, candidate_set=which, day=day, **units))
            drawn.append((key, which, discount(day, half_life, "UTC", NOW), units))
    found = read(experiment, cells)
    total = sum(len(units["orders"]) for *_, units in drawn)
    share = {w: sum(len(u["orders"]) for _, s, _, u in drawn if s == w) / total for w in (2, 3)}
    for place, key in enumerate(KEYS):
        gram: Any = np.zeros((2, 2))
        for which in (2, 3):
            mine = [(w, units) for k, s, w, units in drawn if (k, s) == (key, which)]
            weight = np.concatenate([np.full(len(units["orders"]), w) for w, units in mine])
            rows = np.array([np.concatenate([u[f] for _, u in mine]) for f in ("margin", "converted")])
            centred = rows - (rows @ weight / weight.sum())[:, None]
            scaled = share[which] * weight * centred / weight.sum()
            gram += scaled @ scaled.T
        truth = gram[0, 1] / np.sqrt(gram[0, 0] * gram[1, 1])
        assert found.arms[place].correlation[0][1] == pytest.approx(truth, abs=1e-12)


def test_units_whose_longer_window_is_open_count_for_the_other_metric_alone():
    """LTV over 30 days knows the older half only: the correlation shrinks by sqrt(n_common / n)."""
    units = shoppers(300, 4)
    new = date(2026, 5, 20)
    cells = [
        cell_of(key, n=300, candidates=KEYS, day=day, ltv_30d=units["margin"], **units)
        for key in KEYS
        for day in (date(2026, 3, 2), new)
    ]
    settings = replace(THOMPSON, objective="ltv_30d")
    found = read(experiment_of("socks", settings=settings, guardrails=RAILS[:1]), cells)
    whole = np.corrcoef(influences(units))[0, 1]
    assert found.arms[0].correlation[0][1] == pytest.approx(whole / 2**0.5, abs=1e-9)


def test_a_guardrail_is_read_of_those_that_have_it():
    """Ten units are enough; control must be among them; an offer's metric is nothing to a bare control."""
    experiment = experiment_of("socks", "cap", settings=THOMPSON, guardrails=RAILS)
    wide = (*KEYS, "cap")

    def cells(**sizes: int) -> list[Cell]:
        return [cell_of(key, n=n, candidates=wide, **shoppers(n, 3)) for key, n in sizes.items()]

    all_three = read(experiment, cells(none=400, socks=400, cap=60), wide)
    assert [guard is None for guard in all_three.arms[2].guards] == [False, False]
    few = read(experiment, cells(none=400, socks=400, cap=9), wide)
    assert [guard is None for guard in few.arms[2].guards] == [True, True]
    assert few.arms[1].guards[0] is not None
    assert joint(experiment, cells(none=9, socks=400, cap=400), wide) is None
    takes = replace(experiment, guardrails=(Guardrail("take_rate", 0.1, 0.2, 0.4),))
    assert joint(takes, cells(none=400, socks=400, cap=400), wide) is None


def test_a_metric_that_is_the_goal_goes_with_it_one_to_one_and_one_without_spread_with_nothing():
    units: dict[str, Any] = shoppers(400, 3)
    units["refunded_orders"] = np.zeros(400, dtype=int)
    cells = [cell_of(key, n=400, candidates=KEYS, **units) for key in KEYS]
    settings = replace(THOMPSON, objective="conversion_rate")
    found = read(experiment_of("socks", settings=settings, guardrails=RAILS), cells)
    assert np.array(found.arms[0].correlation) == pytest.approx(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))


def test_a_fixed_policy_reads_open_cohorts_too():
    units = shoppers(400, 3)
    cells = [cell_of(key, n=400, candidates=KEYS, day=date(2026, 5, 31), **units) for key in KEYS]
    fixed = experiment_of("socks", guardrails=RAILS)
    assert read(fixed, cells).arms[0].guards[0] is not None


def test_orders_alone_make_a_ratio_and_nobody_ordering_makes_none():
    """An arm without orders has no refund rate, and its influence nothing to divide by."""
    some = shoppers(400, 3)
    none: dict[str, Any] = dict.fromkeys(("converted", "orders"), np.zeros(400, dtype=int))
    none["margin"] = np.arange(400)
    cells = [
        cell_of("none", n=400, candidates=KEYS, **some),
        cell_of("socks", n=400, candidates=KEYS, **none),
    ]
    found = joint(experiment_of("socks", settings=THOMPSON, guardrails=RAILS), cells)
    assert found is not None
    assert [limit.metric for limit in found.limits] == ["conversion_rate"]


def test_a_variant_without_orders_has_no_refund_rate_beside_two_that_have():
    wide = (*KEYS, "cap")
    nothing = np.zeros(400, dtype=int)
    bare: dict[str, Any] = {"converted": nothing, "orders": nothing, "margin": np.arange(400)}
    cells = [cell_of(key, n=400, candidates=wide, **shoppers(400, 3)) for key in KEYS]
    cells.append(cell_of("cap", n=400, candidates=wide, **bare))
    experiment = experiment_of("socks", "cap", settings=THOMPSON, guardrails=RAILS)
    found = read(experiment, cells, wide)
    assert [limit.metric for limit in found.limits] == ["conversion_rate", "refund_rate"]
    assert [arm.guards[1] is None for arm in found.arms] == [False, False, True]
    assert found.arms[2].correlation[0][2] == 0.0
