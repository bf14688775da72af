"""From cells to shares: burn-in, Thompson, held, promoted, capped; per candidate set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import Proposal, propose
from experiments.allocation.published import Cause, PolicyVersion
from experiments.model import PolicyKind, PolicySettings
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

ALL = ("none", "socks", "cap")
NOW = datetime(2026, 4, 1, tzinfo=UTC)
OPEN = datetime(2026, 3, 5, tzinfo=UTC)
WHOLE = 1 << 32
THOMPSON = PolicySettings(
    kind=PolicyKind.THOMPSON, objective="conversion_rate", control_share=0.1, floor=0.02, burn_in=100
)


def cells(n: int = 1000, **rates: float) -> list[Cell]:
    """One cell per variant: n units, the first n x rate converted."""
    made: list[Cell] = []
    for key, rate in {"none": 0.10, "socks": 0.10, "cap": 0.10, **rates}.items():
        bought = (np.arange(n) < round(n * rate)).astype(np.int64)
        orders = {"converted": bought, "orders": bought, "revenue": bought * 1000, "margin": bought * 400}
        made.append(cell_of(key, n=n, candidates=ALL, epoch=1, **orders))
    return made


def proposed(
    given: list[Cell], *, policy: PolicySettings = THOMPSON, now: datetime = NOW, **more: Any
) -> Proposal:
    arguments: dict[str, Any] = {
        "active": frozenset(ALL),
        "seen": [ALL],
        "guarded": Guarded(),
        "promoted": None,
        "last": None,
        **more,
    }
    active, seen = arguments.pop("active"), arguments.pop("seen")
    experiment = experiment_of("socks", "cap", settings=policy)
    return propose(experiment, given, active, seen, time_zone="UTC", now=now, **arguments)


def shares(found: Proposal, keys: tuple[str, ...] = ALL) -> dict[str, float]:
    return {key: share / WHOLE for key, share in found.sets[keys].shares.items()}


def test_burn_in_is_equal_but_for_the_control_until_everyone_has_enough() -> None:
    found = proposed(cells(99, cap=0.9))
    assert found.burn_in
    assert shares(found) == pytest.approx({"none": 0.1, "socks": 0.45, "cap": 0.45})
    assert not proposed(cells(100, cap=0.9)).burn_in


def test_shares_are_the_probabilities_of_being_best_between_floor_and_control() -> None:
    """With P(best) = 1 for cap: 0.02 + (1 - 0.1 - 2 x 0.02) = 0.88, socks its floor, control its 0.1."""
    found = proposed(cells(5000, cap=0.3))
    assert shares(found) == pytest.approx({"none": 0.1, "socks": 0.02, "cap": 0.88}, abs=1e-6)
    best = found.sets[ALL].prob_best
    assert best is not None
    assert best["cap"] == pytest.approx(1)
    even = shares(proposed(cells(1000)))  # w = 1/3 each: 0.02 + 0.86 / 3, control 0.08 more
    assert even == pytest.approx(
        {"none": 0.1 + 0.86 / 3, "socks": 0.02 + 0.86 / 3, "cap": 0.02 + 0.86 / 3}, abs=1e-3
    )


def test_a_throttled_variant_is_capped_and_the_excess_is_the_controls() -> None:
    guarded = Guarded(capped={"cap": 0.02})
    found = shares(proposed(cells(5000, cap=0.3), guarded=guarded))
    assert found == pytest.approx({"none": 0.96, "socks": 0.02, "cap": 0.02}, abs=1e-6)


def test_open_cohorts_do_not_move_an_adaptive_policy() -> None:
    """Nothing has matured: posteriors cannot be had, shares are held as they last were."""
    found = proposed(cells(5000, cap=0.3), now=OPEN)
    assert shares(found) == pytest.approx({"none": 0.1, "socks": 0.45, "cap": 0.45})
    assert found.held is not None
    assert found.held["reason"] == "insufficient_data"


def test_unknown_costs_hold_the_last_shares() -> None:
    margin = replace(THOMPSON, objective="margin_per_unit")
    known = cells(2000, cap=0.3)
    first = proposed(known, policy=margin)
    last = PolicyVersion(1, 1, 0, Cause.STARTED, "none", first.sets)
    spoilt = cells(2000, socks=0.9)
    spoilt[1].moments.sums["unknown_cost_orders"] = 1
    held = proposed(spoilt, policy=margin, last=last)
    assert held.held is not None
    assert held.held["reason"] == "cost_unknown"
    assert held.sets[ALL].shares == first.sets[ALL].shares
    assert (
        proposed(cells(2000, socks=0.9), policy=margin, last=last).sets[ALL].shares != first.sets[ALL].shares
    )


def test_every_seen_set_has_its_shares_as_far_as_it_is_active() -> None:
    seen = [ALL, ("none", "socks"), ("none", "cap")]
    fixed = PolicySettings(kind=PolicyKind.FIXED, shares={"none": 0.5, "socks": 0.3, "cap": 0.2})
    found = proposed([], policy=fixed, seen=seen)
    assert set(found.sets) == set(seen)
    assert shares(found) == pytest.approx({"none": 0.5, "socks": 0.3, "cap": 0.2})
    for keys in seen:
        assert sum(found.sets[keys].shares.values()) == WHOLE
    without = proposed([], policy=fixed, seen=seen, active=frozenset(("none", "socks")))
    assert set(without.sets) == {("none", "socks")}
    alone = proposed([], policy=fixed, seen=seen, active=frozenset(("none",)))
    assert alone.sets[("none",)].shares == {"none": WHOLE}


def test_the_promoted_variant_has_all_but_the_controls_share() -> None:
    found = proposed(cells(5000, cap=0.3), promoted="socks", seen=[ALL, ("none", "cap")])
    assert shares(found) == pytest.approx({"none": 0.1, "socks": 0.9, "cap": 0})
    assert shares(found, ("none", "cap")) == {"none": 1, "cap": 0}
    throttled = proposed(cells(), promoted="socks", guarded=Guarded(capped={"socks": 0.02}))
    assert shares(throttled)["socks"] == pytest.approx(0.02)
