"""The closed loop's own parts, by hand: what must be found, and what must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from experiments.model import Experiment, PolicyKind
from sim.closed_loop.books import DAY_US, FIELDS, Books, Rules, micros
from sim.closed_loop.errors import Broken, NotDriven
from sim.closed_loop.published import WHOLE, check_version, version_of
from sim.closed_loop.ratio import LIMIT, SampleRatio
from sim.closed_loop.settings import DriveSettings
from sim.closed_loop.traffic import Traffic
from sim.closed_loop.wire import BATCH, BODY_LIMIT, batches
from sim.worlds.scenarios import scenario

START = datetime(2026, 3, 2, tzinfo=UTC)
RULES = Rules(3 * DAY_US, DAY_US, is_anchored_by_exposure=False)
HEALTHY = scenario("healthy").experiment  # control_share 0.15, floor 0.02


def at(hours: float) -> str:
    return (START + timedelta(hours=hours)).isoformat()


def books(*events: Mapping[str, Any], rules: Rules = RULES, hours: float = 2_000) -> dict[str, int]:
    """The counters of one unit, of variant `a` from `START` on, after these events in this order."""
    found = Books(rules, ["a"])
    found.assigned("u", "a", "d", micros(START))
    for number, event in enumerate(events):
        found.acknowledged({"event_id": f"{number}", "unit_id": "u", **event}, micros(START))
    found.settle(micros(START + timedelta(hours=hours)))
    return found.counts()["a"]


def order(hours: float, amount: int = 1_000, cost: int = 400, name: str = "o-u") -> dict[str, Any]:
    said = {"type": "order", "order_id": name, "amount": amount, "cost": cost, "cart_id": f"c{name[1:]}"}
    return {"occurred_at": at(hours), **said}


def refund(hours: float, amount: int, recovered: int) -> dict[str, Any]:
    money = {"amount": amount, "cost_recovered": recovered}
    return {"occurred_at": at(hours), "type": "refund", "order_id": "o-u", **money}


def test_an_order_and_what_comes_back_of_it() -> None:
    """1,000 sold for 400; 1,100 refunded in two parts counts as 1,000, and 450 recovered as 400."""
    events = [order(2), refund(500, 600, 200), refund(600, 500, 250)]
    assert books(*events) == books(*reversed(events))
    found = books(*events)
    assert (found["converted"], found["orders"], found["revenue"]) == (1, 1, 1_000)
    assert (found["refunded_orders"], found["refunded"], found["margin"]) == (1, 1_000, -0)
    assert (found["ltv_30d"], found["buyers"], found["repeats"]) == (0, 1, 0)


def test_what_lies_outside_the_window_counts_where_it_belongs() -> None:
    """An order 73 hours after the assignment is none of the window's; a second one within 90 days repeats."""
    found = books(order(73), order(80 * 24, name="o-u-again1"), order(-5, name="o-u-before"))
    assert (found["converted"], found["orders"], found["margin"]) == (0, 0, 0)
    assert (found["buyers"], found["repeats"]) == (1, 1)
    assert (found["ltv_30d"], found["ltv_90d"]) == (600, 1_200)


def test_answers_count_for_who_was_exposed() -> None:
    took = {"type": "accept", "occurred_at": at(1)}
    assert (books(took)["exposed"], books(took)["took"]) == (0, 0)
    late = {"type": "exposure", "occurred_at": at(2)}
    assert (books(took, late)["exposed"], books(took, late)["took"]) == (1, 1)
    by_exposure = replace(RULES, is_anchored_by_exposure=True)
    assert books(took, rules=by_exposure) == dict.fromkeys(FIELDS, 0) | {"assigned": 1}
    found = books(late, order(1), order(73.5, name="o-u-again1"), rules=by_exposure)
    assert (found["units"], found["orders"]) == (1, 1)  # the window is from the second hour on


@pytest.mark.parametrize(
    ("hours", "events", "abandoned"),
    [
        (23, [], 0),
        (25, [], 1),
        (25, [order(23.9)], 0),
        (99, [order(24.1)], 1),
        (25, [order(2, name="o-u-again1")], 1),
        (25, [{**order(2, name="o-u-again1"), "cart_id": None}], 0),
        (3, [{"type": "abandonment", "cart_id": "c-u", "occurred_at": at(2)}], 1),
    ],
)
def test_a_cart_is_given_up(hours: float, events: list[dict[str, Any]], abandoned: int) -> None:
    opened = {"type": "cart", "cart_id": "c-u", "occurred_at": at(0)}
    found = books(opened, *events, hours=hours)
    assert (found["carts"], found["abandoned"]) == (1, abandoned)


