"""Planned tests lived through by the production allocator and read-out: power, looking, regret, policies."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from experiments.document import parse_document
from experiments.model import Experiment, StopRule
from experiments.planning.baselines import Shop
from experiments.planning.contrasts import even_split
from experiments.planning.figures import EffectPlan
from experiments.planning.plan import Question, plan
from sim.planner.simulation import Trial, live
from sim.planner.trials import Simulated, simulate
from sim.planner.world import arm_of
from tests.statistical import share_errors_off, standard_errors_off

SHOP = Shop(0.1, order_value=8_000, order_value_cv=1.0, margin_rate=0.4, refund_rate=0.1)
PER_DAY, DAYS = 2_000, 10


def document(kind: str = "fixed", objective: str = "conversion_rate", **more: Any) -> Experiment:
    keys = more.pop("keys", ("a",))
    policy = {"kind": kind, "objective": objective, **more.pop("policy", {})}
    return parse_document(
        {
            "key": "planned",
            "touchpoint": "checkout",
            "currency": "EUR",
            "attribution_window": "2d",
            "policy": policy,
            "variants": [
                {"key": "none", "is_control": True, "offer": {"kind": "none"}},
                *({"key": key, "offer": {"kind": "upsell", "sku": key, "price": 1}} for key in keys),
            ],
            **more,
        }
    )


def told(objective: str, effect: float, variants: int = 2, days: int = DAYS) -> EffectPlan:
    question = Question(
        objective,
        SHOP,
        PER_DAY,
        even_split(variants),
        variants - 1,
        attribution_window=timedelta(days=2),
        length_days=days,
    )
    return plan(question, [effect]).effects[0]


def lived(experiment: Experiment, effect: float, runs: int, **more: Any) -> Simulated:
    usual = {"per_day": PER_DAY, "days": DAYS, "replications": runs, "seed": 4}
    return simulate(experiment, SHOP, effect, **usual | more)


def test_units_have_the_mean_and_spread_that_are_planned() -> None:
    arm = arm_of(SHOP)
    for metric, feature in (("margin_per_unit", "margin"), ("conversion_rate", "converted")):
        quantity = SHOP.quantity(metric)
        assert quantity is not None
        squares = sum(c * v.get(feature, 0) ** 2 for c, v in zip(arm.chances, arm.vectors, strict=True))
        assert arm.mean(feature) == pytest.approx(quantity.mean, rel=1e-3)
        assert math.sqrt(squares - arm.mean(feature) ** 2) == pytest.approx(quantity.sd, rel=1e-3)
    same = arm_of(Shop(0.5, 100.0, 0.0, 1.0))
    assert [vector.get("revenue") for vector in same.vectors] == [None, 100]
    assert same.chances == [0.5, 0.5]
    drawn = arm.drawn(50_000, np.random.default_rng(1))
    assert abs(drawn.sum("converted") - 5_000) < 5 * math.sqrt(4_500)


@pytest.mark.parametrize(
    ("objective", "effect", "variants"),
    [("conversion_rate", 0.11, 2), ("margin_per_unit", 0.17, 2), ("conversion_rate", 0.19, 4)],
)
def test_planned_power_is_that_of_the_production_verdict(
    objective: str, effect: float, variants: int
) -> None:
    runs, keys = 180, tuple("abc"[: variants - 1])
    found = lived(document(objective=objective, keys=keys), effect, runs, is_watched=False)
    planned = told(objective, effect, variants)
    assert 0.6 < planned.power < 0.9
    assert share_errors_off(round(runs * found.power), runs, planned.power) < 4
    assert found.days_half == DAYS + 2
    twice = told(
        objective, effect, variants, days=2 * DAYS
    )  # planted: units of an arm taken for those of all
    assert share_errors_off(round(runs * found.power), runs, twice.power) > 5


def test_who_looks_every_day_is_misled_as_often_as_planned() -> None:
    """No effect, ten days: the closed form says 19 % (Armitage's table); one look would say 5 %."""
    looking = told("conversion_rate", 0.0).looking
    assert looking is not None
    calm = replace(document(), verdict=replace(document().verdict, rope=1e-6))  # lest nothing be found
    found = lived(calm, 0.0, 140)
    misled = round(140 * found.wrong)
    assert share_errors_off(misled, 140, looking.false_alarms) < 4
    assert share_errors_off(misled, 140, 0.05) > 5  # planted: as if it were looked at once
    assert found.power == 0.0


def test_days_of_who_looks_every_day_are_those_planned() -> None:
    looking = told("conversion_rate", 0.12).looking
    assert looking is not None
    found = lived(document(), 0.12, 100)
    assert share_errors_off(round(100 * found.power), 100, looking.power) < 4
    assert found.days_half is not None
    assert looking.days_half is not None
    assert abs(found.days_half - looking.days_half) <= 2
    assert found.right_by_day[-1][1] == pytest.approx(found.power)


@pytest.mark.parametrize("effect", [0.1, -0.1])
def test_money_forgone_is_that_of_the_units_enrolled(effect: float) -> None:
    """Once enrolled for ten days: half of 20,000 units forgo a tenth of the margin, whichever way."""
    found = lived(document(objective="margin_per_unit"), effect, 60, is_watched=False)
    planned = told("margin_per_unit", effect)
    margin = SHOP.margin()
    assert margin is not None
    assert found.regret_minor is not None
    assert found.regret_error is not None
    assert (
        abs(found.regret_minor - 10_000 * 0.1 * margin) < 5 * found.regret_error + 0.002 * found.regret_minor
    )
    # The plan counts those too who are enrolled while the last window is open: two days more
    assert planned.regret_minor == pytest.approx(1.2 * 10_000 * 0.1 * margin)


def test_without_money_there_is_no_regret_in_it() -> None:
    bare = simulate(document(), Shop(0.1), 0.1, per_day=500, days=3, replications=3, seed=1)
    assert (bare.regret_minor, bare.regret_error) == (None, None)


def test_a_bandit_shows_the_better_variant_more_and_harm_less() -> None:
    policy = {"control_share": 0.1, "floor": 0.02, "burn_in": 200}
    better = lived(document("thompson", policy=policy, keys="ab"), 0.3, 12)
    worse = lived(document("thompson", policy=policy, keys="ab"), -0.3, 12)
    even = lived(document(keys="ab"), 0.3, 12)
    assert better.treated / better.units > 1.15 * even.treated / even.units
    assert worse.treated / worse.units < 0.8 * even.treated / even.units
    assert better.power > 0.5
    two = lived(document("top_two", policy=policy, keys="ab"), 0.3, 6)
    assert two.power > 0.5


def test_a_bandit_treats_as_many_as_a_plain_loop_does() -> None:
    """Thompson sampling from its definition: Beta draws of matured units, floor, control share."""
    policy = {"control_share": 0.1, "floor": 0.02, "burn_in": 200}
    endless = replace(document("thompson", policy=policy), stop_rule=StopRule(loss_below=1e-15))
    arms = {"none": arm_of(SHOP), "a": arm_of(SHOP.changed("conversion_rate", 0.1))}
    trial = Trial(endless, arms, PER_DAY, DAYS)
    ours = np.array([live(trial, np.random.default_rng([9, n])).by_variant["a"] for n in range(25)])
    plain, hesitant = (
        np.array([_plainly_treated(np.random.default_rng([3, n]), follows) for n in range(200)])
        for follows in (1.0, 0.0)  # planted: shares that follow no data
    )
    error = math.hypot(ours.std() / math.sqrt(len(ours)), plain.std() / math.sqrt(len(plain)))
    assert abs(ours.mean() - plain.mean()) < 4 * error
    assert abs(ours.mean() - hesitant.mean()) > 5 * error


def _plainly_treated(rng: np.random.Generator, follows: float) -> int:
    days: list[np.ndarray] = []
    share, treated = 0.9, 0
    for day in range(DAYS):
        n = rng.binomial(PER_DAY, share)
        units = np.array([PER_DAY - n, n])
        days.append(np.array([units, rng.binomial(units, [0.1, 0.11])]))
        treated += int(n)
        if day >= 2:
            (n_c, n_t), (s_c, s_t) = np.sum(days[: day - 1], axis=0)
            best = rng.beta(1 + s_t, 1 + n_t - s_t, 1_000) > rng.beta(1 + s_c, 1 + n_c - s_c, 1_000)
            share = 0.02 + 0.88 * (follows * best.mean() + (1 - follows) / 2)
    return treated


def test_guardrails_kill_what_does_harm() -> None:
    rails = [{"metric": "conversion_rate", "warn": 0.01, "throttle": 0.02, "kill": 0.04}]
    policy = {"control_share": 0.3, "floor": 0.02}
    found = lived(document("thompson", guardrails=rails, policy=policy), -0.5, 8)
    assert found.power == 1.0
    assert set(found.verdicts) <= {"harmful", "toxic"}
    ruled = document("thompson", guardrails=rails, policy=policy, stop_rule={"loss_below": 1e-12})
    assert lived(ruled, -0.5, 4).killed == 1.0  # nothing stops it but the guardrail


def test_a_stop_rule_ends_the_test_in_place_of_the_verdict() -> None:
    ruled = replace(document(), stop_rule=StopRule(prob_best_above=0.9))
    arms = {"none": arm_of(SHOP), "a": arm_of(SHOP.changed("conversion_rate", 0.3))}
    ending = live(Trial(ruled, arms, PER_DAY, DAYS), np.random.default_rng(3))
    assert ending.stopped
    assert ending.leader == "a"
    never = replace(document(), stop_rule=StopRule(prob_best_above=0.9999999))
    alike = Trial(never, arms | {"a": arms["none"]}, PER_DAY, 3)
    assert live(alike, np.random.default_rng(3)).verdict == "open"
    assert lived(ruled, 0.3, 10).power == 1.0
    assert lived(ruled, -0.3, 10).power == 1.0  # the control leads
    assert lived(ruled, 0.0, 10).wrong == 0.0  # whoever leads, nothing better is left behind


def test_a_long_test_has_forty_steps_and_the_same_seed_the_same_tests() -> None:
    assert Trial(document(), {}, 1.0, 100).step_days == 3
    first, again = (lived(document("thompson"), 0.1, 3, days=5) for _ in range(2))
    assert first == again
    assert lived(document("thompson"), 0.1, 3, days=5, seed=5) != first


def test_units_come_as_planned_and_by_the_shares_published() -> None:
    arms = {"none": arm_of(SHOP), "a": arm_of(SHOP)}
    fixed = document(policy={"shares": {"none": 0.7, "a": 0.3}})
    endings = [
        live(Trial(fixed, arms, 250.4, 5, is_watched=False), np.random.default_rng([8, n])) for n in range(40)
    ]
    assert {ending.units for ending in endings} == {1_252}
    shares = np.array([ending.by_variant["a"] / ending.units for ending in endings])
    assert standard_errors_off(shares, 0.3) < 5
