"""What is assumed of a unit, what guardrails take, and the whole plan."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from experiments.analysis.comparison import Pair
from experiments.analysis.estimates import Estimate
from experiments.analysis.guardrails import prob_beyond
from experiments.analysis.metrics import MetricDefinition
from experiments.document import parse_document
from experiments.model import Direction, Guardrail, MetricKind, VerdictSettings
from experiments.planning.baselines import Baseline, Measured, Quantity, Shop
from experiments.planning.contrasts import Split, drift, even_split, power_of, quantile
from experiments.planning.design import question_of, split_of
from experiments.planning.figures import Found
from experiments.planning.guarding import guardrail_plan
from experiments.planning.looking import Looks, by_factor, evenly
from experiments.planning.plan import Question, plan
from experiments.posteriors.beta import Beta
from tests.statistical import share_errors_off, standard_errors_off

SHOP = Shop(0.05, order_value=8_000, order_value_cv=1.2, margin_rate=0.4, refund_rate=0.1)
METRICS = ("conversion_rate", "orders_per_unit", "revenue_per_unit", "margin_per_unit", "aov", "refund_rate")


def totals(shop: Shop, n: int, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numerator and denominator of n units, drawn as the module says: log-normal values, refunds in full."""
    assert shop.order_value is not None
    assert shop.margin_rate is not None
    bought = rng.random(n) < shop.conversion
    sigma2 = math.log1p(shop.order_value_cv**2)
    value = shop.order_value * np.exp(math.sqrt(sigma2) * rng.standard_normal(n) - sigma2 / 2) * bought
    refunded = bought & (rng.random(n) < shop.refund_rate)
    kept, one = value * ~refunded, np.ones(n)
    return {
        "conversion_rate": (bought.astype(float), one),
        "orders_per_unit": (bought.astype(float), one),
        "revenue_per_unit": (kept, one),
        "margin_per_unit": (kept * shop.margin_rate, one),
        "aov": (value, bought.astype(float)),
        "refund_rate": (refunded.astype(float), bought.astype(float)),
    }


@pytest.mark.parametrize("metric", METRICS)
def test_mean_and_spread_are_those_of_simulated_units(metric: str) -> None:
    """The delta method on 400,000 units: mean, and squared deviations of x - R y over the mean of y."""
    x, y = totals(SHOP, 400_000, np.random.default_rng(7))[metric]
    told = SHOP.quantity(metric)
    assert told is not None
    parts = (x - told.mean * y) / y.mean()
    assert abs(parts.mean()) < 5 * told.sd / math.sqrt(len(parts))
    assert standard_errors_off(parts**2, told.sd**2) < 5
    assert standard_errors_off(parts**2, (1.1 * told.sd) ** 2) > 5 or metric in ("aov", "margin_per_unit")


def test_a_change_is_one_of_what_the_metric_is_made_of() -> None:
    for metric in METRICS:
        before, after = SHOP.quantity(metric), SHOP.changed(metric, 0.1).quantity(metric)
        assert before is not None
        assert after is not None
        assert after.mean == pytest.approx(1.1 * before.mean)
    assert SHOP.changed("refund_rate", 0.5).margin() == pytest.approx(SHOP.margin() * 0.85 / 0.9)
    assert SHOP.changed("conversion_rate", 99.0).conversion == 1.0
    assert Shop(0.5).changed("aov", 0.1) == Shop(0.5)
    assert replace(SHOP, refund_rate=0.6).changed("refund_rate", 1.0).refund_rate == 1.0


def test_what_is_not_assumed_is_none() -> None:
    bare = Shop(0.05)
    assert bare.quantity("aov") is None
    assert bare.quantity("refund_rate") is None
    assert bare.margin() is None
    assert Shop(0.05, order_value=100.0).quantity("margin_per_unit") is None
    assert SHOP.quantity("take_rate") is None
    assert SHOP.sign("refund_rate") == -1
    assert SHOP.sign("aov") == 1