def policy(shares: Mapping[str, float], **changes: Any) -> dict[str, Any]:
    """A document of `/policy` with these shares."""
    plain = {"policy_version": 3, "sets": [{"candidates": list(shares), "shares": dict(shares)}]}
    about = {"policy": {"floor": 0.02}, "promoted": None, "guardrails": [], "ramps": []}
    return {**plain, **about, **changes}


def checked(document: dict[str, Any], experiment: Experiment = HEALTHY, killed: frozenset[str] = frozenset()):
    check_version(version_of(document, document), experiment, document, killed)


THROTTLED = [{"variant": "socks", "metric": "aov", "state": "throttle"}]


@pytest.mark.parametrize(
    ("document", "killed", "invariant"),
    [
        (policy({"none": 0.25, "socks": 0.5, "care-kit": 0.25}), (), None),
        (policy({"none": 0.25, "socks": 0.5, "care-kit": 0.5}), (), "shares"),
        (policy({"none": 0.3, "socks": 0.45, "care-kit": 0.25}), (), "shares"),  # not of 2^32
        (policy({"none": 0.125, "socks": 0.625, "care-kit": 0.25}), (), "control share"),
        (policy({"none": 0.5, "socks": 0.5 - 2**-7, "care-kit": 2**-7}), (), "floors"),
        (policy({"none": 0.5, "socks": 0.5, "care-kit": 0.0}), ("care-kit",), None),
        (policy({"none": 0.5, "socks": 0.25, "care-kit": 0.25}), ("care-kit",), "killed"),
        (policy({"none": 0.5, "socks": 0.25, "care-kit": 0.25}, guardrails=THROTTLED), (), "caps"),
        (policy({"none": 0.5, "socks": 0.5}, ramps=[{"variant": "socks", "cap": 0.5}]), (), None),
        (policy({"none": 0.5, "socks": 0.5}, ramps=[{"variant": "socks", "cap": 0.25}]), (), "caps"),
        (policy({"none": 0.25, "socks": 0.75, "care-kit": 0.0}, promoted="socks"), (), None),
        (policy({"none": 0.125, "socks": 0.875, "care-kit": 0.0}, promoted="socks"), (), "control share"),
    ],
)
def test_a_version_keeps_what_the_document_says(
    document: dict[str, Any], killed: tuple[str, ...], invariant: str | None
) -> None:
    if invariant is None:
        checked(document, killed=frozenset(killed))
        return
    with pytest.raises(Broken) as broken:
        checked(document, killed=frozenset(killed))
    assert broken.value.invariant == invariant


def test_fixed_shares_are_those_of_the_document() -> None:
    fixed = replace(
        HEALTHY.policy, kind=PolicyKind.FIXED, shares={"none": 0.5, "socks": 0.25, "care-kit": 0.25}
    )
    experiment = replace(HEALTHY, policy=fixed)
    checked(policy({"none": 0.5, "socks": 0.25, "care-kit": 0.25}), experiment)
    with pytest.raises(Broken, match="fixed shares"):
        checked(policy({"none": 0.5, "socks": 0.5, "care-kit": 0.0}), experiment)


