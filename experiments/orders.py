"""What an order is worth after everything that came later: refunds, cancels, adjustments.

`fold_order` is a function of the *set* of facts: any order of arrival gives the same balance.
Shares of costs are rounded half to even to whole minor units, once per order.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from experiments.facts import Adjustment, OrderFact, Refund
from experiments.money import exponent

PPM = 1_000_000


class OrderBalance(NamedTuple):
    """One order, restated. All amounts in minor units of `currency`."""

    amount_minor: int  # booked value, adjustments included
    cost_minor: int | None  # None = unknown
    refunded_minor: int  # effective: never more than the amount
    over_refunded_minor: int
    recovered_minor: int  # cost that came back with the goods
    is_refunded: bool
    is_cancelled: bool
    refused_refunds: int  # refunds in another currency than the order's: kept, never counted
    currency: str

    @property
    def margin_minor(self) -> int | None:
        """Amount - cost - effective refunds + recovered cost; None while the cost is unknown."""
        if self.cost_minor is None:
            return None
        return self.amount_minor - self.cost_minor - self.refunded_minor + self.recovered_minor


def fold_order(order: OrderFact) -> OrderBalance:
    """The balance of an order: effective refund = min(sum of refunds, amount).

    >>> refunds = (Refund(300, None, 0, 1), Refund(None, None, 0, 2, is_cancel=True))
    >>> balance = fold_order(OrderFact("o1", 0, "EUR", 1000, 400, refunds=refunds))
    >>> balance.refunded_minor, balance.recovered_minor, balance.margin_minor
    (1000, 280, -120)
    """
    if not order.refunds and not order.adjustments:
        booked = max(0, order.amount_minor)
        return OrderBalance(booked, order.cost_minor, 0, 0, 0, False, False, 0, order.currency)
    amount = max(0, order.amount_minor + sum(a.amount_delta_minor for a in order.adjustments))
    cost = _cost(order.cost_minor, order.adjustments)
    refunds = [r for r in order.refunds if r.currency is None or r.currency == order.currency]
    explicit = sum(r.amount_minor for r in refunds if r.amount_minor is not None)
    takes_rest = any(r.amount_minor is None for r in refunds)
    effective = amount if takes_rest else min(explicit, amount)
    return OrderBalance(
        amount_minor=amount,
        cost_minor=cost,
        refunded_minor=effective,
        over_refunded_minor=max(0, explicit - amount),
        recovered_minor=0 if cost is None else _recovered(refunds, amount, cost, explicit),
        is_refunded=bool(refunds),
        is_cancelled=any(r.is_cancel for r in refunds),
        refused_refunds=len(order.refunds) - len(refunds),
        currency=order.currency,
    )


def convert(amount_minor: int, rate: str, source: str, target: str) -> int:
    """Minor units of `source` in minor units of `target`, rounded half to even.

    `rate` = units of target per unit of source, as decimal text.

    >>> convert(1000, "1.25", "EUR", "USD"), convert(1000, "160", "EUR", "JPY")
    (1250, 1600)
    """
    if rate == "1" and source == target:  # nearly always: an order in the experiment's own currency
        return amount_minor
    exponents = exponent(target) - exponent(source)
    return round(amount_minor * Fraction(Decimal(rate)) * Fraction(10) ** exponents)


def _cost(cost: int | None, adjustments: Sequence[Adjustment]) -> int | None:
    deltas = [a.cost_delta_minor for a in adjustments if a.cost_delta_minor is not None]
    if cost is None and not deltas:
        return None
    return (cost or 0) + sum(deltas)


def _recovered(refunds: Sequence[Refund], amount: int, cost: int, explicit: int) -> int:
    """Cost recovered: what was stated, else the rate times the cost of the share refunded.

    When more was refunded than the order was worth, each refund's share shrinks in proportion, so that
    the answer does not depend on which refund came first.
    """
    if not refunds:
        return 0
    rest = max(0, amount - explicit)
    nominal = max(explicit, 1) if explicit > amount else amount
    total = Fraction(0)
    rest_rate = 0
    for refund in refunds:
        if refund.cost_recovered_minor is not None:
            total += refund.cost_recovered_minor
        elif refund.amount_minor is None:
            rest_rate = max(rest_rate, PPM if refund.is_cancel else refund.recovered_rate_ppm)
        elif nominal:
            total += Fraction(refund.recovered_rate_ppm, PPM) * cost * Fraction(refund.amount_minor, nominal)
    if amount:
        total += Fraction(rest_rate, PPM) * cost * Fraction(rest, amount)
    elif rest_rate:
        total += Fraction(rest_rate, PPM) * cost
    return min(round(total), max(cost, 0))
