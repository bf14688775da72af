"""What customers do when a variant is shown to them: deterministic, since their chances are drawn already."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.worlds.cells import Floats, Ints
from sim.worlds.customers import Customers, Row
from sim.worlds.grid import Grid
from sim.worlds.laws import Laws, laws_of
from sim.worlds.people import RATING_SCALE
from sim.worlds.timing import DAY_US, SECOND_US
from sim.worlds.world import World

SEE_AFTER_US = 5 * SECOND_US
CLICK_AFTER_US = 20 * SECOND_US
ANSWER_AFTER_US = 30 * SECOND_US
NEVER = -1


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What happens to n customers: times in microseconds since the arrival (-1 = never), minor units.

    Arrays of shape (n,), `repeat_us` of (periods, n); all later orders of a customer are alike. An order's
    margin is amount - cost - refunded + recovered.
    """

    shown: Ints  # index of the variant in `World.effects`
    exposed_us: Ints
    clicked_us: Ints
    took_us: Ints
    declined_us: Ints
    cart_us: Ints
    order_us: Ints
    amount_minor: Ints
    cost_minor: Ints
    refund_us: Ints
    refunded_minor: Ints
    recovered_minor: Ints
    abandoned_us: Ints
    rated_us: Ints
    rating: Ints  # 0 to 10; -1 without one
    repeat_us: Ints
    repeat_amount_minor: Ints
    repeat_cost_minor: Ints

    def __len__(self) -> int:
        return len(self.exposed_us)


def outcomes(world: World, customers: Customers, shown: Ints) -> Outcomes:
    """What each customer does when the variant of that index is shown; `shown`: (n,) indices of effects."""
    laws, u, cell = laws_of(world, customers.day), customers.u, customers.cell
    arms, n_cells = laws.take.shape
    shown = np.asarray(shown, np.int64)
    pair = shown * n_cells + cell
    sees = u[Row.SEE] < laws.see[cell]
    takes = sees & (u[Row.TAKE] < laws.take.ravel()[pair])
    is_offer = np.array([effect.is_offer for effect in world.effects])[shown] & sees
    clicks = is_offer & (takes | (u[Row.CLICK] < laws.click.ravel()[pair]))
    place = (sees.astype(np.int64) + takes) * (arms * n_cells) + pair
    buys = u[Row.BUY] < laws.buy.ravel()[place]
    buyers = np.flatnonzero(buys)
    carts = buys | (u[Row.CART] < laws.cart.ravel()[place])
    order_us = _spread(buyers, world.delays.order.at(u[Row.ORDER_AFTER, buyers]), len(cell))
    abandon_us = int(world.delays.abandonment_h * 3600 * SECOND_US)
    in_time = buys & (order_us < abandon_us)
    rated_us, rating = _ratings(world, laws, customers, shown, sees, buyers, order_us)
    money = _money(world, laws, customers, place, buyers, order_us)
    return Outcomes(
        shown=shown,
        exposed_us=np.where(sees, SEE_AFTER_US, NEVER),
        clicked_us=np.where(clicks, CLICK_AFTER_US, NEVER),
        took_us=np.where(takes, ANSWER_AFTER_US, NEVER),
        declined_us=np.where(is_offer & ~takes & ~customers.is_bot, ANSWER_AFTER_US, NEVER),
        cart_us=np.where(carts, 0, NEVER),
        order_us=order_us,
        abandoned_us=np.where(carts & ~in_time, abandon_us, NEVER),
        rated_us=rated_us,
        rating=rating,
        **money,
        **_repeats(world, laws, customers, place, buyers, order_us),
    )