def test_a_set_that_is_not_published_takes_the_nearest_shares() -> None:
    """Of 1/4, 1/2, 1/4 without the last: 1/3 and 2/3; a cap of a half leaves the rest to the control."""
    shares = {"none": 0.25, "socks": 0.5, "care-kit": 0.25}
    (found,) = version_of(policy(shares)).propensities(frozenset({"none", "socks"}), "", "none")
    assert abs(found["socks"] - WHOLE * 2 / 3) < 1
    assert sum(found.values()) == WHOLE
    document = policy(shares, ramps=[{"variant": "socks", "cap": 0.5}])
    (capped,) = version_of(document, document).propensities(frozenset({"none", "socks"}), "", "none")
    assert capped == {"none": WHOLE // 2, "socks": WHOLE // 2}
    (control,) = version_of(policy({"none": 0.5, "socks": 0.5})).propensities(
        frozenset({"none", "care-kit"}), "", "none"
    )
    assert control == {"none": WHOLE, "care-kit": 0}


def ratio(rng: np.random.Generator, tilt: float = 0.0) -> SampleRatio:
    """2,000 units under shares that follow what came before, as a bandit's do; `tilt` is a wrong race."""
    found = SampleRatio(["a", "b", "c"])
    shares = np.array([0.4, 0.3, 0.3])
    for _ in range(20):
        drawn = rng.multinomial(100, shares + tilt * np.array([1, -1, 0]))
        whole = {key: int(share * WHOLE) for key, share in zip("abc", shares, strict=True)}
        found.add(whole, dict(zip("abc", drawn.tolist(), strict=True)))
        shares = 0.1 + 0.7 * (drawn + 1) / (drawn + 1).sum()
    return found


def test_the_sample_ratio_has_the_level_it_says_whatever_the_policy_learns() -> None:
    rng = np.random.default_rng(20260302)
    p = [ratio(rng).p_value() for _ in range(1_000)]
    assert kstest(p, "uniform").pvalue > 1e-3
    off = ratio(rng, tilt=0.08)
    assert off.p_value() < LIMIT
    with pytest.raises(Broken, match="sample ratio"):
        off.check()
    assert SampleRatio(["a", "b"]).p_value() == 1.0


def test_the_sample_ratio_by_hand() -> None:
    """Of 1,000 units at a half 460 and 540: (40 / sqrt(250))^2 = 6.4, which Normal tails put at 0.0114."""
    found = SampleRatio(["a", "b"])
    found.add({"a": WHOLE // 2, "b": WHOLE // 2}, {"a": 460, "b": 540})
    assert found.p_value() == pytest.approx(2 * (1 - NormalDist().cdf(6.4**0.5)), rel=1e-9)


def inverse(rng: np.random.Generator, tilt: float = 0.0) -> SampleRatio:
    """1,000 units, each with shares of its own, of which that of what was drawn is logged."""
    found = SampleRatio(["a", "b", "c"])
    shares = rng.dirichlet([2, 2, 2], 1_000) * 0.9 + 0.1 / 3
    tilted = shares + tilt * shares.min(axis=1, keepdims=True) * np.array([1, -1, 0])
    drawn = (rng.random((1_000, 1)) > np.cumsum(tilted, axis=1)).sum(axis=1)
    for p, arm in zip(shares, drawn.tolist(), strict=True):
        found.drawn("abc"[arm], float(p[arm]), "abc")
    return found


def test_inverse_propensities_have_the_level_they_say() -> None:
    """I / sqrt(V) of 150 drives, of the first variant, against the Normal law."""
    found = [inverse(np.random.default_rng(seed)).off()["a"] for seed in range(150)]
    assert kstest(found, "norm").pvalue > 1e-3


def test_propensities_that_are_not_those_drawn_with_are_found() -> None:
    """Nine tenths of the smallest share are moved from one variant to another and not logged."""
    with pytest.raises(Broken, match="inverse propensities"):
        inverse(np.random.default_rng(1), tilt=0.9).check()
    inverse(np.random.default_rng(1)).check()


def test_as_many_customers_come_as_were_asked_for() -> None:
    settings = DriveSettings("black_friday", customers=5_000, days=3, step=timedelta(hours=2))
    traffic = Traffic(settings, settings.found(), "key")
    came = [len(traffic.arrivals(step).visits) for step in range(traffic.steps)]
    assert (len(came), sum(came)) == (36, 5_000)
    assert max(came[:12]) > 3 * min(came[:12])  # a quiet night, a busy evening
    usual = DriveSettings("healthy", days=7)
    assert usual.number_of(usual.found()) == 21_000


def test_late_events_may_come_after_their_window() -> None:
    noise = DriveSettings("healthy", late=0.3, duplicates=0.2).found().world.noise
    window_h = HEALTHY.attribution_window / timedelta(hours=1)
    assert (noise.late, noise.duplicates, noise.late_h_max) == (0.3, 0.2, window_h + 24)
    with pytest.raises(NotDriven, match="whole number of steps"):
        DriveSettings("healthy", step=timedelta(hours=7)).found()


def test_bodies_keep_to_the_limits_of_the_wire() -> None:
    assert [len(batch) for batch in batches([b"x"] * (2 * BATCH + 1))] == [BATCH, BATCH, 1]
    large = [b"x" * (BODY_LIMIT // 2)] * 3
    assert [len(batch) for batch in batches(large)] == [1, 1, 1]
    assert [len(batch) for batch in batches([large[0][:-2]] * 3)] == [2, 1]
    assert list(batches([])) == []
