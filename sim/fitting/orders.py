"""Whether they order, when, and what becomes of it: conversion, delays, refunds, later orders, history.

Every chance is events over customers, each counted by the part of its time it has had: sum of
P(delay < age). So young customers neither lower a rate nor hide a late refund. What is uncertain about the
delay goes into the rate: each draw of the rate rests on a draw of the delay.
"""

import numpy as np

from sim.fitting.delays import DelayFit, fit_delay
from sim.fitting.found import DRAWS, Found
from sim.fitting.log import DAY_S, Bools, Floats, Ints, ShopLog
from sim.fitting.rates import beta, law, mean_of
from sim.fitting.season import calendar, fit_profile
from sim.fitting.traffic import keep_flat, tell
from sim.worlds.timing import DELAYS, REPEATS, Delay, Repeats

EVERY_DAYS = (28.0, 14.0, 7.0, 3.0, 1.0)
YEAR, REPEATS_MAX = 364, 52
PERIOD_SEEN = 0.25
"""Part of a period that must have been seen of somebody; the last one counts by its part."""
TWICE_MAX = 0.05
"""Of the periods with an order, those with more than one."""
WHOLE_WITHIN = 0.005
"""A refund that lacks no more than this of its order is one of the whole: shipping, rounding, vouchers."""
PARTS_MAX, PART_MIN = 5, 10


def order_delay(log: ShopLog, found: Found) -> DelayFit | None:
    """The delay from visit to order, where both have a time of the day."""
    waited = log.order_s - log.arrival_s
    if not (log.tells.visits and log.tells.hours) or not (waited > 0).any():
        return None
    ages = np.minimum(log.age_s, log.within_s)
    return fit_delay(waited, ages, found.rng, DRAWS)


def refund_delay(log: ShopLog, found: Found) -> DelayFit | None:
    """The delay from order to refund, of those who ordered."""
    bought = log.ordered
    if not log.tells.refund_times or not bought.any():
        return None
    waited = np.maximum(0.0, log.refund_s - log.order_s)[bought]
    return fit_delay(waited, (log.end_s - log.order_s)[bought], found.rng, DRAWS)


def control_of(log: ShopLog) -> Bools:
    """Customers to whom nothing was offered."""
    return log.variant == 0


def fit_conversion(log: ShopLog, delay: DelayFit | None, found: Found) -> Floats | None:
    """`conversion[...]` and its season; returns what each customer adds to the expected orders: (n,).

    Where there are no visits it is assumed: those who did not order are not in the log.
    """
    keys = [f"conversion[{key}]" for key in log.segments]
    if not log.tells.visits:
        for key in keys:
            found.assumed(key, "conversion")
        keep_flat(found, "conversion", has_week=False, has_year=False)
        return None
    ages = np.minimum(log.age_s, log.within_s)
    reached = np.ones((len(log), 1)) if delay is None else delay.reached(ages)
    weights = np.ones(1) if delay is None else delay.weights
    factors = _season(log, reached @ weights, found)
    chosen = control_of(log)
    events = _by(log, chosen & log.ordered, len(log.segments))
    draws = np.ones((DRAWS, 1)) if delay is None else delay.draws
    rate, drawn = _rates(log, chosen, events, reached * factors[:, np.newaxis], weights, draws, found)
    found.many(keys, rate, drawn, _by(log, chosen, len(log.segments)))
    return factors * (reached @ weights) * rate[log.segment]


def _season(log: ShopLog, part: Floats, found: Found) -> Floats:
    """Factor of each customer's day on conversion, (n,), as the week and the year have it."""
    if not log.tells.days:
        keep_flat(found, "conversion", has_week=False, has_year=False)
        return np.ones(len(log))
    # A variant's own effect must not be taken for the week's: customers count by its rate
    ordered = log.ordered.astype(float)
    kinds = max(1, len(log.variants))
    rates = _per(ordered, log.variant, kinds) / np.maximum(1.0, _per(part, log.variant, kinds))
    expected = part * rates[log.variant]
    counts = _per(ordered, log.day, log.days)
    exposure = _per(expected, log.day, log.days)
    weekday, place = calendar(log.first_day, log.days)
    came = _per(np.ones(len(log)), weekday[log.day], 7)
    of_week = _per(ordered, weekday[log.day], 7) / np.maximum(1.0, came)
    chance = np.minimum(0.99, of_week)[weekday]
    profile = fit_profile(counts, exposure, weekday, place, found.rng, DRAWS, chance=chance)
    tell(found, "conversion", profile, float(log.ordered.sum()))
    return profile.factors(weekday, place)[log.day]


