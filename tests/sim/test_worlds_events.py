"""The events of a simulated customer: folded as the service folds them, they are the vectorised figures."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.facts import CartFact, Enrolment, OrderFact, RatingFact, Refund, Slot, SlotFact, UnitFacts
from experiments.fold import FoldRules, fold_unit, micros
from experiments.model import Experiment
from experiments.statistics import FIXED_POINT
from sim.runner.vectors import Known
from sim.worlds.customers import Customers, draw_customers
from sim.worlds.events import Event, events_of, history_of
from sim.worlds.outcomes import Outcomes, outcomes
from sim.worlds.sending import hashed
from sim.worlds.world import Noise, World
from tests.sim.worlds import WORLD

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
AT_US = micros(AT - datetime(1970, 1, 1, tzinfo=UTC))
N = 2000
WINDOW = timedelta(days=7)
SLOTS = {"exposure": Slot.EXPOSURE, "click": Slot.CLICK, "accept": Slot.ACCEPT}


def drawn(world: World, seed: int = 5) -> tuple[Customers, Outcomes]:
    rng = np.random.default_rng(seed)
    customers = draw_customers(world, 0, N, rng=rng)
    return customers, outcomes(world, customers, rng.integers(0, len(world.effects), N))


def timeline_of(
    world: World, customers: Customers, happened: Outcomes, i: int
) -> list[tuple[datetime, Event]]:
    after = events_of(world, customers, happened, i, unit_id=f"u{i}", decision_id="d", at=AT)
    return history_of(world, customers, i, unit_id=f"u{i}", at=AT) + after


def facts_of(world: World, events: list[Event]) -> UnitFacts:
    """What the ledger would know of the unit: each event once."""
    window_us = int(world.delays.abandonment_h * 3_600_000_000)
    slots: list[SlotFact] = []
    carts: list[CartFact] = []
    ratings: list[RatingFact] = []
    orders: dict[str, OrderFact] = {}
    refunds: dict[str, list[Refund]] = {}
    for event in {event["event_id"]: event for event in events}.values():
        at_us = micros(datetime.fromisoformat(event["occurred_at"]) - datetime(1970, 1, 1, tzinfo=UTC))
        match event["type"]:
            case "exposure" | "click" | "accept" as kind:
                slots.append(SlotFact(SLOTS[kind], 1, 0, at_us))
            case "checkout_started" | "cart" | "abandonment" as kind:
                carts.append(CartFact(event["cart_id"], at_us, window_us, kind == "abandonment"))
            case "rating":
                ratings.append(RatingFact(at_us, round(FIXED_POINT * event["score"] / event["scale"])))
            case "order":
                orders[event["order_id"]] = OrderFact(
                    event["order_id"],
                    at_us,
                    event["currency"],
                    event["amount"],
                    event["cost"],
                    cart_id=event.get("cart_id"),
                )
            case "refund":
                refund = Refund(event["amount"], event["cost_recovered"], 0, at_us)
                refunds.setdefault(event["order_id"], []).append(refund)
            case other:
                assert other == "decline"
    whole = [replace(order, refunds=tuple(refunds.get(key, ()))) for key, order in orders.items()]
    enrolment = Enrolment(1, 0, AT_US, "none", "", 1, 0)
    return UnitFacts([enrolment], slots=slots, orders=whole, carts=carts, ratings=ratings)


def figures(customers: Customers, happened: Outcomes, window: timedelta, age: timedelta) -> dict[str, Any]:
    rules = FoldRules(Experiment("k", "checkout", "EUR", (), attribution_window=window), "UTC")
    age_us = np.full(len(customers), micros(age))
    known = Known(rules, happened, happened, customers.pre_margin_minor, customers.arrival_us, age_us)
    return {name: values for name, values in known.vectors().items() if not name.endswith("_capped")}


def folded(world: World, window: timedelta, events: list[Event]) -> dict[str, int]:
    rules = FoldRules(Experiment("k", "checkout", "EUR", (), attribution_window=window), "UTC")
    (contribution,) = fold_unit(rules, facts_of(world, events))
    return {name: value for name, value in contribution.vector.items() if not name.endswith("_capped")}


@pytest.mark.parametrize("window", [timedelta(hours=1), WINDOW, timedelta(days=40)])
def test_the_figures_are_what_the_fold_makes_of_the_events(window: timedelta) -> None:
    customers, happened = drawn(WORLD)
    found = figures(customers, happened, window, timedelta(days=1000))
    seen: Counter[str] = Counter()
    for i in range(N):
        events = [event for _, event in timeline_of(WORLD, customers, happened, i)]
        mine = {name: int(values[i]) for name, values in found.items() if values[i]}
        assert mine == folded(WORLD, window, events)
        seen.update(mine.keys())
    # A window of an hour is too short for a rating
    least = 20 if window >= WINDOW else 0
    assert all(seen[name] >= least for name in found), seen


def test_figures_of_an_age_are_those_of_the_events_until_then() -> None:
    customers, happened = drawn(WORLD)
    for age in (timedelta(minutes=5), timedelta(days=3), timedelta(days=20)):
        found = figures(customers, happened, WINDOW, age)
        for i in range(0, N, 5):
            events = [
                event
                for _, event in timeline_of(WORLD, customers, happened, i)
                if datetime.fromisoformat(event["occurred_at"]) <= AT + age
            ]
            mine = {name: int(values[i]) for name, values in found.items() if values[i]}
            assert mine == folded(WORLD, WINDOW, events)


def test_noise_sends_twice_and_late_but_says_the_same() -> None:
    noisy = replace(WORLD, noise=replace(WORLD.noise, duplicates=0.2, late=0.3, late_h_max=48))
    customers, happened = drawn(noisy)
    sent = doubles = late = 0
    for i in range(500):
        plain = events_of(WORLD, customers, happened, i, unit_id="u", decision_id="d", at=AT)
        timeline = events_of(noisy, customers, happened, i, unit_id="u", decision_id="d", at=AT)
        assert timeline == events_of(noisy, customers, happened, i, unit_id="u", decision_id="d", at=AT)
        assert [when for when, _ in timeline] == sorted(when for when, _ in timeline)
        distinct = {event["event_id"]: event for _, event in timeline}
        assert distinct == {event["event_id"]: event for _, event in plain}
        assert all(event["occurred_at"] == when.isoformat() for when, event in plain)
        first: dict[str, datetime] = {}
        for when, event in timeline:
            first.setdefault(event["event_id"], when)
        delays = [at - datetime.fromisoformat(distinct[key]["occurred_at"]) for key, at in first.items()]
        assert all(timedelta() <= delay < timedelta(hours=48) for delay in delays)
        sent, doubles = sent + len(plain), doubles + len(timeline) - len(plain)
        late += sum(delay > timedelta() for delay in delays)
    for count, chance in ((doubles, 0.2), (late, 0.3)):
        assert abs(count - chance * sent) < 5 * (chance * (1 - chance) * sent) ** 0.5


def test_an_order_names_its_goods_and_they_sum_to_it() -> None:
    customers, happened = drawn(WORLD)
    taken: set[str] = set()
    for i in range(N):
        effect = WORLD.effects[happened.shown[i]]
        for event in (event for _, event in timeline_of(WORLD, customers, happened, i)):
            if event["type"] != "order" or event["order_id"].endswith("before"):
                continue
            items: list[dict[str, Any]] = event["items"]
            assert sum(item["price"] for item in items) == event["amount"]
            assert sum(item["cost"] for item in items) == event["cost"]
            skus = [item["sku"] for item in items]
            basket = list(WORLD.baskets[customers.basket[i]].skus)
            if "again" in event["order_id"] or happened.took_us[i] < 0 or effect.sku is None:
                assert skus == basket
            else:
                assert skus == [sku for sku in basket if sku != effect.replaces] + [effect.sku]
                taken.add(effect.variant)
    assert len(taken) > 2


def test_without_a_decision_nothing_names_one() -> None:
    customers, happened = drawn(replace(WORLD, noise=Noise()))
    for i in range(200):
        timeline = events_of(WORLD, customers, happened, i, unit_id="u", decision_id=None, at=AT)
        assert not {event["type"] for _, event in timeline} & {"exposure", "click", "accept", "decline"}
        assert not any("decision_id" in event for _, event in timeline)


def test_chances_of_sending_are_uniform_and_independent_between_kinds() -> None:
    n = 50_000
    chance = np.random.default_rng(8).random(n)
    u = hashed(chance, np.arange(12)[:, None])
    assert all(stats.kstest(row, "uniform").pvalue > 1e-4 for row in u)
    assert stats.kstest(u[0] ** 1.05, "uniform").pvalue < 1e-4, "no power"
    away = np.corrcoef(np.vstack([u, chance])) - np.eye(13)
    assert np.abs(away).max() < 5 / np.sqrt(n)
