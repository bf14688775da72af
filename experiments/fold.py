"""`fold_unit`: from everything recorded of one unit to what it contributes to the experiment.

The ledger is append-only and this is the one function that gives it meaning. It is a pure function of
the *set* of facts: refunds before their order, takes before their exposure, links before or after the
assignments they join all give the same contributions, in integers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from experiments.ages import HOURS, Window, ages_of, hour_of, order_ages
from experiments.allocation.features import Columns
from experiments.facts import CartFact, Enrolment, OrderFact, Slot, SlotFact, UnitFacts
from experiments.histogram import bin_of
from experiments.model import Anchor, CustomMetric, DelayHandling, Experiment, MetricKind
from experiments.orders import OrderBalance, convert, fold_order
from experiments.statistics import (
    DIVIDED,
    FIXED_POINT,
    MONEY_TOTALS,
    OVER_P,
    CellKey,
    custom_features,
    over_propensity,
)

DAY_US = 86_400_000_000
PRE_PERIOD_US = 30 * DAY_US
HORIZONS_US = {"ltv_30d": 30 * DAY_US, "ltv_90d": 90 * DAY_US, "ltv_180d": 180 * DAY_US}
REPEAT_HORIZON_US = 90 * DAY_US
PROMOTER_FIXED = round(0.9 * FIXED_POINT)
DETRACTOR_FIXED = round(0.6 * FIXED_POINT)

Caps = Mapping[str, tuple[int, int]]
"""Winsorising caps by money total: (low, high) in minor units."""


class Contribution(NamedTuple):
    """What one enrolment adds to its cell."""

    unit_no: int
    period: int
    key: CellKey
    vector: Mapping[str, int]
    bins: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FoldRules:
    """The settings a fold depends on; all of them frozen once the experiment has started."""

    experiment: Experiment
    time_zone: str
    caps: Caps = field(default_factory=dict)
    window_us: int = field(init=False)
    final_us: int = field(init=False)
    columns: Columns | None = field(init=False)
    divided: tuple[str, ...] = field(init=False)  # features kept over the propensity too

    def __post_init__(self) -> None:
        window_us = micros(self.experiment.attribution_window)
        object.__setattr__(self, "window_us", window_us)
        features = self.experiment.policy.features
        object.__setattr__(self, "columns", Columns(features) if features else None)
        customs = (name for metric in self.experiment.metrics for name in custom_features(metric.key))
        object.__setattr__(self, "divided", (*DIVIDED, *customs) if features else ())
        object.__setattr__(self, "final_us", window_us + micros(self.experiment.refund_window))


def fold_unit(rules: FoldRules, facts: UnitFacts) -> list[Contribution]:
    """The contributions of one unit to one experiment: one for each enrolment that counts.

    The earliest enrolment counts and takes the outcomes of those it supersedes; with `reassign_after`
    a later one counts again once that long has passed.
    """
    serving = (
        serving_enrolments(facts.enrolments, rules.experiment.reassign_after)
        if len(facts.enrolments) > 1
        else [facts.enrolments]
    )
    balances = [(order, fold_order(order)) for order in facts.orders]
    return [_fold_enrolment(rules, facts, balances, group) for group in serving]


def serving_enrolments(
    enrolments: Sequence[Enrolment], reassign_after: timedelta | None
) -> list[list[Enrolment]]:
    """Groups of enrolments, the first of each being the one that serves, the rest superseded by it."""
    groups: list[list[Enrolment]] = []
    for enrolment in sorted(enrolments, key=lambda e: (e.at_us, e.unit_no, e.period)):
        opens = not groups or (
            reassign_after is not None and enrolment.at_us >= groups[-1][0].at_us + micros(reassign_after)
        )
        if opens:
            groups.append([enrolment])
        else:
            groups[-1].append(enrolment)
    return groups


def micros(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // timedelta(microseconds=1)


def local_day(at_us: int, time_zone: str) -> date:
    """The calendar day of an instant in a time zone."""
    return datetime.fromtimestamp(at_us // 1_000_000, ZoneInfo(time_zone)).date()


def cart_deadlines(carts: Sequence[CartFact], orders: Sequence[OrderFact]) -> dict[str, int]:
    """When each cart without an order counts as abandoned, for carts not yet reported abandoned."""
    reported = {cart.cart_id for cart in carts if cart.is_abandonment}
    return {
        cart_id: opened.at_us + opened.abandon_after_us
        for cart_id, opened in _opened(carts).items()
        if cart_id not in reported and not _is_ordered(opened, orders)
    }


def _fold_enrolment(
    rules: FoldRules,
    facts: UnitFacts,
    balances: Sequence[tuple[OrderFact, OrderBalance]],
    group: Sequence[Enrolment],
) -> Contribution:
    first = group[0]
    members = {(enrolment.unit_no, enrolment.period) for enrolment in group}
    slots = [slot for slot in facts.slots if (slot.unit_no, slot.period) in members]
    anchor_us = _anchor(rules.experiment.anchor, first, slots)
    vector: dict[str, int] = {"assigned": 1}
    totals: dict[str, int] = {}
    if any(enrolment.variant != first.variant for enrolment in group):
        vector["crossover"] = 1
    if anchor_us is not None:
        end_us = anchor_us + rules.window_us
        vector["units"] = 1
        if rules.columns is not None:
            vector |= rules.columns.vector_of(first.features or rules.columns.nothing)
        _slots(vector, slots, end_us)
        if balances:
            _orders(vector, totals, rules.experiment.currency, balances, anchor_us, end_us)
        if facts.carts:
            _carts(vector, facts, anchor_us, end_us)
        if facts.ratings:
            ratings = [r.score_fixed for r in facts.ratings if anchor_us <= r.at_us < end_us]
            vector |= {"ratings": len(ratings), "rating_sum": sum(ratings)}
        if facts.customs or facts.ratings:
            for metric in rules.experiment.metrics:
                _custom(vector, facts, metric, anchor_us, end_us)
        if totals:
            _capped(vector, totals, rules.caps)
        if rules.divided and first.share:
            _divided(vector, rules.divided, first.share)
    day = local_day(first.at_us if anchor_us is None else anchor_us, rules.time_zone)
    bins = {name: bin_of(total) for name, total in totals.items() if total}
    if anchor_us is not None:
        window = Window(anchor_us, anchor_us + rules.window_us, anchor_us + rules.final_us)
        if balances:
            vector["refund_loss"] = _refund_loss(rules.experiment.currency, balances, window)
            bins |= order_ages(window, balances)
        if rules.experiment.policy.delay is DelayHandling.MODEL:
            bins[HOURS] = 1 + hour_of(anchor_us, day, ZoneInfo(rules.time_zone))
            bins |= ages_of(rules.experiment, window, slots, balances, facts.customs)
    return Contribution(
        unit_no=first.unit_no,
        period=first.period,
        key=CellKey(first.variant, first.segment, first.candidate_set, day, first.epoch),
        vector={name: value for name, value in vector.items() if value},
        bins=bins,
    )


def _anchor(anchor: Anchor, first: Enrolment, slots: Sequence[SlotFact]) -> int | None:
    if anchor is Anchor.ASSIGNMENT:
        return first.at_us
    seen = [slot.at_us for slot in slots if slot.slot is Slot.EXPOSURE]
    # A browser's clock may lag ours: what names a decision cannot have come before it.
    return max(first.at_us, min(seen)) if seen else None


def _slots(vector: dict[str, int], slots: Sequence[SlotFact], end_us: int) -> None:
    """Exposed, clicked, took: a click or a take counts only for a unit that was exposed."""
    kinds = {slot.slot for slot in slots if slot.at_us < end_us}
    if Slot.EXPOSURE in kinds:
        vector["exposed"] = 1
        vector["clicked"] = int(Slot.CLICK in kinds)
        vector["took"] = int(Slot.ACCEPT in kinds)


def _orders(
    vector: dict[str, int],
    totals: dict[str, int],
    currency: str,
    balances: Sequence[tuple[OrderFact, OrderBalance]],
    anchor_us: int,
    end_us: int,
) -> None:
    later = 0
    for order, balance in balances:
        age_us = order.at_us - anchor_us
        rate = "1" if order.currency == currency else order.rates.get(currency)
        if age_us < 0:
            if age_us >= -PRE_PERIOD_US and rate is not None:
                _add(vector, "pre_margin", _margin_then(order, balance, rate, currency, anchor_us))
            continue
        later += age_us < REPEAT_HORIZON_US
        margin = balance.margin_minor
        value = 0 if rate is None or margin is None else convert(margin, rate, order.currency, currency)
        for feature, horizon_us in HORIZONS_US.items():
            if age_us >= horizon_us:
                continue
            if rate is None:
                _add(vector, f"{feature}_unconverted", 1)
            elif margin is None:
                _add(vector, f"{feature}_unknown_cost", 1)
            else:
                vector[feature] = vector.get(feature, 0) + value
        if order.at_us < end_us:
            _one_order(vector, totals, order, balance, rate, currency)
    vector["buyer_90d"] = int(later >= 1)
    vector["repeat_90d"] = int(later >= 2)


def _margin_then(order: OrderFact, balance: OrderBalance, rate: str, currency: str, anchor_us: int) -> int:
    """An earlier order's margin as refunds before the anchor left it; 0 while its cost is unknown.

    Later ones may be the offer's doing, and a covariate must not be.
    """
    earlier = tuple(refund for refund in order.refunds if refund.at_us < anchor_us)
    then = balance if len(earlier) == len(order.refunds) else fold_order(replace(order, refunds=earlier))
    margin = then.margin_minor
    return 0 if margin is None else convert(margin, rate, order.currency, currency)


def _one_order(
    vector: dict[str, int],
    totals: dict[str, int],
    order: OrderFact,
    balance: OrderBalance,
    rate: str | None,
    currency: str,
) -> None:
    """An order in the window: it counts in conversion even where its money cannot be told."""
    vector["converted"] = 1
    _add(vector, "orders", 1)
    if balance.is_refunded:
        _add(vector, "refunded_orders", 1)
        _add(vector, "cancelled_orders", int(balance.is_cancelled))
    if rate is None:
        _add(vector, "unconverted_orders", 1)
        return
    revenue = convert(balance.amount_minor, rate, order.currency, currency)
    refunded = convert(balance.refunded_minor, rate, order.currency, currency)
    money = [("revenue", revenue), ("refunded_value", refunded)]
    margin = balance.margin_minor
    if margin is None:
        _add(vector, "unknown_cost_orders", 1)
    else:
        money.append(("margin", convert(margin, rate, order.currency, currency)))
    for name, value in money:
        _add(totals, name, value)
        _add(vector, name, value)
    _add(totals, "net_revenue", revenue - refunded)


def _refund_loss(currency: str, balances: Sequence[tuple[OrderFact, OrderBalance]], window: Window) -> int:
    """What refunds took from the unit's margin: effective refunds less recovered cost."""
    loss = 0
    for order, balance in balances:
        rate = "1" if order.currency == currency else order.rates.get(currency)
        is_within = window.anchor_us <= order.at_us < window.end_us
        if is_within and balance.is_refunded and balance.cost_minor is not None and rate is not None:
            lost = balance.refunded_minor - balance.recovered_minor
            loss += convert(lost, rate, order.currency, currency)
    return loss