def test_measured_metrics() -> None:
    rate = Measured("take_rate", MetricKind.PROPORTION, 0.2)
    assert rate.changed("take_rate", 9.0).mean == 1.0
    assert rate.changed("aov", 9.0) == rate
    assert rate.quantity("aov") is None
    assert rate.quantity("take_rate") == Quantity(0.2, 0.4)
    assert rate.margin() is None
    assert rate.events("take_rate") == pytest.approx(0.2)
    orders = Measured("aov", MetricKind.RATIO, 8_000.0, 8_000 * 1.2, per_unit=0.05)
    assert orders.quantity("aov") == SHOP.quantity("aov")
    assert orders.events("aov") == 0.05
    earned = Measured("margin_per_unit", MetricKind.MEAN, 144.0, 900.0, is_margin=True)
    assert earned.changed("margin_per_unit", 0.5).quantity("margin_per_unit") == Quantity(216.0, 900.0)
    assert earned.margin() == 144.0
    assert earned.sign("margin_per_unit") == 1
    late = Measured("late", MetricKind.MEAN, 1.0, 1.0, direction=Direction.DOWN)
    assert late.sign("late") == -1
    assert late.kind_of("late") is MetricKind.MEAN
    with pytest.raises(ValueError, match="nothing is assumed of aov"):
        _ = asked(rate, "aov").control


def asked(baseline: Baseline, objective: str, **more: object) -> Question:
    return Question(objective, baseline, 2_000.0, even_split(2), **more)  # type: ignore[arg-type]


def test_plan_by_hand() -> None:
    """Conversion 5 %, +20 %: var 0.0475 + 0.0564, (1.96 + 0.8416)^2 x 2 x 0.1039 / 0.01^2 = 16,310 units."""
    found = plan(asked(Shop(0.05, 8_000, 1.0, 0.4), "conversion_rate"), [0.2])
    one = found.effects[0]
    assert one.units == pytest.approx(2 * (0.0475 + 0.0564) * (1.959964 + 0.841621) ** 2 / 0.01**2)
    assert one.power == pytest.approx(0.8)
    assert one.found is Found.BETTER
    days = one.days
    assert days is not None
    assert one.units is not None
    assert days.enrolling == pytest.approx(one.units / 2_000)
    assert (days.decision - days.enrolling, days.final - days.decision) == pytest.approx((7.0, 30.0))
    assert one.units_enrolled == pytest.approx(one.units + 14_000)
    # Half of them had the control, each of which brought 0.01 orders of 3,200 of margin less
    assert one.regret_minor == pytest.approx(0.5 * (one.units + 14_000) * 0.01 * 3_200)
    assert one.regret == pytest.approx(0.5 * (one.units + 14_000) * 0.01)
    assert not one.is_rough
    assert found.balance == 1.0
    assert found.best_control_share == 0.5
    assert found.false_alarms == pytest.approx(0.025)


def test_harm_costs_those_who_had_it_and_is_called_worse() -> None:
    split = Split(0.8, 0.2)
    question = replace(asked(SHOP, "margin_per_unit"), split=split)
    worse, better = plan(question, [-0.1, 0.1]).effects
    assert worse.found is Found.WORSE
    margin = SHOP.margin()
    assert margin is not None
    assert worse.units_enrolled is not None
    assert better.units_enrolled is not None
    assert worse.regret_minor == pytest.approx(0.2 * worse.units_enrolled * 0.1 * margin)
    assert better.regret_minor == pytest.approx(0.8 * better.units_enrolled * 0.1 * margin)
    assert worse.at_risk_minor == pytest.approx(worse.regret_minor)
    assert better.at_risk_minor == pytest.approx(0.2 * better.units_enrolled * 0.1 * margin)
    assert worse.units_treatment == pytest.approx(0.2 * (worse.units or 0))


