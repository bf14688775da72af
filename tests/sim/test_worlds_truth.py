"""The closed-form truth of worlds against simulations, a plain loop, and sums done by hand."""

import math
from dataclasses import replace
from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from experiments.model import OfferKind
from sim.worlds.cells import segment_mix
from sim.worlds.customers import draw_customers, visitors
from sim.worlds.horizons import both_within, periods_within
from sim.worlds.scenarios import NAMES, scenario
from sim.worlds.timing import DAY_S, Delay, Delays, Repeats
from sim.worlds.truth import VariantTruth, true_lifts, truth, truth_of_period
from sim.worlds.world import Basket, Effect, Grid, Noise, Product, Reaction, Segment, Session, World
from tests.sim.worlds import WORLD
from tests.sim.worlds_found import deviations, features_of
from tests.sim.worlds_plain import PlainSums
from tests.statistical import STANDARD_ERRORS

WINDOW = timedelta(days=7)
N = 12_000
IN_PARTS = replace(WORLD, refunded_part=Grid((0.25, 1.0), (0.4, 0.6)))
DAYS = {"black_friday": (0, 26, 48), "whole_year": (0, 130, 200)}
"""Of these other days: one of the shock; none on which nobody takes what was new half a year ago."""


@cache
def places() -> dict[str, tuple[World, timedelta, tuple[int, ...], tuple[int, ...]]]:
    """Name -> world, window, days (the first, one in the middle or of a shock, the last) and arms."""
    found = {"everything": (WORLD, WINDOW, (0, 12, 40), (0, 1, 2, 3, 4))}
    found["refunds in part"] = (IN_PARTS, WINDOW, (12,), (0, 2))
    for name in NAMES:
        one = scenario(name)
        many = len(one.world.effects) > 10
        arms = (0, 1, 40, 77) if many else tuple(range(len(one.world.effects)))
        days = DAYS.get(name, (0, one.days // 2, one.days - 1))
        found[name] = (one.world, one.experiment.attribution_window, days, arms)
    return found


@pytest.mark.parametrize("name", ["everything", *NAMES])
def test_the_truth_is_what_a_simulation_finds(name: str) -> None:
    world, window, days, arms = places()[name]
    compared = 0
    for day in days:
        customers = draw_customers(world, day, N, rng=np.random.default_rng((20261122, day)))
        for arm in arms:
            features = features_of(world, customers, arm, window)
            key = world.effects[arm].variant
            groups: dict[str | None, VariantTruth] = {None: truth(world, day=day, window=window)[key]}
            groups |= {
                segment.key: truth(world, day=day, window=window, segment=segment.key)[key]
                for segment in world.segments
            }
            for segment, expected in groups.items():
                rows = None if segment is None else customers.segment == world.segment_index(segment)
                found = deviations(features, expected, rows)
                assert max(found.values()) < STANDARD_ERRORS, (day, key, segment, found)
                compared += len(found)
    assert compared > 100


PLANTED = {
    "appeal": lambda effect: replace(
        effect, reaction=replace(effect.reaction, appeal=effect.reaction.appeal * 1.1)
    ),
    "pressure": lambda effect: replace(
        effect, reaction=replace(effect.reaction, pressure=effect.reaction.pressure * 1.1)
    ),
    "regret": lambda effect: replace(
        effect, reaction=replace(effect.reaction, regret=effect.reaction.regret * 1.1)
    ),
    "price": lambda effect: replace(effect, price_minor=round(effect.price_minor * 1.1)),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_an_effect_that_is_wrong_by_a_tenth_is_found(fault: str) -> None:
    one = scenario("toxic_upsell")
    arm = one.world.arm("pro-shoe")
    wrong = PLANTED[fault](one.world.effects[arm])
    effects = (*one.world.effects[:arm], wrong, *one.world.effects[arm + 1 :])
    customers = draw_customers(one.world, 0, 200_000, rng=np.random.default_rng(7))
    features = features_of(one.world, customers, arm, WINDOW)
    assert max(deviations(features, truth(one.world)["pro-shoe"]).values()) < STANDARD_ERRORS
    planted = truth(replace(one.world, effects=effects))["pro-shoe"]
    assert max(deviations(features, planted).values()) > STANDARD_ERRORS


@pytest.mark.parametrize("variant", [effect.variant for effect in WORLD.effects])
@pytest.mark.parametrize("day", [0, 12, 40])
@pytest.mark.parametrize("world", [WORLD, IN_PARTS], ids=["whole refunds", "partial refunds"])
def test_the_truth_is_what_plain_loops_sum_up_to(world: World, variant: str, day: int) -> None:
    loops = PlainSums(world, world.effects[world.arm(variant)], day, WINDOW.total_seconds())
    for segment in world.segments:
        found = truth(world, day=day, segment=segment.key)[variant].features
        assert loops.features(segment) == pytest.approx(found, rel=1e-9)


def test_a_world_by_hand() -> None:
    """One segment, one basket of 1000 (cost 400), everybody sees, need 0.5, an offer of 500 (cost 100).

    Takes: 0.8 x 0.5 exp(-0) = 0.4. Orders: seen 0.5 (1 - 0.2 x 0.5) = 0.45; taken 0.45 + 0.2 x 0.55 = 0.56.
    Of all: 0.6 x 0.45 + 0.4 x 0.56 = 0.27 + 0.224 = 0.494. Refunds 0.1, taken 0.3, half the cost comes
    back: margin 600 - 0.1 (1000 - 200) = 520, taken 1000 - 0.3 (1500 - 250) = 625; 0.27 x 520 + 0.224 x 625
    = 280.4. Booked 0.27 x 1000 + 0.224 x 1500 = 606. Control: 0.5 x 520 = 260.
    Later orders begin after 30 days, chance 0.2 in each of two periods of 30 days: of 600 margin each. Within
    90 days of the arrival nearly both are over: LTV of the control 260 + 0.5 x 0.2 x 600 x 2 = 380.
    """
    reaction = Reaction(appeal=0.8, pressure=0.2, rescue=0.2, regret=0.2)
    segment = Segment(
        "all", 1.0, 0.5, need=Grid((0.5,), (1,)), sensitivity=Grid((0,), (1,)), refund=0.1, repeat=0.2
    )
    world = replace(
        WORLD,
        products=(Product("A", 1000, 400),),
        baskets=(Basket(("A",), 1.0),),
        segments=(segment,),
        effects=(Effect("none"), Effect("x", OfferKind.CROSS_SELL, "B", 500, 100, reaction=reaction)),
        session=Session(seeing=1.0),
        season=replace(WORLD.season, weekday_conversion=(1,) * 7, shocks=()),
        noise=Noise(),
        recovered=0.5,
        delays=Delays(order=Delay((0, 1e-6), (1,))),
        repeats=Repeats(after_days=30, every_days=30, times=2),
    )
    none, x = truth(world).values()
    assert x["take_rate"] == pytest.approx(0.4)
    assert x["conversion_rate"] == pytest.approx(0.494)
    assert x["margin_per_unit"] == pytest.approx(280.4)
    assert x["aov"] == pytest.approx(606 / 0.494)
    assert x["refund_rate"] == pytest.approx((0.027 + 0.3 * 0.224) / 0.494)
    assert none["margin_per_unit"] == pytest.approx(260)
    assert none["ltv_90d"] == pytest.approx(380)
    assert none["repeat_rate"] == pytest.approx(1 - 0.8**2)
    assert "take_rate" not in none.metrics
    lift = true_lifts(truth(world), "none")["x"]
    assert lift.absolute == pytest.approx(20.4)
    assert lift.relative == pytest.approx(280.4 / 260 - 1)
    assert true_lifts(truth(world), "none", "take_rate") == {}


def test_a_period_weighs_days_by_their_traffic() -> None:
    days = range(8, 15)
    whole = truth_of_period(WORLD, days, segment="price_sensitive")
    weights = [visitors(WORLD, day) * segment_mix(WORLD, day)[2] for day in days]
    for variant, value in whole.items():
        parts = [truth(WORLD, day=day, segment="price_sensitive")[variant] for day in days]
        for name in ("margin", "orders", "rating_sum"):
            mean = np.average([part.features[name] for part in parts], weights=weights)
            assert value.features[name] == pytest.approx(float(mean))
        orders = sum(w * part.features["orders"] for w, part in zip(weights, parts, strict=True))
        booked = sum(w * part.features["revenue"] for w, part in zip(weights, parts, strict=True))
        assert value["aov"] == pytest.approx(booked / orders)


def test_segments_make_up_the_whole() -> None:
    for day in (0, 11):
        mix = segment_mix(WORLD, day)
        whole = truth(WORLD, day=day)["pro"]
        parts = [truth(WORLD, day=day, segment=segment.key)["pro"] for segment in WORLD.segments]
        for name, value in whole.features.items():
            found = sum(share * part.features[name] for share, part in zip(mix, parts, strict=True))
            assert value == pytest.approx(found)


def test_bots_thin_out_every_rate_per_unit_and_no_relative_lift() -> None:
    everybody, people = truth(WORLD, day=3), truth(WORLD, day=3, humans_only=True)
    for variant in everybody:
        for metric in ("conversion_rate", "margin_per_unit", "orders_per_unit"):
            assert everybody[variant][metric] == pytest.approx(0.92 * people[variant][metric])
        for metric in ("aov", "refund_rate", "rating_mean"):
            assert everybody[variant][metric] == pytest.approx(people[variant][metric])
    lifts, plain = true_lifts(everybody, "none"), true_lifts(people, "none")
    assert {key: lift.relative for key, lift in lifts.items()} == pytest.approx(
        {key: lift.relative for key, lift in plain.items()}
    )


def test_nobody_has_no_truth() -> None:
    shares = (0.6, 0.0, 0.4)
    segments = [replace(one, share=share) for one, share in zip(WORLD.segments, shares, strict=True)]
    gone = replace(WORLD, segments=tuple(segments))
    with pytest.raises(ValueError, match="nobody of segment loyal"):
        truth(gone, segment="loyal")


def test_delays_in_a_row_fall_within_a_window_as_often_as_draws_do() -> None:
    rng, n = np.random.default_rng(3), 400_000
    first, then = WORLD.delays.order, WORLD.delays.rating
    sums = (first.at(rng.random(n)) + then.at(rng.random(n))) / 1e6
    for window_s in (DAY_S, 3.3 * DAY_S, 7 * DAY_S, 20 * DAY_S):
        expected = both_within(first, then, window_s)
        error = math.sqrt(max(expected * (1 - expected), 1e-12) / n)
        assert abs(float((sums < window_s).mean()) - expected) <= STANDARD_ERRORS * error + 1e-9


@pytest.mark.parametrize("horizon", [2.0, 10.0, 30.0, 54.3, 90.0, 400.0])
def test_periods_fall_within_a_horizon_as_often_as_draws_do(horizon: float) -> None:
    order, repeats = Delay((0, 20 * DAY_S, 50 * DAY_S), (0.7, 0.3)), Repeats(4, 25, 7)
    rng, n = np.random.default_rng(4), 100_000
    began = order.at(rng.random(n)) / 1e6 / DAY_S + repeats.after_days
    times = began + (np.arange(7)[:, np.newaxis] + rng.random(n)) * repeats.every_days
    counts = np.bincount((times < horizon).sum(axis=0), minlength=8) / n
    law = periods_within(order, repeats, horizon * DAY_S)
    assert law.sum() == pytest.approx(1.0)
    errors = np.sqrt(np.maximum(law * (1 - law), 1e-12) / n)
    assert (np.abs(counts - law) <= STANDARD_ERRORS * errors + 1e-9).all()
