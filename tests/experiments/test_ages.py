"""Ages of outcomes as a fold keeps them under a delay model: by hand, and taken out as exactly as put in."""

import json
from dataclasses import replace
from datetime import timedelta

from experiments.ages import BINS, HOURS, age_bin, binned, events_of
from experiments.facts import (
    Adjustment,
    CustomFact,
    Enrolment,
    OrderFact,
    Refund,
    Slot,
    SlotFact,
    UnitFacts,
)
from experiments.fold import DAY_US, Contribution, FoldRules, fold_unit
from experiments.histogram import bin_of
from experiments.model import CustomMetric, DelayHandling, MetricKind, PolicySettings
from experiments.statistics import Cell
from tests.experiments.cells import experiment_of

MINUTE = 60_000_000
T0 = 20_514 * DAY_US + 13 * 60 * MINUTE  # 13:00 UTC
WEEK, FINAL = 7 * DAY_US, 37 * DAY_US
EXPERIMENT = experiment_of(
    "socks",
    settings=PolicySettings(delay=DelayHandling.MODEL),
    metrics=(
        CustomMetric("signups", MetricKind.PROPORTION, "signup", timedelta(days=1)),
        CustomMetric("depth", MetricKind.RATIO, "page"),
    ),
)
RULES = FoldRules(EXPERIMENT, "UTC")


def fold(**facts: object) -> Contribution:
    (one,) = fold_unit(RULES, UnitFacts((Enrolment(1, 0, T0, "socks", "", 3, 1),), **facts))  # type: ignore[arg-type]
    return one


def slot(kind: Slot, at_us: int) -> SlotFact:
    return SlotFact(kind, 1, 0, at_us)


def order(number: int, at_us: int, *refunds: Refund) -> OrderFact:
    return OrderFact(f"o{number}", at_us, "EUR", 1000, 400, refunds=refunds)


def test_a_unit_without_outcomes_leaves_the_hour_of_its_anchor():
    assert fold().bins == {HOURS: 14}
    (plain,) = fold_unit(
        FoldRules(experiment_of("socks"), "UTC"), UnitFacts((Enrolment(1, 0, T0, "socks", "", 3, 1),))
    )
    assert plain.bins == {}


def test_every_experiment_keeps_the_ages_of_orders_and_of_what_came_back():
    """Without a delay model neither the hour nor anything else; a refund beyond both windows has no age."""
    rules = FoldRules(experiment_of("socks"), "UTC")
    back = [Refund(100, None, 0, at_us) for at_us in (T0 + 3 * DAY_US, T0 + FINAL + 1)]
    orders = (order(1, T0 + MINUTE, back[0]), order(2, T0 + DAY_US, back[1]), order(3, T0 + WEEK))
    slots = (slot(Slot.EXPOSURE, T0),)
    facts = UnitFacts((Enrolment(1, 0, T0, "socks", "", 3, 1),), slots=slots, orders=orders)
    (found,) = fold_unit(rules, facts)
    ages = {name: bin_number for name, bin_number in found.bins.items() if "@" in name}
    assert ages == {
        binned("orders", age_bin(MINUTE, WEEK)): 1,
        binned("orders", age_bin(DAY_US, WEEK)): 1,
        binned("refunded_orders", age_bin(3 * DAY_US, FINAL)): 1,
    }
    assert HOURS not in found.bins
    assert found.vector["refund_loss"] == 200
    modelled = fold(slots=slots, orders=orders)
    assert ages.items() < modelled.bins.items()


def test_clicks_and_takes_count_from_the_exposure_on_and_the_first_of_each():
    """Clicked before it was exposed: both came with the exposure. Past the window nothing counts."""
    found = fold(
        slots=(
            slot(Slot.CLICK, T0 + MINUTE),
            slot(Slot.EXPOSURE, T0 + 5 * MINUTE),
            slot(Slot.EXPOSURE, T0 + 2 * DAY_US),
            slot(Slot.ACCEPT, T0 + DAY_US),
            slot(Slot.ACCEPT, T0 + 3 * DAY_US),
        )
    )
    ages = {"exposed": 5 * MINUTE, "clicked": 5 * MINUTE, "took": DAY_US}
    assert found.bins == {HOURS: 14} | {binned(k, age_bin(age, WEEK)): 1 for k, age in ages.items()}
    assert fold(slots=(slot(Slot.CLICK, T0),)).bins == {HOURS: 14}
    assert fold(slots=(slot(Slot.EXPOSURE, T0 + WEEK),)).bins == {HOURS: 14}
    early = fold(slots=(slot(Slot.EXPOSURE, T0 - MINUTE),))  # a browser whose clock lags ours
    assert early.bins == {HOURS: 14, "exposed@1": 1}


