"""Figures of a log that a fitted world must be able to bring forth: what the check compares."""

from collections.abc import Iterator

import numpy as np

from sim.fitting.log import DAY_S, Bools, Floats, Ints, ShopLog, local_days
from sim.fitting.orders import WHOLE_WITHIN
from sim.fitting.season import calendar

QUANTILES = (0.1, 0.5, 0.9, 0.99)
EVENTS_MIN = 30


def features_of(log: ShopLog) -> dict[str, float]:
    """All figures that the log has enough events for, by name; money in minor units, delays in hours."""
    return {name: float(value) for name, value in _all(log) if np.isfinite(value)}


def _all(log: ShopLog) -> Iterator[tuple[str, float]]:
    yield "customers", len(log)
    if log.tells.days:
        yield from _days(log)
    if log.tells.visits:
        yield from _conversion(log)
    if log.tells.amounts and log.ordered.sum() >= EVENTS_MIN:
        yield from _money(log)
    if log.tells.refunds and log.ordered.sum() >= EVENTS_MIN:
        yield from _refunds(log)
    if log.tells.returns and log.ordered.any():
        buyers = log.ordered.sum()
        yield "repeat_share", len(np.unique(log.later_unit)) / buyers
        yield "later_orders_per_buyer", len(log.later_unit) / buyers
        if log.tells.hours:
            soon = log.later_s - log.order_s[log.later_unit] < DAY_S
            yield "second_order_within_a_day", len(np.unique(log.later_unit[soon])) / buyers


def _days(log: ShopLog) -> Iterator[tuple[str, float]]:
    counts = np.bincount(log.day, minlength=log.days).astype(float)
    weekday, _ = calendar(log.first_day, log.days)
    if log.days >= 14:
        yield "traffic_from_week_to_week", week_to_week(counts)
    if log.days >= 7:
        yield "weekday_traffic_range", _range(counts, np.ones(log.days), weekday)
    if not log.tells.visits:
        return
    orders = np.bincount(log.day, weights=log.ordered.astype(float), minlength=log.days).astype(float)
    if log.days >= 14:
        yield "conversion_from_week_to_week", week_to_week(orders, counts)
    if log.days >= 7:
        yield "weekday_conversion_range", _range(orders, counts, weekday)


def week_to_week(events: Floats, trials: Floats | None = None) -> float:
    """Mean squared difference of days a week apart, over what chance makes of it: 1 if nothing else does.

    Counts: (y - y')^2 / (y + y'); rates: (p - p')^2 / (q (1 - q) (1/n + 1/n')) with q of both days.

    >>> week_to_week(np.array([4.0] * 7 + [4.0] * 6 + [12.0])).__round__(3)
    0.571
    """
    y, z = events[:-7], events[7:]
    if trials is None:
        used = y + z > 0
        return float(((y - z)[used] ** 2 / (y + z)[used]).mean()) if used.any() else float("nan")
    n, m = trials[:-7], trials[7:]
    used = (n > 0) & (m > 0) & (y + z > 0) & (y + z < n + m)
    if not used.any():
        return float("nan")
    y, z, n, m = y[used], z[used], n[used], m[used]
    both = (y + z) / (n + m)
    return float(((y / n - z / m) ** 2 / (both * (1 - both) * (1 / n + 1 / m))).mean())


def _range(events: Floats, trials: Floats, weekday: Ints) -> float:
    """Best less worst weekday, over the mean."""
    rates = np.bincount(weekday, weights=events, minlength=7) / np.maximum(
        np.bincount(weekday, weights=trials, minlength=7), 1e-9
    )
    return float((rates.max() - rates.min()) / max(rates.mean(), 1e-12))


def _conversion(log: ShopLog) -> Iterator[tuple[str, float]]:
    yield "conversion", log.ordered.mean()
    # a customer who spends nothing and one whose order came back both bring in nothing
    back = log.ordered & (log.refunded >= log.amount) & (log.refunded > 0)
    yield "share_of_zeros", 1 - (log.ordered & ~back).mean()
    if len(log.segments) > 1:
        yield from _of_each("conversion", log.ordered, log.segments, log.segment)
    if log.variants:
        yield from _of_each("conversion", log.ordered, log.variants, log.variant)
        if log.tells.takes:
            yield from _of_each("take_rate", log.took, log.variants[1:], log.variant - 1)
    if log.tells.hours and log.ordered.sum() >= EVENTS_MIN:
        hours = (log.order_s - log.arrival_s)[log.ordered] / 3600
        for part in (0.5, 0.9):
            yield f"order_delay_h[q{part * 100:.0f}]", np.quantile(hours, part)


def _of_each(name: str, happened: Bools, keys: tuple[str, ...], code: Ints) -> Iterator[tuple[str, float]]:
    for place, key in enumerate(keys):
        mine = code == place
        if mine.any():
            yield f"{name}[{key}]", happened[mine].mean()


def _money(log: ShopLog) -> Iterator[tuple[str, float]]:
    amounts = log.amount[log.ordered]
    yield "aov", amounts.mean()
    for part in QUANTILES:
        yield f"order_value[q{part * 100:.0f}]", np.quantile(amounts, part)
    logs = np.log(np.maximum(amounts, 1.0))
    centred = (logs - logs.mean()) / max(logs.std(), 1e-12)
    yield "order_value_skew", (centred**3).mean()
    yield "order_value_tails", (centred**4).mean()
    for place, key in enumerate(log.segments):
        mine = log.ordered & (log.segment == place)
        if len(log.segments) > 1 and mine.any():
            yield f"aov[{key}]", log.amount[mine].mean()


def _refunds(log: ShopLog) -> Iterator[tuple[str, float]]:
    yield "refund_rate", log.returned.sum() / log.ordered.sum()
    if log.tells.amounts:
        yield "refunded_value_share", log.refunded.sum() / np.nansum(log.amount)
        if log.returned.any():
            part = log.refunded[log.returned] / log.amount[log.returned]
            yield "whole_refunds", (part > 1 - WHOLE_WITHIN).mean()
    if log.variants:
        for place, key in enumerate(log.variants):
            mine = log.ordered & (log.variant == place)
            if mine.any():
                yield f"refund_rate[{key}]", log.returned[mine].mean()
    if log.tells.days and log.days >= 7 and log.returned.sum() >= EVENTS_MIN:
        day, _ = local_days(log.order_s[log.ordered], log.zone)
        is_weekend = (day + 3) % 7 > 4  # the first of January 1970 was a Thursday
        back = log.returned[log.ordered]
        if is_weekend.any():
            yield "weekend_refunds", back[is_weekend].mean() / back.mean()
    if log.tells.refund_times and log.returned.sum() >= EVENTS_MIN:
        hours = (log.refund_s - log.order_s)[log.returned] / 3600
        for part in (0.5, 0.9):
            yield f"refund_delay_h[q{part * 100:.0f}]", np.quantile(hours, part)