def _carts(vector: dict[str, int], facts: UnitFacts, anchor_us: int, end_us: int) -> None:
    reported = {cart.cart_id for cart in facts.carts if cart.is_abandonment}
    for cart_id, opened in _opened(facts.carts).items():
        if anchor_us <= opened.at_us < end_us:
            _add(vector, "carts", 1)
            if cart_id in reported and not _is_ordered(opened, facts.orders):
                _add(vector, "abandoned", 1)


def _opened(carts: Sequence[CartFact]) -> dict[str, CartFact]:
    """The first sight of each cart."""
    opened: dict[str, CartFact] = {}
    for cart in carts:
        known = opened.get(cart.cart_id)
        if known is None or _instant(cart) < _instant(known):
            opened[cart.cart_id] = cart
    return opened


def _instant(cart: CartFact) -> tuple[int, bool, int]:
    """Of sights at one instant the cart's own comes first, then that of the shorter wait."""
    return cart.at_us, cart.is_abandonment, cart.abandon_after_us


def _is_ordered(opened: CartFact, orders: Sequence[OrderFact]) -> bool:
    """Whether an order closed the cart in time: one that names it, or a later one that names none."""
    deadline_us = opened.at_us + opened.abandon_after_us
    for order in orders:
        if order.at_us < deadline_us and (
            order.cart_id == opened.cart_id or (order.cart_id is None and order.at_us >= opened.at_us)
        ):
            return True
    return False