def test_orders_count_each_conversion_once_and_refunds_have_both_windows():
    refund = Refund(300, 0, 0, T0 + 20 * DAY_US)
    late = Refund(300, 0, 0, T0 + FINAL + 1)
    hasty = Refund(100, 0, 0, T0)  # dated before its order: it came with it
    found = fold(
        orders=(
            order(1, T0 - 1),
            order(2, T0 + 3 * DAY_US, refund, late),
            order(3, T0 + MINUTE, late),
            order(4, T0 + 3 * DAY_US, hasty),
            order(5, T0 + WEEK, refund),
        )
    )
    bins = {name: n for name, n in found.bins.items() if "@" in name}
    assert bins == {
        binned("converted", age_bin(MINUTE, WEEK)): 1,
        binned("orders", age_bin(MINUTE, WEEK)): 1,
        binned("orders", age_bin(3 * DAY_US, WEEK)): 2,
        binned("refunded_orders", age_bin(20 * DAY_US, FINAL)): 1,
        binned("refunded_orders", age_bin(3 * DAY_US, FINAL)): 1,
    }
    assert found.vector["refund_loss"] == 300 + 300 + 300 + 100
    assert fold(orders=(order(1, T0, replace(refund, currency="USD")),)).vector.get("refund_loss") is None


def test_custom_events_count_the_first_and_all_within_their_own_horizon():
    facts = [
        ("signup", 2 * MINUTE),
        ("signup", DAY_US),
        ("page", 3 * DAY_US),
        ("page", 0),
        ("page", WEEK),
        ("x", 1),
    ]
    found = fold(customs=tuple(CustomFact(name, T0 + age, 1) for name, age in facts))
    assert {name: n for name, n in found.bins.items() if "@" in name} == {
        binned("signups:had", age_bin(2 * MINUTE, DAY_US)): 1,
        binned("signups:count", age_bin(2 * MINUTE, DAY_US)): 1,
        "depth:had@1": 1,
        "depth:count@1": 1,
        binned("depth:count", age_bin(3 * DAY_US, WEEK)): 1,
    }


def test_corrections_restate_a_cell_exactly_and_in_any_order():
    """An order adjusted, refunded, cancelled: each time the old contribution out and the new one in."""
    other = fold(orders=(order(9, T0 + MINUTE),), slots=(slot(Slot.EXPOSURE, T0),))
    cell = Cell(other.key, frozenset({"none", "socks"}))
    cell.add_unit(other.vector, other.bins)
    before = json.dumps([cell.moments.sums, cell.moments.products, cell.histograms], sort_keys=True)
    first = order(1, T0 + DAY_US)
    cancel = Refund(None, None, 0, T0 + 5 * DAY_US, is_cancel=True)
    steps = [
        first,
        replace(first, adjustments=(Adjustment(250, 100),)),
        replace(first, refunds=(Refund(400, None, 500_000, T0 + 2 * DAY_US),)),
        replace(first, refunds=(cancel, Refund(400, None, 500_000, T0 + 2 * DAY_US))),
    ]
    held = None
    for step in steps:
        if held is not None:
            cell.add_unit(held.vector, held.bins, -1)
        held = fold(orders=(step,))
        cell.add_unit(held.vector, held.bins)
    assert held is not None
    assert sum(events_of(cell.histograms, "refunded_orders")) == 1
    # Of the cost, 50 % of two fifths came back, and all of the rest.
    assert cell.moments.sum("refund_loss") == 1000 - 80 - 240
    backwards = fold(orders=(replace(first, refunds=tuple(reversed(steps[-1].refunds))),))
    assert backwards == held
    cell.add_unit(held.vector, held.bins, -1)
    assert json.dumps([cell.moments.sums, cell.moments.products, cell.histograms], sort_keys=True) == before
    assert len(events_of(cell.histograms, "orders")) == BINS
    assert bin_of(1) == 1
