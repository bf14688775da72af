"""One unit's contribution: what counts, from when until when, by hand; and any order of the facts."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.facts import (
    CartFact,
    CustomFact,
    Enrolment,
    OrderFact,
    RatingFact,
    Refund,
    Slot,
    SlotFact,
    UnitFacts,
    is_seen_earlier,
    sight_of,
)
from experiments.fold import Contribution, FoldRules, cart_deadlines, fold_unit, local_day
from experiments.model import (
    NO_OFFER,
    Anchor,
    CustomMetric,
    DelayHandling,
    Experiment,
    MetricKind,
    Offer,
    OfferKind,
    Variant,
)

DAY = 86_400_000_000
HOUR = DAY // 24
T0 = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
WINDOW = 7 * DAY
OFFER = Offer(OfferKind.CROSS_SELL, "SOCK-3", 1290, 410)
EXPERIMENT = Experiment(
    key="e",
    touchpoint="checkout",
    currency="EUR",
    variants=(Variant("none", NO_OFFER, is_control=True), Variant("socks", OFFER)),
    metrics=(
        CustomMetric("signups", MetricKind.PROPORTION, "signup", timedelta(days=1)),
        CustomMetric("depth", MetricKind.RATIO, "page"),
    ),
)
FIRST = Enrolment(1, 0, T0, "socks", "", 3, 1)


def rules(**changes: Any) -> FoldRules:
    return FoldRules(replace(EXPERIMENT, **changes), "Europe/Rome")


def order(order_id: str, at_us: int, amount: int = 1000, cost: int | None = 400, **more: Any) -> OrderFact:
    return OrderFact(order_id, at_us, more.pop("currency", "EUR"), amount, cost, **more)


def fold(facts: UnitFacts, of: FoldRules | None = None) -> dict[str, int]:
    (one,) = fold_unit(of or rules(), facts)
    return dict(one.vector)


def unit(**facts: Any) -> UnitFacts:
    return UnitFacts(**{"enrolments": (FIRST,), **facts})


def slot(kind: Slot, at_us: int, unit_no: int = 1, period: int = 0) -> SlotFact:
    return SlotFact(kind, unit_no, period, at_us)


def picked(vector: dict[str, int], *names: str) -> list[int]:
    return [vector.get(name, 0) for name in names]


def test_a_unit_of_which_nothing_is_known() -> None:
    assert fold(unit()) == {"assigned": 1, "units": 1}


def test_the_window_holds_its_first_instant_and_not_its_end() -> None:
    at = {T0 - 1: 0, T0: 1, T0 + WINDOW - 1: 1, T0 + WINDOW: 0}
    for at_us, counted in at.items():
        vector = fold(unit(orders=(order("o", at_us),), ratings=(RatingFact(at_us, 5),)))
        assert picked(vector, "orders", "revenue", "margin", "converted") == [
            counted,
            1000 * counted,
            600 * counted,
            counted,
        ]
        assert picked(vector, "ratings", "rating_sum") == [counted, 5 * counted]
        assert picked(fold(unit(carts=(CartFact("c", at_us, HOUR),))), "carts") == [counted]


def test_promoters_less_detractors_over_ratings_in_the_metrics_own_window() -> None:
    """Of 10: 9 and 10 promote, 7 and 8 are neither, 6 and less detract; 5 and 3 of 5 stars likewise."""
    scored = rules(metrics=(CustomMetric("nps", MetricKind.NPS, "rating", timedelta(days=1)),))
    promoters, others, detractors = (
        [(9, 10), (10, 10), (5, 5)],
        [(8, 10), (7, 10)],
        [(6, 10), (0, 10), (3, 5)],
    )
    scores = dict.fromkeys(promoters, 1) | dict.fromkeys(others, 0) | dict.fromkeys(detractors, -1)
    for (score, scale), counted in scores.items():
        rating = RatingFact(T0 + 5, round((1 << 32) * score / scale))
        vector = fold(unit(ratings=(rating,)), scored)
        assert picked(vector, "nps:had", "nps:count", "nps:sum") == [1, 1, counted]
    late = RatingFact(T0 + DAY, 1 << 32)
    assert picked(fold(unit(ratings=(late,)), scored), "nps:count", "ratings") == [0, 1]


def test_a_refund_counts_with_its_order_whenever_it_comes() -> None:
    """1000 - 400 - 250 = 350, though the refund is a year late."""
    late = (Refund(250, None, 0, T0 + 365 * DAY),)
    vector = fold(unit(orders=(order("o", T0, refunds=late),)))
    names = ("revenue", "refunded_value", "refunded_orders", "margin", "net_revenue_capped")
    assert picked(vector, *names) == [1000, 250, 1, 350, 750]


def test_horizons_and_the_period_before() -> None:
    """600 each: one 30 days before to the microsecond, one too early, 3 within 30 d, 1 each later."""
    ages = [-30 * DAY - 1, -30 * DAY, 0, DAY, 30 * DAY - 1, 30 * DAY, 90 * DAY, 180 * DAY]
    vector = fold(unit(orders=tuple(order(f"o{age}", T0 + age) for age in ages)))
    assert picked(vector, "pre_margin", "ltv_30d", "ltv_90d", "ltv_180d") == [600, 1800, 2400, 3000]
    assert picked(vector, "orders", "buyer_90d", "repeat_90d") == [2, 1, 1]
    once = fold(unit(orders=(order("a", T0 + 90 * DAY - 1), order("b", T0 + 90 * DAY))))
    assert picked(once, "buyer_90d", "repeat_90d", "orders") == [1, 0, 0]


def test_the_period_before_takes_no_refund_from_after_the_anchor() -> None:
    """600 of each order; 250 back before the anchor count, what comes back later may be the offer's doing."""
    before, after = (Refund(250, None, 0, at_us) for at_us in (T0 - 1, T0))
    for refunds, margin in (((), 600), ((before,), 350), ((after,), 600), ((before, after), 350)):
        vector = fold(unit(orders=(order("o", T0 - DAY, refunds=refunds),)))
        assert picked(vector, "pre_margin") == [margin], refunds
    unknown = order("o", T0 - DAY, refunds=(after,), cost=None)
    assert picked(fold(unit(orders=(unknown,))), "pre_margin") == [0]
    foreign = order("o", T0 - DAY, currency="USD")
    assert picked(fold(unit(orders=(foreign,))), "pre_margin") == [0]


