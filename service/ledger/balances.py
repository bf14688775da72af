"""Orders restated: the order balances behind the store's summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.facts import OrderFact
from experiments.orders import convert, fold_order
from service.catalogue import StoreState
from service.ledger.orders import OrderRow, Orders, refunds_of


def balance_rows(store: StoreState, orders: Orders, order_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The balance of each order as its row holds it."""
    balances: list[dict[str, Any]] = []
    wanted = list(order_ids)
    facts = orders.facts(wanted)
    for order_id, rows in orders.rows(wanted).items():
        if rows:
            fact = facts.get(order_id)
            values = _orphan(rows) if fact is None else _balance(store, fact)
            balances.append({"store_no": store.store_no, "order_id": order_id, **values})
    return balances


def _balance(store: StoreState, order: OrderFact) -> dict[str, Any]:
    """An order in the store's currency; one that cannot be converted keeps its own amounts, apart."""
    balance = fold_order(order)
    home = store.settings.currency
    rate = "1" if order.currency == home else order.rates.get(home)
    amounts = {
        "amount_minor": balance.amount_minor,
        "refunded_minor": balance.refunded_minor,
        "over_refunded_minor": balance.over_refunded_minor,
    }
    if rate is not None:
        amounts = {name: convert(value, rate, order.currency, home) for name, value in amounts.items()}
    return {
        "at_us": order.at_us,
        "is_order": True,
        "is_converted": rate is not None,
        **amounts,
        "is_refunded": balance.is_refunded,
        "is_cancelled": balance.is_cancelled,
        "orphan_refunds": 0,
        "orphan_refunded_minor": 0,
    }


def _orphan(changes: Sequence[OrderRow]) -> dict[str, Any]:
    """Refunds that wait for their order: kept and counted as such."""
    refunds = refunds_of(changes)
    return {
        "at_us": min(row.at_us for row in changes),
        "is_order": False,
        "is_converted": True,
        "amount_minor": 0,
        "refunded_minor": 0,
        "over_refunded_minor": 0,
        "is_refunded": False,
        "is_cancelled": False,
        "orphan_refunds": len(refunds),
        "orphan_refunded_minor": sum(refund.amount_minor or 0 for refund in refunds),
    }
