"""What an order, its refunds and its unit's windows come to, worked out by hand from the definitions."""

from datetime import UTC, date, datetime, timedelta

import pytest

from experiments.analysis.metrics import metric_definitions
from experiments.facts import CartFact, Enrolment, OrderFact, Refund, Slot, SlotFact, UnitFacts
from experiments.fold import DAY_US, Contribution, FoldRules, fold_unit, micros
from experiments.model import Anchor, Experiment
from experiments.orders import fold_order
from experiments.statistics import Cell, Moments
from tests.experiments.cells import experiment_of

HOUR_US = DAY_US // 24
T0 = micros(datetime(2026, 3, 2, 12, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC))


def experiment(**more: object) -> Experiment:
    return experiment_of("socks", **({"attribution_window": timedelta(days=7)} | more))


def enrolment(at_us: int = T0, variant: str = "socks", unit_no: int = 1, period: int = 0) -> Enrolment:
    return Enrolment(unit_no, period, at_us, variant, "", 3, 1)


def order(order_id: str = "a", after_us: int = HOUR_US, **more: object) -> OrderFact:
    given: dict[str, object] = {"currency": "EUR", "amount_minor": 10_000, "cost_minor": 4_000}
    return OrderFact(order_id, T0 + after_us, **(given | more))  # type: ignore[arg-type]


def refund(amount: int | None, after_us: int = 2 * HOUR_US, **more: object) -> Refund:
    return Refund(amount, None, 0, T0 + after_us, **more)  # type: ignore[arg-type]


def folded(*facts: object, of: Experiment | None = None, **more: object) -> Contribution:
    orders = tuple(fact for fact in facts if isinstance(fact, OrderFact))
    given: dict[str, object] = {"enrolments": (enrolment(),), "orders": orders}
    (made,) = fold_unit(FoldRules(of or experiment(), "UTC"), UnitFacts(**(given | more)))  # type: ignore[arg-type]
    return made


def value(metric: str, *made: Contribution) -> float:
    """The plain figure of a metric, from its definition's own terms."""
    moments = Moments()
    for contribution in made:
        moments.add_unit(contribution.vector)
    definition = metric_definitions(experiment())[metric]
    above, below = (
        sum(c * moments.sum(name) for name, c in terms.items())
        for terms in (definition.numerator, definition.denominator)
    )
    return definition.scale * above / below


@pytest.mark.parametrize("after_days", [-3, 1, 400])
def test_a_refund_counts_in_its_orders_figures_whenever_it_is_dated(after_days):
    """Before its order, in the window, a year later: all one."""
    made = folded(order(refunds=(refund(2_500, after_days * DAY_US),)))
    assert value("refund_rate", made) == 1.0
    assert value("refund_value_rate", made) == 0.25
    assert value("aov", made) == 10_000
    assert value("aov_net", made) == value("revenue_per_unit", made) == 7_500
    assert value("margin_per_unit", made) == 10_000 - 4_000 - 2_500


def test_a_cancel_is_a_refund_of_the_remainder_and_still_an_order():
    """3,000 refunded without cost recovered, then cancelled: 7,000 more and 7/10 of the cost back."""
    made = folded(order(refunds=(refund(3_000), refund(None, is_cancel=True))))
    assert value("refund_rate", made) == value("refund_value_rate", made) == value("cancel_rate", made) == 1.0
    assert value("conversion_rate", made) == 1.0
    assert value("margin_per_unit", made) == 10_000 - 4_000 - 10_000 + 2_800


def test_more_refunded_than_paid_is_reported_and_counts_no_further():
    balance = fold_order(order(refunds=(refund(9_000), refund(4_500))))
    assert (balance.refunded_minor, balance.over_refunded_minor) == (10_000, 3_500)
    assert balance.margin_minor == -4_000


def test_an_order_of_unknown_cost_or_rate_still_converts_and_is_counted():
    unknown = folded(order(cost_minor=None))
    assert (unknown.vector["unknown_cost_orders"], unknown.vector["revenue"]) == (1, 10_000)
    foreign = folded(order(currency="USD"))
    assert (foreign.vector["unconverted_orders"], foreign.vector["orders"]) == (1, 1)
    assert "revenue" not in foreign.vector
    told = folded(order(currency="USD", rates={"EUR": "0.5"}))
    assert told.vector["margin"] == 3_000


@pytest.mark.parametrize(
    ("after_us", "counts"),
    [(-1, False), (0, True), (7 * DAY_US - 1, True), (7 * DAY_US, False)],
)
def test_the_window_is_closed_at_the_anchor_and_open_at_its_end(after_us, counts):
    assert folded(order(after_us=after_us)).vector.get("orders", 0) == int(counts)


