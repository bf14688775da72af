"""A log that a world would have left behind, watched as long as the shop's own and telling as much."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np

from sim.fitting.log import Bools, Floats, Ints, ShopLog
from sim.worlds.customers import Customers, draw_customers, visitors
from sim.worlds.outcomes import NEVER, Outcomes, outcomes
from sim.worlds.world import World

US = 1e6


def simulate(world: World, log: ShopLog, rng: np.random.Generator) -> ShopLog:
    """Customers of every day of the log, their number by chance, with its variants in the day's proportions.

    What would have happened after the log's end is cut off; where it shows orders alone, so does this.
    The world must start on the log's first day.
    """
    arms = np.array([world.arm(key) for key in log.variants] or [0])
    parts: list[_Day] = []
    for day in range(log.days):
        customers = draw_customers(world, day, int(rng.poisson(visitors(world, day))), rng=rng)
        variant = rng.choice(len(arms), len(customers), p=_shares(log, day, len(arms)))
        parts.append(_Day(log, day, customers, variant, outcomes(world, customers, arms[variant])))
    return _joined(log, parts)


def _shares(log: ShopLog, day: int, kinds: int) -> Floats:
    """How the variants were shared out that day, or over all days where nobody came."""
    counts = np.bincount(log.variant[log.day == day], minlength=kinds)
    if not counts.sum():
        counts = np.bincount(log.variant, minlength=kinds)
    return counts / counts.sum()


class _Day:
    """Columns of the customers of one day, as `ShopLog` has them."""

    def __init__(
        self, log: ShopLog, day: int, customers: Customers, variant: Ints, outcome: Outcomes
    ) -> None:
        midnight = datetime.combine(log.first_day + timedelta(days=day), time(), tzinfo=log.zone)
        arrival = midnight.astimezone(UTC).timestamp() + customers.arrival_us / US
        order_s = _times(arrival, outcome.order_us)
        order_s[(order_s > log.end_s) | (order_s > arrival + log.within_s)] = np.nan
        refund_s = _times(arrival, outcome.refund_us)
        refund_s[(refund_s > log.end_s) | np.isnan(order_s)] = np.nan
        came: Bools = arrival <= log.end_s
        if not log.tells.visits:
            came = ~np.isnan(order_s)
        kept = np.flatnonzero(came)
        later = _times(arrival, outcome.repeat_us)
        is_later = ~np.isnan(later) & (later <= log.end_s) & ~np.isnan(order_s)
        place = np.cumsum(came) - 1
        _, unit = np.nonzero(is_later)
        self.later_unit = place[unit]
        self.later_s = later[is_later]
        self.columns = {
            "arrival_s": (arrival if log.tells.visits else order_s)[kept],
            "day": np.full(len(kept), day),
            "second": customers.arrival_us[kept] / US,
            "segment": customers.segment[kept],
            "variant": variant[kept],
            "seen": (outcome.exposed_us != NEVER)[kept],
            "took": (outcome.took_us != NEVER)[kept],
            "order_s": order_s[kept],
            "amount": np.where(np.isnan(order_s), np.nan, outcome.amount_minor)[kept],
            "cost": np.where(np.isnan(order_s), np.nan, outcome.cost_minor)[kept],
            "refund_s": refund_s[kept],
            "refunded": np.where(np.isnan(refund_s), 0.0, outcome.refunded_minor)[kept],
            "recovered": np.where(np.isnan(refund_s), np.nan, outcome.recovered_minor)[kept],
            "history": customers.pre_margin_minor[kept].astype(float),
        }


def _times(arrival: Floats, after_us: Ints) -> Floats:
    return np.where(after_us == NEVER, np.nan, arrival + after_us / US)


def _joined(log: ShopLog, parts: list[_Day]) -> ShopLog:
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
    before = np.cumsum([0, *(len(part.columns["day"]) for part in parts[:-1])])
    later = [part.later_unit + offset for part, offset in zip(parts, before.tolist(), strict=True)]
    return replace(
        log,
        **columns,
        later_unit=np.concatenate(later),
        later_s=np.concatenate([part.later_s for part in parts]),
        item_unit=np.zeros(0, np.int64),
        item_sku=np.zeros(0, np.int64),
        item_amount=np.zeros(0),
        skus=(),
        notes=(),
    )
