"""The simulated shop: its closed-form truth against its own shoppers, its money, its events."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.demo_run import load_document
from sim.shop.journey import Journey, events_of, goods_of, journey
from sim.shop.truth import VariantTruth, truth
from sim.shop.world import AddOn, Basket, Product, Reaction, Shop, Shopper, draw_shoppers, shop_of

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
N = 100_000
SHOP = shop_of(load_document())


@pytest.fixture(scope="module")
def shoppers() -> list[Shopper]:
    return draw_shoppers(SHOP, N, prefix="s", rng=np.random.default_rng(20260302))


def deviations(journeys: list[Journey], expected: VariantTruth) -> dict[str, float]:
    """How far the simulated means lie from the truth, in their own standard errors."""
    orders = [j for j in journeys if j.buys]
    seen = [j for j in journeys if j.sees]
    samples: dict[str, tuple[list[float], float]] = {
        "conversion": ([float(j.buys) for j in journeys], expected.conversion_rate),
        "margin": ([float(j.margin_minor) for j in journeys], expected.margin_per_unit),
        "revenue": ([float(j.amount_minor - j.refunded_minor) for j in journeys], expected.revenue_per_unit),
        "aov": ([float(j.amount_minor) for j in orders], expected.aov),
        "refunds": ([float(j.refunds) for j in orders], expected.refund_rate),
    }
    if expected.take_rate is not None:
        samples["takes"] = ([float(j.takes) for j in seen], expected.take_rate)
    return {
        name: abs(float(np.mean(values)) - known) / (float(np.std(values)) / len(values) ** 0.5)
        for name, (values, known) in samples.items()
    }


@pytest.mark.parametrize("variant", ["none", "pro-shoe", "socks", "care-kit"])
def test_the_truth_is_what_a_large_simulation_finds(shoppers: list[Shopper], variant: str) -> None:
    found = deviations([journey(SHOP, s, variant) for s in shoppers], truth(SHOP)[variant])
    assert max(found.values()) < 4.5, found


def test_a_truth_that_forgets_the_annoyed_is_rejected(shoppers: list[Shopper]) -> None:
    calm = replace(SHOP, reactions={**SHOP.reactions, "pro-shoe": Reaction(appeal=0.5, regret=0.35)})
    wrong = truth(calm)["pro-shoe"]
    found = deviations([journey(SHOP, s, "pro-shoe") for s in shoppers], wrong)
    assert found["conversion"] > 4.5
    assert found["margin"] > 4.5


def test_the_truth_by_hand() -> None:
    """One basket of 1000 (cost 400), everybody sees, nobody is annoyed, takes = need.

    Half buy; half of the buyers take 500 (cost 100). Refunds: 10 % of plain orders, 30 % of the others,
    half of the cost comes back. Plain: 600 - 0.1 (1000 - 200) = 520. Taken: 1000 - 0.3 (1500 - 250) = 625.
    """
    shop = Shop(
        currency="EUR",
        baskets=(Basket((Product("A", 1000, 400),), 1.0),),
        add_ons={"x": AddOn("B", 500, 100)},
        reactions={"x": Reaction(appeal=1.0, regret=0.2)},
        conversion=0.5,
        seeing=1.0,
        refund=0.1,
        recovered=0.5,
    )
    found = truth(shop)["x"]
    assert found.conversion_rate == 0.5
    assert found.take_rate == 0.5
    assert found.aov == pytest.approx(1250)
    assert found.refund_rate == pytest.approx(0.2)
    assert found.margin_per_unit == pytest.approx(0.25 * 520 + 0.25 * 625)


def test_the_demo_has_a_good_a_toxic_and_a_neutral_offer() -> None:
    values = truth(SHOP)
    none, socks, pro, kit = (values[key] for key in ("none", "socks", "pro-shoe", "care-kit"))
    assert socks.margin_per_unit > 1.05 * none.margin_per_unit
    assert pro.aov > 1.05 * none.aov
    assert pro.margin_per_unit < 0.95 * none.margin_per_unit
    assert pro.refund_rate > 2 * none.refund_rate
    assert pro.conversion_rate < 0.95 * none.conversion_rate
    assert abs(kit.margin_per_unit / none.margin_per_unit - 1) < 0.01


def test_the_same_seed_draws_the_same_shoppers_and_another_does_not() -> None:
    first, again, other = (
        draw_shoppers(SHOP, 50, prefix="s", rng=np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


@given(seed=st.integers(0, 2**32), variant=st.sampled_from(sorted(SHOP.add_ons)))
def test_money_is_whole_and_a_refund_never_exceeds_its_order(seed: int, variant: str) -> None:
    for shopper in draw_shoppers(SHOP, 20, prefix="s", rng=np.random.default_rng(seed)):
        happened = journey(SHOP, shopper, variant)
        assert all(isinstance(m, int) for m in (happened.amount_minor, happened.cost_minor))
        assert 0 <= happened.refunded_minor <= happened.amount_minor
        assert 0 <= happened.recovered_minor <= happened.cost_minor
        assert happened.buys or happened.margin_minor == 0


def test_an_upsell_takes_the_place_of_the_shoe_and_a_cross_sell_stands_beside_it() -> None:
    basket = SHOP.baskets[1]
    assert [g.sku for g in goods_of(basket, SHOP.add_ons["pro-shoe"])] == ["JACKET-4", "SHOE-1-PRO"]
    assert [g.sku for g in goods_of(basket, SHOP.add_ons["socks"])] == ["SHOE-1", "JACKET-4", "SOCK-3"]
    assert goods_of(basket, SHOP.add_ons["none"]) == basket.products


def test_events_tell_exactly_what_happened(shoppers: list[Shopper]) -> None:
    sample = shoppers[:5000]
    kinds: Counter[str] = Counter()
    for shopper in sample:
        happened = journey(SHOP, shopper, "pro-shoe")
        timeline = events_of(SHOP, shopper, "pro-shoe", "d-1", AT)
        events = {event["type"]: event for _, event in timeline}
        kinds.update(events.keys())
        assert len({event["event_id"] for event in events.values()}) == len(timeline)
        assert ("exposure" in events) == happened.sees
        assert ("accept" in events) == happened.takes
        assert ("order" in events) == happened.buys
        assert ("abandonment" in events) == (not happened.buys)
        assert ("refund" in events) == happened.refunds
        if happened.buys:
            assert events["order"]["amount"] == happened.amount_minor
            assert sum(i["price"] * i["quantity"] for i in events["order"]["items"]) == happened.amount_minor
            assert events["order"]["cost"] == happened.cost_minor
        if happened.refunds:
            assert events["refund"]["amount"] == happened.refunded_minor
            assert events["refund"]["cost_recovered"] == happened.recovered_minor
    assert min(kinds.values()) > 50, "a kind of event that hardly happens is not tested"


def test_orders_fall_into_a_day_and_refunds_follow_within_a_week(shoppers: list[Shopper]) -> None:
    delays: list[float] = []
    for shopper in shoppers[:5000]:
        for when, event in events_of(SHOP, shopper, "socks", "d-1", AT):
            assert event["occurred_at"] == when.isoformat()
            if event["type"] == "order":
                assert timedelta(minutes=1) <= when - AT < timedelta(hours=4)
            if event["type"] == "refund":
                assert timedelta(days=1) <= when - AT < timedelta(days=7)
                delays.append((when - AT) / timedelta(days=1))
    assert 3 < fmean(delays) < 4.2


def test_without_a_recorded_decision_nothing_names_one(shoppers: list[Shopper]) -> None:
    for shopper in shoppers[:200]:
        for _, event in events_of(SHOP, shopper, "none", None, AT):
            assert "decision_id" not in event
            assert event["type"] in {"checkout_started", "order", "refund", "abandonment"}


def test_control_is_exposed_like_the_others_and_never_answers(shoppers: list[Shopper]) -> None:
    for shopper in shoppers[:500]:
        kinds = {event["type"] for _, event in events_of(SHOP, shopper, "none", "d-1", AT)}
        assert ("exposure" in kinds) == (shopper.u_see < SHOP.seeing)
        assert not kinds & {"accept", "decline", "click"}