def test_more_refunds_are_worse() -> None:
    fewer, more = plan(asked(SHOP, "refund_rate"), [-0.2, 0.2]).effects
    assert (fewer.found, more.found) == (Found.BETTER, Found.WORSE)
    assert fewer.regret is None  # a ratio is nothing that adds up over units
    assert more.regret_minor is not None
    assert more.at_risk_minor == pytest.approx(more.regret_minor)
    assert plan(asked(SHOP, "refund_rate", length_days=60.0), []).detectable == pytest.approx(-0.2, abs=0.1)


def test_no_effect_has_no_size() -> None:
    nothing = plan(asked(Shop(0.05), "conversion_rate"), [0.0]).effects[0]
    assert nothing.units is None
    assert nothing.power == pytest.approx(0.025)
    with_length = plan(asked(Shop(0.05), "conversion_rate", length_days=10.0), [0.0]).effects[0]
    assert with_length.units == 20_000
    assert with_length.power == pytest.approx(0.025)
    assert with_length.anytime is None
    with pytest.raises(ValueError, match="cannot change by -1"):
        plan(asked(SHOP, "refund_rate"), [-1.0])


@pytest.mark.parametrize("objective", ["conversion_rate", "margin_per_unit", "aov"])
def test_detectable_effect_is_found_with_the_power_asked(objective: str) -> None:
    found = plan(asked(SHOP, objective, length_days=30.0), [])
    assert found.detectable is not None
    again = plan(asked(SHOP, objective, length_days=30.0), [found.detectable]).effects[0]
    assert again.power == pytest.approx(0.8)
    sized = plan(asked(SHOP, objective), [found.detectable]).effects[0]
    assert sized.units == pytest.approx(60_000)
    assert plan(asked(Shop(0.999), "conversion_rate", length_days=0.01), []).detectable is None


def test_several_treatments_need_more() -> None:
    two = plan(asked(Shop(0.05), "conversion_rate"), [0.1])
    four = plan(replace(asked(Shop(0.05), "conversion_rate"), split=even_split(4), treatments=3), [0.1])
    assert four.effects[0].units_control is not None
    assert two.effects[0].units_control is not None
    assert four.effects[0].units_control > 1.2 * two.effects[0].units_control
    assert four.best_control_share == pytest.approx(1 / (1 + math.sqrt(3)))
    at_best = replace(
        asked(Shop(0.05), "conversion_rate"), split=even_split(4, 1 / (1 + 3**0.5)), treatments=3
    )
    assert plan(at_best, []).balance == pytest.approx(1.0)
    assert four.balance > 1.05
    assert 0.02 < four.false_alarms < 0.025


def test_looking_every_day_is_the_recursion_over_the_days() -> None:
    question = asked(Shop(0.05), "conversion_rate", length_days=10.0)
    looking = plan(question, [0.1]).effects[0].looking
    assert looking is not None
    d = drift(*(Shop(p).quantity("conversion_rate") for p in (0.055, 0.05)), Split(0.5, 0.5))  # type: ignore[arg-type]
    up, low = Looks(evenly(20_000.0, 10), 1.959964, -1.959964).crossing(d)
    assert (looking.looks, looking.power) == (10, pytest.approx(float(up.sum()), abs=1e-6))
    assert looking.prob_wrong == pytest.approx(float(low.sum()), abs=1e-6)
    assert looking.false_alarms == pytest.approx(0.193, abs=6e-4)
    assert looking.units_expected < 20_000
    most = plan(asked(Shop(0.05), "conversion_rate"), [0.3]).effects[0].looking
    assert most is not None
    assert most.days_half is not None
    assert most.days_half >= 7.0


def test_units_that_are_all_alike_tell_at_once() -> None:
    same = plan(asked(Shop(0.5, 100.0, 0.0, 0.5), "aov"), [0.1]).effects[0]
    assert same.units == 4
    assert same.looking is not None
    assert same.looking.power == 1.0


def test_few_orders_make_a_size_rough() -> None:
    assert plan(asked(Shop(0.01), "conversion_rate"), [3.0]).effects[0].is_rough
    assert plan(asked(Measured("x", MetricKind.MEAN, 1.0, 1.0), "x"), [2.0]).effects[0].is_rough