def test_a_take_waits_for_its_exposure_and_both_for_the_window() -> None:
    click, accept = slot(Slot.CLICK, T0 + 1), slot(Slot.ACCEPT, T0 + 2)
    shown = slot(Slot.EXPOSURE, T0 + 3)
    names = ("exposed", "clicked", "took")
    assert picked(fold(unit(slots=(click, accept))), *names) == [0, 0, 0]
    assert picked(fold(unit(slots=(click, accept, shown))), *names) == [1, 1, 1]
    assert picked(fold(unit(slots=(shown,))), *names) == [1, 0, 0]
    assert picked(fold(unit(slots=(shown, slot(Slot.ACCEPT, T0 + WINDOW)))), *names) == [1, 0, 0]
    assert picked(fold(unit(slots=(slot(Slot.EXPOSURE, T0, unit_no=2),))), *names) == [0, 0, 0]


def test_an_exposure_anchor_moves_every_window_and_without_one_nothing_counts() -> None:
    seen = T0 + 2 * DAY
    by_exposure = rules(anchor=Anchor.EXPOSURE)
    orders = (order("before", T0 + DAY), order("in", seen), order("edge", seen + WINDOW))
    assert fold(unit(orders=orders), by_exposure) == {"assigned": 1}
    vector = fold(unit(orders=orders, slots=(slot(Slot.EXPOSURE, seen),)), by_exposure)
    assert picked(vector, "units", "orders", "pre_margin", "ltv_30d") == [1, 1, 600, 1200]
    early = fold(unit(orders=orders, slots=(slot(Slot.EXPOSURE, T0 - 9),)), by_exposure)
    assert picked(early, "orders", "pre_margin") == [2, 0]  # a lagging clock: the anchor is the assignment


def test_carts_are_closed_by_name_or_by_a_later_order_in_time() -> None:
    carts = (
        *(CartFact("k1", T0, DAY), CartFact("k2", T0 + HOUR, DAY), CartFact("k3", T0 + 5 * HOUR, DAY)),
        *(CartFact(f"k{i}", T0 + 30 * HOUR, DAY, is_abandonment=True) for i in (1, 2, 3)),
    )

    def abandoned(*orders: OrderFact) -> list[int]:
        return picked(fold(unit(carts=carts, orders=orders)), "carts", "abandoned")

    assert abandoned() == [3, 3]
    assert abandoned(order("o", T0 + 2 * HOUR)) == [3, 1]  # those opened before it
    assert abandoned(order("o", T0 + 2 * HOUR, cart_id="k3")) == [3, 2]  # the one it names
    assert abandoned(order("o", T0 + DAY)) == [3, 1]  # too late for k1, in time for k2 and k3
    assert abandoned(order("o", T0, cart_id="other")) == [3, 3]


def test_deadlines_are_of_carts_still_open() -> None:
    carts = [CartFact("a", 5, 10), CartFact("a", 3, 10), CartFact("b", 4, 10), CartFact("c", 0, 10)]
    told = CartFact("c", 1, 10, is_abandonment=True)
    assert cart_deadlines([*carts, told], [order("o", 9, cart_id="b")]) == {"a": 13}