def test_lifetime_and_repeats_have_horizons_of_their_own_from_the_same_anchor():
    """Orders on days 1, 29, 89, 90, 179: margins 6,000 each; the window of 7 days sees one."""
    days = (1, 29, 89, 90, 179)
    made = folded(*(order(str(day), day * DAY_US) for day in days))
    told = [made.vector[f"ltv_{horizon}d"] for horizon in (30, 90, 180)]
    assert told == [12_000, 18_000, 30_000]
    assert made.vector["orders"] == 1
    once = folded(order("only", 89 * DAY_US))
    never = folded(order("late", 90 * DAY_US))
    assert value("repeat_rate", made, once, never) == 0.5


def test_with_anchor_exposure_everything_runs_from_the_first_exposure():
    late = experiment(anchor=Anchor.EXPOSURE)
    seen = SlotFact(Slot.EXPOSURE, 1, 0, T0 + 3 * DAY_US)
    unseen = folded(order(), of=late)
    assert unseen.vector == {"assigned": 1}
    before = folded(order(after_us=2 * DAY_US), of=late, slots=(seen,))
    assert (before.vector["units"], before.vector.get("orders", 0)) == (1, 0)
    after = folded(order(after_us=9 * DAY_US), of=late, slots=(seen,))
    assert after.vector["orders"] == 1


def test_a_take_waits_for_its_exposure():
    accept = SlotFact(Slot.ACCEPT, 1, 0, T0 + 1)
    assert "took" not in folded(slots=(accept,)).vector
    both = folded(slots=(accept, SlotFact(Slot.EXPOSURE, 1, 0, T0 + 2)))
    assert (both.vector["exposed"], both.vector["took"]) == (1, 1)


def test_the_earliest_enrolment_stands_takes_the_others_outcomes_and_is_flagged():
    two = (enrolment(T0 + DAY_US, "none", unit_no=2), enrolment())
    made = folded(order(after_us=2 * DAY_US), enrolments=two)
    assert (made.unit_no, made.key.variant, made.vector["crossover"]) == (1, "socks", 1)
    assert made.vector["orders"] == 1


def test_after_reassign_after_a_unit_counts_again_and_not_before():
    again = experiment(reassign_after=timedelta(days=10))
    at = (T0, T0 + 10 * DAY_US - 1, T0 + 10 * DAY_US)
    enrolments = tuple(enrolment(t, v, period=i) for i, (t, v) in enumerate(zip(at, "aab", strict=True)))
    facts = UnitFacts(enrolments, orders=(order(after_us=DAY_US), order("b", 11 * DAY_US)))
    made = fold_unit(FoldRules(again, "UTC"), facts)
    assert [(c.period, c.key.variant, c.vector["orders"]) for c in made] == [(0, "a", 1), (2, "b", 1)]


def test_an_order_without_a_cart_closes_the_carts_opened_before_it_in_time():
    carts = tuple(
        CartFact(key, T0 + at * HOUR_US, 24 * HOUR_US, is_abandonment=gone)
        for key, at, gone in (("x", 1, False), ("y", 3, False), ("x", 25, True), ("y", 27, True))
    )
    made = folded(order(after_us=2 * HOUR_US), carts=carts)
    assert (made.vector["carts"], made.vector["abandoned"]) == (2, 1)


def test_the_day_is_the_enrolments_in_the_stores_time_zone_and_not_the_orders():
    at = micros(datetime(2026, 3, 2, 23, 30, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC))
    facts = UnitFacts((enrolment(at),), orders=(order(after_us=5 * DAY_US),))
    (made,) = fold_unit(FoldRules(experiment(), "Europe/Rome"), facts)
    assert made.key.day == date(2026, 3, 3)


def test_caps_touch_the_copy_of_the_total_and_no_other_sum():
    """Two orders of 10,000 in a unit: the cap is of the unit's total, and zero stays zero."""
    caps = {"revenue": (3_000, 12_000), "margin": (5_000, 7_000)}
    rules = FoldRules(experiment(), "UTC", caps)
    facts = UnitFacts((enrolment(),), orders=(order(), order("b")))
    (made,) = fold_unit(rules, facts)
    assert (made.vector["revenue"], made.vector["revenue_capped"]) == (20_000, 12_000)
    assert (made.vector["margin"], made.vector["margin_capped"]) == (12_000, 7_000)
    (none,) = fold_unit(rules, UnitFacts((enrolment(),)))
    assert "revenue_capped" not in none.vector
    cell = Cell(made.key, frozenset({"none", "socks"}))
    cell.add_unit(made.vector, made.bins)
    assert cell.moments.product("orders", "revenue_capped") == 2 * 12_000