def beta_pair(counts: tuple[int, int], n: tuple[int, int]) -> Pair:
    arms = [Beta(1 + s, 1 + size - s) for s, size in zip(counts, n, strict=True)]
    estimates = [Estimate(s / size, None, "beta") for s, size in zip(counts, n, strict=True)]
    return Pair(*estimates, *arms)


CONVERSION = MetricDefinition("conversion_rate", MetricKind.PROPORTION, {}, {}, Direction.UP, timedelta(1))


def test_kills_come_when_the_production_rule_gives_them() -> None:
    """Conversion 60 %, 8 % down, kill 4 %: paths of binomial counts, judged by the guardrail's own odds."""
    rail, split, shop = Guardrail("conversion_rate", 0.01, 0.02, 0.04), Split(0.7, 0.3), Shop(0.6)
    told = guardrail_plan(shop, rail, split, VerdictSettings(), power=0.8)
    assert told is not None
    assert told.kill is not None
    assert told.change == 0.08
    assert told.exposed_until_kill == pytest.approx(0.3 * told.kill.units_expected)
    assert told.loss_until_kill_minor is None
    d = drift(
        Quantity(0.552, math.sqrt(0.552 * 0.448)), Quantity(0.6, math.sqrt(0.24)), split, factor=0.96, sign=-1
    )
    at = by_factor(1_000 / 0.3, ((quantile(0.99) + quantile(0.999)) / d) ** 2, 24)
    rng, runs = np.random.default_rng(23), 300
    units: list[float] = []
    for _ in range(runs):
        units.append(_killed_at(at, split, rail.kill, rng))
    killed = np.array(units)
    assert standard_errors_off(killed, told.kill.units_expected) < 4
    half = int((killed <= told.kill.units_half).sum())
    by_half = float(Looks(at, quantile(0.99)).crossing(d)[0][: at.index(told.kill.units_half) + 1].sum())
    assert share_errors_off(half, runs, by_half) < 4
    one_look = (quantile(0.99) / d) ** 2  # planted: as if it were looked at once only
    assert share_errors_off(int((killed <= one_look).sum()), runs, 0.5) > 4


def _killed_at(at: tuple[float, ...], split: Split, margin: float, rng: np.random.Generator) -> float:
    n_t = n_c = s_t = s_c = 0
    for units in at:
        fresh = round(units * split.treatment) - n_t, round(units * split.control) - n_c
        s_t, s_c = s_t + int(rng.binomial(fresh[0], 0.552)), s_c + int(rng.binomial(fresh[1], 0.6))
        n_t, n_c = n_t + fresh[0], n_c + fresh[1]
        below = s_t / n_t - 0.96 * s_c / n_c
        error = math.sqrt(0.25 / n_t + 0.25 / n_c)
        if below > -1.5 * error:
            continue  # nowhere near: spare the integral
        if prob_beyond(CONVERSION, beta_pair((s_t, s_c), (n_t, n_c)), margin) > 0.99:
            return units
    return at[-1]


def test_sizes_of_kills_are_those_measured() -> None:
    """The binding page: at 3 % conversion a kill of -8 % beyond 4 % needs about 440,000 units of each arm."""
    treatment, control = (Shop(p).quantity("conversion_rate") for p in (0.0276, 0.03))
    assert treatment is not None
    assert control is not None
    d = drift(treatment, control, Split(0.5, 0.5), factor=0.96, sign=-1)
    assert 0.8 < power_of(d, 880_000, quantile(0.99)) < 0.95
    told = guardrail_plan(
        Shop(0.03),
        Guardrail("conversion_rate", 0.01, 0.02, 0.04),
        even_split(2),
        VerdictSettings(),
        power=0.8,
    )
    assert told is not None
    assert told.kill is not None
    assert 440_000 < told.kill.units_expected < 880_000