def test_custom_metrics_have_windows_of_their_own() -> None:
    customs = (
        CustomFact("signup", T0 + DAY - 1, 7),
        CustomFact("signup", T0 + DAY, 100),
        CustomFact("page", T0, 3),
        CustomFact("page", T0 + WINDOW - 1, 4),
        CustomFact("page", T0 + WINDOW, 500),
        CustomFact("other", T0, 9),
    )
    vector = fold(unit(customs=customs))
    assert picked(vector, "signups:had", "signups:count", "signups:sum") == [1, 1, 7]
    assert picked(vector, "depth:had", "depth:count", "depth:sum") == [1, 2, 7]


def test_unknown_cost_and_missing_rate_count_as_orders_and_nothing_more() -> None:
    orders = (
        order("known", T0),
        order("unknown", T0, 500, None),
        order("foreign", T0, currency="SEK"),
        order("rated", T0, 1000, 0, currency="JPY", rates={"EUR": "0.00625"}),
    )
    vector = fold(unit(orders=orders))
    names = ("orders", "revenue", "margin", "unknown_cost_orders", "unconverted_orders")
    assert picked(vector, *names) == [4, 1000 + 500 + 625, 600 + 625, 1, 1]


def test_caps_cut_the_copy_and_leave_zero_and_the_totals() -> None:
    capped = replace(rules(), caps={"revenue": (50, 900), "margin": (700, 900)})
    vector = fold(unit(orders=(order("o", T0),)), capped)
    assert picked(vector, "revenue", "revenue_capped", "margin", "margin_capped") == [1000, 900, 600, 700]
    assert fold(unit(), capped) == {"assigned": 1, "units": 1}
    (one,) = fold_unit(capped, unit(orders=(order("o", T0),)))
    (raw,) = fold_unit(rules(), unit(orders=(order("o", T0),)))
    assert one.bins == raw.bins  # histograms are of what was, not of what was capped


LATER = Enrolment(2, 0, T0 + DAY, "none", "vip", 3, 2)


def test_the_earliest_stands_and_takes_what_the_superseded_one_brought() -> None:
    facts = unit(
        enrolments=(LATER, FIRST),
        slots=(slot(Slot.EXPOSURE, T0 + DAY, unit_no=2),),
        orders=(order("o", T0 + DAY),),
    )
    (one,) = fold_unit(rules(), facts)
    assert (one.unit_no, one.key.variant, one.key.segment, one.key.epoch) == (1, "socks", "", 1)
    assert picked(dict(one.vector), "assigned", "exposed", "orders", "crossover") == [1, 1, 1, 1]
    (same,) = fold_unit(rules(), unit(enrolments=(FIRST, LATER._replace(variant="socks"))))
    assert "crossover" not in same.vector


def test_after_its_time_a_reassignment_is_an_enrolment_of_its_own() -> None:
    after = timedelta(days=8)
    again = FIRST._replace(period=1, at_us=T0 + 8 * DAY, variant="none")
    soon = again._replace(period=2, at_us=again.at_us + 1)
    facts = unit(
        enrolments=(soon, again, FIRST),
        slots=(slot(Slot.EXPOSURE, T0), slot(Slot.EXPOSURE, again.at_us, period=1)),
        orders=(order("a", T0 + DAY), order("b", T0 + 9 * DAY), order("gap", T0 + WINDOW + 1)),
    )
    first, second = fold_unit(rules(reassign_after=after), facts)
    assert [(c.period, c.key.variant, c.vector["orders"], c.vector["exposed"]) for c in (first, second)] == [
        *((0, "socks", 1, 1), (1, "none", 1, 1))
    ]
    (only,) = fold_unit(rules(), facts)
    assert only.vector["crossover"] == 1


@pytest.mark.parametrize(
    ("at", "zone", "day"),
    [
        ("2026-03-28T22:59:59+00:00", "Europe/Rome", date(2026, 3, 28)),
        ("2026-03-28T23:00:00+00:00", "Europe/Rome", date(2026, 3, 29)),
        ("2026-03-29T21:59:59+00:00", "Europe/Rome", date(2026, 3, 29)),  # a day of 23 hours
        ("2026-03-29T22:00:00+00:00", "Europe/Rome", date(2026, 3, 30)),
        ("2026-10-25T22:59:59+00:00", "Europe/Rome", date(2026, 10, 25)),  # and one of 25
        ("2026-10-25T23:00:00+00:00", "Europe/Rome", date(2026, 10, 26)),
        ("2026-03-01T10:00:00+00:00", "Pacific/Kiritimati", date(2026, 3, 2)),
        ("1969-12-31T23:59:59+00:00", "UTC", date(1969, 12, 31)),
    ],
)
def test_the_day_is_the_shops(at: str, zone: str, day: date) -> None:
    at_us = int(datetime.fromisoformat(at).timestamp()) * 1_000_000
    assert local_day(at_us, zone) == day
    (one,) = fold_unit(FoldRules(EXPERIMENT, zone), unit(enrolments=(FIRST._replace(at_us=at_us),)))
    assert one.key.day == day