def fit_refunds(log: ShopLog, delay: DelayFit | None, found: Found) -> Floats | None:
    """`refund[...]`, the part of orders with any; returns what each customer adds to those expected: (n,).

    Of orders with nothing taken; where takes are not told, of the control's.
    """
    keys = [f"refund[{key}]" for key in log.segments]
    if not log.tells.refunds or not log.ordered.any():
        for key in keys:
            found.assumed(key, "refund")
        return None
    plain = plain_orders(log)
    age = np.where(log.ordered, log.end_s - np.nan_to_num(log.order_s), 0.0)
    reached = np.ones((len(log), 1)) if delay is None else delay.reached(age)
    weights = np.ones(1) if delay is None else delay.weights
    draws = np.ones((DRAWS, 1)) if delay is None else delay.draws
    events = _by(log, plain & log.returned, len(log.segments))
    rate, drawn = _rates(log, plain, events, reached, weights, draws, found)
    found.many(keys, rate, drawn, _by(log, plain, len(log.segments)))
    return (reached @ weights) * rate[log.segment] * log.ordered


def plain_orders(log: ShopLog) -> Bools:
    """Customers whose order holds nothing that the experiment offered."""
    return log.ordered & (~log.took if log.tells.takes else control_of(log))


def fit_parts(log: ShopLog, found: Found) -> tuple[float, ...]:
    """`refunded_part[...]`, the law of the part of an order that comes back, and `recovered` of its cost.

    Orders that come back whole are a value of their own; of the others there are up to five, the means of
    equally many. Parts are those seen by the end of the log: an order of which a second part comes later
    counts with the first.
    """
    told = log.returned & (log.refunded > 0) & (log.amount > 0)
    part = np.divide(log.refunded, log.amount, out=np.ones(len(log)), where=told)
    _recovered(log, part, found)
    if not log.tells.refunds or not told.any():
        found.fixed(part_name(1.0), 1.0)
        return (1.0,)
    is_whole = part[told] > 1 - WHOLE_WITHIN
    partial = np.sort(part[told][~is_whole])
    groups = np.array_split(partial, max(1, min(PARTS_MAX, len(partial) // PART_MIN)))
    counts: dict[float, float] = {}
    for group in groups:
        if len(group):
            value = max(0.001, round(float(group.mean()), 3))
            counts[value] = counts.get(value, 0.0) + len(group)
    if is_whole.any():
        counts[1.0] = counts.get(1.0, 0.0) + float(is_whole.sum())
    numbers = np.array(list(counts.values()))
    found.many([part_name(value) for value in counts], *law(numbers, found.rng, DRAWS), numbers)
    return tuple(counts)


def part_name(value: float) -> str:
    """What the chance of a part is called."""
    return f"refunded_part[{value:g}]"


def _recovered(log: ShopLog, part: Floats, found: Found) -> None:
    """Cost that came back over the cost of the goods that did."""
    told = log.returned & ~np.isnan(log.recovered) & (log.cost > 0)
    if not log.tells.recovered or not told.any():
        found.assumed("recovered", "recovered")
        return
    share = np.clip(log.recovered[told] / (log.cost * part)[told], 0, 1)
    error = share.std() / np.sqrt(len(share))
    draws = np.clip(share.mean() + error * found.rng.standard_normal(DRAWS), 0, 1)
    found.data("recovered", float(share.mean()), draws, len(share))


def fit_repeats(log: ShopLog, found: Found) -> Repeats:
    """`repeat[...]` in periods that begin where the earliest of the second orders come."""
    keys = [f"repeat[{key}]" for key in log.segments]
    rule = found.mapping.repeats or _periods(log)
    if not log.tells.returns or rule is None:
        for key in keys:
            found.assumed(key, "repeat")
        return found.mapping.repeats or REPEATS
    order_age = np.where(log.ordered, log.end_s - np.nan_to_num(log.order_s), 0.0)
    starts = (rule.after_days + rule.every_days * np.arange(rule.times)) * DAY_S
    width = rule.every_days * DAY_S
    part = np.clip((order_age[:, np.newaxis] - starts) / width, 0, 1).sum(axis=1)
    since = log.later_s - log.order_s[log.later_unit]
    period = np.floor((since - starts[0]) / width).astype(np.int64)
    inside = (period >= 0) & (period < rule.times)
    pairs = np.unique(np.stack([log.later_unit[inside], period[inside]]), axis=1)
    events = np.bincount(log.segment[pairs[0]], minlength=len(keys)).astype(float)
    exposure = _per(part, log.segment, len(keys))
    a, b = beta(events, exposure)
    drawn = found.rng.beta(a, b, (DRAWS, len(keys)))
    found.many(keys, mean_of(a, b), drawn, _by(log, log.ordered, len(keys)))
    return rule


def _periods(log: ShopLog) -> Repeats | None:
    """Periods from the 2 % quantile of the time to the second order on, for a year or as far as was seen.

    They are the longest of `EVERY_DAYS` that fit into what was seen and in which hardly anybody orders twice:
    a world's customers order once in a period at most.
    """
    if not log.ordered.any() or len(log.later_unit) < 20:
        return None
    watched = (log.end_s - log.order_s[log.ordered]).max() / DAY_S
    _, first = np.unique(log.later_unit, return_index=True)
    waited = (log.later_s - log.order_s[log.later_unit]) / DAY_S
    after = float(np.floor(np.quantile(waited[first], 0.02)))
    found = None
    for every in EVERY_DAYS:
        seen = (watched - after) / every
        if seen < PERIOD_SEEN:
            continue
        times = int(min(YEAR // every, REPEATS_MAX, np.ceil(seen)))
        found = Repeats(after, every, times)
        period = np.floor((waited - after) / every).astype(np.int64)
        _, orders = np.unique(np.stack([log.later_unit, period]), axis=1, return_counts=True)
        if (orders > 1).mean() <= TWICE_MAX:
            break
    return found


def fit_history(log: ShopLog, found: Found) -> None:
    """`history[...]` and `history_margin[...]` of customers who came a month after the log began."""
    known = ~np.isnan(log.history)
    size = len(log.segments)
    names = [f"history[{key}]" for key in log.segments]
    money = [f"history_margin[{key}]" for key in log.segments]
    had = known & (log.history > 0)
    enough = log.tells.visits and log.tells.returns and known.sum() >= 100
    if not enough:
        for name in names:
            found.assumed(name, "history")
    else:
        events, exposure = _by(log, had, size), _by(log, known, size)
        a, b = beta(events, exposure)
        found.many(names, mean_of(a, b), found.rng.beta(a, b, (DRAWS, size)), exposure)
    for place, name in enumerate(money):
        margins = log.history[had & (log.segment == place)]
        if not enough or not log.tells.costs or len(margins) < 10:
            found.fixed(name, 2000.0)
            continue
        error = margins.std() / np.sqrt(len(margins))
        draws = np.maximum(0.0, margins.mean() + error * found.rng.standard_normal(DRAWS))
        found.data(name, float(margins.mean()), draws, len(margins))


def told_delay(name: str, delay: DelayFit | None, found: Found) -> Delay:
    """The law as the world has it; its pieces' weights are parameters of the fit."""
    usual: Delay = getattr(DELAYS, name)
    if delay is None:
        for place, weight in enumerate(usual.weights):
            found.fixed(f"{name}_delay[{place}]", weight)
        return usual
    keys = [f"{name}_delay[{place}]" for place in range(len(delay.weights))]
    found.many(keys, delay.weights, delay.draws, np.full(len(keys), float(delay.events)))
    return Delay(tuple(delay.edges.tolist()), _as_law(delay.weights))


def _as_law(weights: Floats) -> tuple[float, ...]:
    return tuple((weights / weights.sum()).tolist())


def _rates(
    log: ShopLog,
    chosen: Bools,
    events: Floats,
    reached: Floats,
    weights: Floats,
    draws: Floats,
    found: Found,
) -> tuple[Floats, Floats]:
    """Rate by segment, (k,), and its draws (DRAWS, k): events over expected trials under each delay."""
    size = len(events)
    parts = np.array([_per(reached[:, piece] * chosen, log.segment, size) for piece in range(len(weights))])
    exposure = weights @ parts
    a, b = beta(events, exposure)
    drawn = [found.rng.beta(*beta(events, one @ parts)) for one in draws]
    return mean_of(a, b), np.array(drawn)


def _per(values: Floats, by: Ints, size: int) -> Floats:
    return np.bincount(by, weights=values, minlength=size).astype(float)


def _by(log: ShopLog, chosen: Bools, size: int) -> Floats:
    return np.bincount(log.segment[chosen], minlength=size).astype(float)