def _custom(
    vector: dict[str, int], facts: UnitFacts, metric: CustomMetric, anchor_us: int, end_us: int
) -> None:
    until_us = end_us if metric.window is None else anchor_us + micros(metric.window)
    if metric.kind is MetricKind.NPS:
        values = [_promotes(fact.score_fixed) for fact in facts.ratings if anchor_us <= fact.at_us < until_us]
    else:
        values = [
            fact.value_fixed
            for fact in facts.customs
            if fact.name == metric.event and anchor_us <= fact.at_us < until_us
        ]
    had, count, total = custom_features(metric.key)
    vector |= {had: int(bool(values)), count: len(values), total: sum(values)}


def _promotes(score_fixed: int) -> int:
    """1 for a promoter (9 of 10 or more), -1 for a detractor (6 of 10 or less), 0 between."""
    return int(score_fixed >= PROMOTER_FIXED) - int(score_fixed <= DETRACTOR_FIXED)


def _divided(vector: dict[str, int], names: Sequence[str], share: int) -> None:
    """Each feature over the propensity of the variant the unit got: what it says of all units like it."""
    for name in names:
        if value := vector.get(name, 0):
            vector[name + OVER_P] = over_propensity(value, share)


def _capped(vector: dict[str, int], totals: Mapping[str, int], caps: Caps) -> None:
    for name in MONEY_TOTALS:
        low, high = caps.get(name, (None, None))
        total = totals.get(name, 0)
        if low is not None and high is not None and total:
            total = min(max(total, low), high)
        vector[f"{name}_capped"] = total


def _add(store: dict[str, int], name: str, amount: int) -> None:
    if amount:
        store[name] = store.get(name, 0) + amount