def _money(
    world: World, laws: Laws, customers: Customers, place: Ints, buyers: Ints, order_us: Ints
) -> dict[str, Ints]:
    """The first order and its refund: a part of the amount, and the same part of the goods."""
    n, at, u = len(customers), place[buyers], customers.u
    multiplier = customers.multiplier[buyers]
    amount = np.rint(laws.amount.ravel()[at] * multiplier).astype(np.int64)
    cost = np.rint(laws.cost.ravel()[at] * multiplier).astype(np.int64)
    back = np.minimum(cost, np.rint(laws.recovered.ravel()[at] * multiplier).astype(np.int64))
    chance = laws.refund.ravel()[at]
    refunds = u[Row.REFUND, buyers] < chance
    refunded = buyers[refunds]
    # of those below the chance, u / chance is uniform again: no draw of its own is needed
    part = _part(world.refunded_part, u[Row.REFUND, refunded] / chance[refunds])
    given = np.maximum(1, np.rint(amount[refunds] * part).astype(np.int64))
    goods = np.rint(back[refunds] * part).astype(np.int64)
    delay = world.delays.refund.at(u[Row.REFUND_AFTER, refunded])
    return {
        "amount_minor": _spread(buyers, amount, n, 0),
        "cost_minor": _spread(buyers, cost, n, 0),
        "refund_us": _spread(refunded, order_us[refunded] + delay, n),
        "refunded_minor": _spread(refunded, np.minimum(given, amount[refunds]), n, 0),
        "recovered_minor": _spread(refunded, goods, n, 0),
    }


def _part(law: Grid, u: Floats) -> Floats:
    """The value of a law at each chance: the inverse of its distribution function."""
    cumulated = np.cumsum(law.weights)
    return np.array(law.values)[np.searchsorted(cumulated / cumulated[-1], u, side="right")]


def _ratings(
    world: World,
    laws: Laws,
    customers: Customers,
    shown: Ints,
    sees: NDArray[np.bool_],
    buyers: Ints,
    order_us: Ints,
) -> tuple[Ints, Ints]:
    """When and how those who ordered rate: a score of their segment, moved by what they saw."""
    n, u = len(customers), customers.u
    segment = customers.segment[buyers]
    rates = np.array([one.rates for one in world.segments])
    who = u[Row.RATE, buyers] < rates[segment]
    raters, segment = buyers[who], segment[who]
    shift = np.where(sees[raters], laws.rating_shift[shown[raters], segment], 0.0)
    score = np.zeros(len(raters))
    for index, one in enumerate(world.segments):
        mine = segment == index
        cumulated = np.cumsum(one.rating.weights)
        chosen = np.searchsorted(cumulated / cumulated[-1], u[Row.SCORE, raters[mine]], side="right")
        score[mine] = np.array(one.rating.values)[chosen]
    # floor(shift + u) has the mean `shift`, so a whole score moves by fractions on average
    score = np.clip(score + np.floor(shift + u[Row.SHIFT, raters]), 0, RATING_SCALE)
    delay = world.delays.rating.at(u[Row.RATE_AFTER, raters])
    return _spread(raters, order_us[raters] + delay, n), _spread(raters, score.astype(np.int64), n)


def _repeats(
    world: World, laws: Laws, customers: Customers, place: Ints, buyers: Ints, order_us: Ints
) -> dict[str, Ints]:
    """Later orders: one in a period with the chance of the state, of the same basket without any offer."""
    n, u, rule = len(customers), customers.u, world.repeats
    chance = laws.repeat.ravel()[place[buyers]]
    again = u[Row.AGAIN :, buyers] < chance
    began = order_us[buyers] + int(rule.after_days * DAY_US)
    point = u[Row.AGAIN_AT, buyers]
    times = np.full((rule.times, n), NEVER)
    for period in range(rule.times):
        since = began + ((period + point) * (rule.every_days * DAY_US)).astype(np.int64)
        times[period, buyers] = np.where(again[period], since, NEVER)
    comes = buyers[again.any(axis=0)]
    pair = customers.cell[comes]
    plain_amount, plain_cost = laws.amount[0, 0], laws.cost[0, 0]
    factor = customers.multiplier[comes]
    return {
        "repeat_us": times,
        "repeat_amount_minor": _spread(comes, np.rint(plain_amount[pair] * factor).astype(np.int64), n, 0),
        "repeat_cost_minor": _spread(comes, np.rint(plain_cost[pair] * factor).astype(np.int64), n, 0),
    }


def _spread(where: Ints, values: Ints, n: int, elsewhere: int = NEVER) -> Ints:
    spread = np.full(n, elsewhere)
    spread[where] = values
    return spread