# -- any order of arrival

times = st.integers(-2, 10).map(lambda days: T0 + days * DAY) | st.integers(T0 - DAY, T0 + 9 * DAY)
enrolments = st.builds(
    Enrolment,
    st.integers(1, 3),
    st.integers(0, 1),
    times,
    st.sampled_from(["none", "socks"]),
    st.just(""),
    st.just(3),
    st.just(1),
)
orders = st.builds(
    lambda number, at_us, amount, cost, cart, currency: order(
        f"o{number}", at_us, amount, cost, cart_id=cart, currency=currency
    ),
    st.integers(0, 10**9),
    times,
    st.integers(0, 5000),
    st.none() | st.integers(0, 900),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from(["EUR", "EUR", "SEK"]),
)
carts = st.builds(CartFact, st.sampled_from(["a", "b"]), times, st.sampled_from([HOUR, DAY]), st.booleans())
slots = st.builds(SlotFact, st.sampled_from(list(Slot)), st.integers(1, 3), st.integers(0, 1), times)
customs = st.builds(CustomFact, st.sampled_from(["signup", "page"]), times, st.integers(-9, 9))


@st.composite
def units(draw: st.DrawFn) -> UnitFacts:
    entered = draw(st.lists(enrolments, min_size=1, max_size=4, unique_by=lambda e: (e.unit_no, e.period)))
    return UnitFacts(
        tuple(entered),
        *(tuple(draw(st.lists(kind, max_size=5))) for kind in (slots, orders, carts)),
        tuple(draw(st.lists(st.builds(RatingFact, times, st.integers(0, 2**32)), max_size=3))),
        tuple(draw(st.lists(customs, max_size=4))),
    )


def shuffled(facts: UnitFacts, chance: random.Random) -> UnitFacts:
    def mixed(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(chance.sample(values, len(values)))

    return UnitFacts(
        *map(mixed, (facts.enrolments, facts.slots, facts.orders, facts.carts, facts.ratings, facts.customs))
    )


@settings(max_examples=150)
@given(units(), st.sampled_from(list(Anchor)), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_facts_changes_nothing(
    facts: UnitFacts, anchor: Anchor, again: bool, chance: random.Random
) -> None:
    of = rules(anchor=anchor, reassign_after=timedelta(days=7) if again else None)
    first = fold_unit(of, facts)
    assert fold_unit(of, shuffled(facts, chance)) == first
    for contribution in first:
        check(contribution)


def first_sights(facts: UnitFacts) -> UnitFacts:
    """The facts without all that are a later sight of something."""
    seen: dict[Any, SlotFact | CartFact] = {}
    for fact in (*facts.slots, *facts.carts):
        known = seen.get(sight_of(fact))
        if known is None or is_seen_earlier(fact, known):
            seen[sight_of(fact)] = fact
    kept = seen.values()
    return replace(
        facts,
        slots=[fact for fact in kept if isinstance(fact, SlotFact)],
        carts=[fact for fact in kept if isinstance(fact, CartFact)],
    )


@settings(max_examples=150)
@given(units(), st.sampled_from(list(Anchor)), st.sampled_from(list(DelayHandling)))
def test_of_several_sights_of_one_thing_a_fold_needs_the_earliest_alone(
    facts: UnitFacts, anchor: Anchor, delay: DelayHandling
) -> None:
    of = rules(anchor=anchor, policy=replace(EXPERIMENT.policy, delay=delay))
    kept = first_sights(facts)
    assert fold_unit(of, kept) == fold_unit(of, facts)
    assert cart_deadlines(kept.carts, kept.orders) == cart_deadlines(facts.carts, facts.orders)


def check(one: Contribution) -> None:
    v = one.vector
    assert v["assigned"] == 1
    assert all(value for value in v.values())
    assert v.get("took", 0) <= v.get("exposed", 0) <= v.get("units", 0) <= 1
    assert v.get("abandoned", 0) <= v.get("carts", 0)
    assert v.get("refunded_value", 0) <= v.get("revenue", 0)
    assert v.get("converted", 0) == min(1, v.get("orders", 0))


def test_a_fold_that_looks_at_arrival_would_be_caught() -> None:
    """The planted fault: the first enrolment to arrive serves instead of the earliest."""
    facts = unit(enrolments=(FIRST, LATER))
    turned = unit(enrolments=(LATER, FIRST))
    assert fold_unit(rules(), facts) == fold_unit(rules(), turned)
    by_arrival = [fold_unit(rules(), replace(f, enrolments=f.enrolments[:1])) for f in (facts, turned)]
    assert by_arrival[0] != by_arrival[1]