def test_guardrails_of_a_plan() -> None:
    rails = (
        Guardrail("refund_rate", 0.1, 0.2, 0.4),
        Guardrail("margin_per_unit", 5, 10, 20),
        Guardrail("rating_mean", 1, 2, 3),
    )
    found = plan(asked(SHOP, "conversion_rate", guardrails=rails), [0.1])
    refunds, margin = found.guardrails  # of ratings nothing is assumed
    assert refunds.change == pytest.approx(0.8)
    assert margin.change == 40
    units = found.effects[0].units
    assert units is not None
    within = (
        drift(_q("refund_rate"), _q("refund_rate"), even_split(2), factor=1.2, sign=-1),
        drift(_q("margin_per_unit"), _q("margin_per_unit"), even_split(2), shift=-10),
    )
    for told, d in zip((refunds, margin), within, strict=True):
        assert told.prob_held == pytest.approx(power_of(d, units, 1.644854), abs=1e-6)
        assert told.throttle is not None
        assert told.kill is not None
        assert told.throttle.units_expected < told.kill.units_expected
        assert told.throttle.units_half <= told.throttle.units_most
    assert refunds.loss_until_kill_minor == pytest.approx(
        (refunds.exposed_until_kill or 0) * 0.05 * 0.08 * 8_000 * 0.4
    )
    assert margin.loss_until_kill_minor == pytest.approx((margin.exposed_until_kill or 0) * 40)


def test_harm_within_the_margin_is_never_killed_and_glaring_harm_at_once() -> None:
    rail, settings = Guardrail("conversion_rate", 0.01, 0.02, 0.04), VerdictSettings()
    mild = guardrail_plan(SHOP, rail, even_split(2), settings, power=0.8, change=0.03)
    assert mild is not None
    assert mild.kill is None
    assert mild.throttle is not None
    assert mild.loss_until_kill_minor is None
    glaring = guardrail_plan(Shop(0.6), rail, even_split(2), settings, power=0.8, change=0.9)
    assert glaring is not None
    assert glaring.kill is not None
    assert glaring.kill.units_expected == glaring.kill.units_most == 2_000
    starved = guardrail_plan(SHOP, rail, Split(0.98, 0.02), settings, power=0.8)
    fed = guardrail_plan(SHOP, rail, even_split(2), settings, power=0.8)
    assert starved is not None
    assert fed is not None
    assert starved.kill is not None
    assert fed.kill is not None
    assert starved.kill.units_expected > 5 * fed.kill.units_expected
    floored = guardrail_plan(SHOP, rail, Split(0.98, 0.5), settings, power=0.8, floor=0.02)
    assert floored is not None
    assert floored.kill_at_floor == starved.kill
    impossible = Guardrail("conversion_rate", 0.1, 0.3, 0.6)  # twice 60 % less: nearly nobody buys
    total = guardrail_plan(SHOP, impossible, even_split(2), settings, power=0.8)
    assert total is not None
    assert total.kill is not None


def _q(metric: str) -> Quantity:
    found = SHOP.quantity(metric)
    assert found is not None
    return found


def test_a_document_says_shares_thresholds_and_windows() -> None:
    document = {
        "key": "one",
        "touchpoint": "checkout",
        "currency": "EUR",
        "attribution_window": "2d",
        "refund_window": "10d",
        "variants": [
            {"key": "none", "is_control": True, "offer": {"kind": "none"}},
            *({"key": key, "offer": {"kind": "upsell", "sku": key, "price": 1}} for key in "ab"),
        ],
    }
    policy = {"kind": "thompson", "control_share": 0.2, "floor": 0.05}
    adaptive = parse_document(document | {"policy": policy})
    question = question_of(adaptive, SHOP, 500.0)
    assert (question.split, question.treatments, question.floor) == (Split(0.2, 0.4), 2, 0.05)
    assert question.attribution_window == timedelta(days=2)
    fixed = parse_document(document | {"policy": {"kind": "fixed"}})
    assert split_of(fixed) == even_split(3)
    assert question_of(fixed, SHOP, 1.0).floor is None
    written = {"kind": "fixed", "shares": {"none": 0.5, "a": 0.3, "b": 0.2}}
    assert split_of(parse_document(document | {"policy": written})) == Split(0.5, 0.2)
