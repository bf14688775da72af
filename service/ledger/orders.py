"""Orders of a store with everything that came later to each, as facts: read once, whoever asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Text, bindparam, cast, select

from experiments.facts import Adjustment, OrderFact, Refund
from service.archive.index import archived_of_orders
from service.archive.reading import read_archived, root_of
from service.ledger import schema
from service.ledger.statements import ByKeys

Body = TypeVar("Body")
_event = schema.event.c
_OF_ORDERS = ByKeys(
    select(
        _event.event_no, _event.type, _event.order_id, _event.occurred_at_us, cast(_event.body, Text)
    ).where(_event.store_no == bindparam("store_no")),
    _event.order_id,
)


class OrderRow(NamedTuple):
    """An order's event, or that of something that came later to it."""

    event_no: int
    type: str
    order_id: str
    at_us: int
    body: str | Mapping[str, Any]  # JSON; what it says, where it was archived


class Orders:
    """Orders on one snapshot."""

    def __init__(self, connection: Connection, store_no: int, archive: Path | None = None) -> None:
        """What is archived is read from the ledger's archive, or from a copy of it at `archive`."""
        self._connection = connection
        self.store_no = store_no
        root = root_of(connection)
        self.archive = None if root is None else archive or root
        """Where what is archived is read; None while nothing is."""
        self._rows: dict[str, list[OrderRow]] = {}
        self._facts: dict[str, OrderFact | None] = {}

    def rows(self, order_ids: Iterable[str]) -> dict[str, list[OrderRow]]:
        """By order id what is recorded of it, in the order it was."""
        wanted = list(order_ids)
        missing = list({order_id for order_id in wanted if order_id not in self._rows})
        for order_id in missing:
            self._rows[order_id] = []
        for row in sorted(self._read(missing)):
            self._rows[row.order_id].append(row)
        return {order_id: self._rows[order_id] for order_id in wanted}

    def facts(self, order_ids: Iterable[str]) -> dict[str, OrderFact]:
        """The orders by id, each with all that came later to it; what waits for its order is left out."""
        wanted = list(order_ids)
        missing = [order_id for order_id in wanted if order_id not in self._facts]
        self._facts.update((order_id, order_fact(rows)) for order_id, rows in self.rows(missing).items())
        return {order_id: fact for order_id in wanted if (fact := self._facts[order_id]) is not None}

    def _read(self, order_ids: Sequence[str]) -> list[OrderRow]:
        found = _OF_ORDERS.rows(self._connection, order_ids, store_no=self.store_no)
        rows = [OrderRow(*row) for row in found]
        if self.archive is not None:
            numbers = archived_of_orders(self._connection, self.store_no, order_ids)
            for row in read_archived(self._connection, numbers, self.archive).values():
                assert row.order_id is not None
                rows.append(OrderRow(row.event_no, row.type, row.order_id, row.occurred_at_us, row.body))
        return rows


def order_fact(rows: Sequence[OrderRow]) -> OrderFact | None:
    """An order as its rows tell it; None while it has not come."""
    order = next((row for row in rows if row.type == "order"), None)
    if order is None:
        return None
    body = body_of(order.body, _Order)
    return OrderFact(
        order_id=order.order_id,
        at_us=order.at_us,
        currency=body.currency,
        amount_minor=body.amount,
        cost_minor=body.cost,
        cart_id=body.cart_id,
        rates=body.rates,
        refunds=tuple(refunds_of(rows)) if len(rows) > 1 else (),
        adjustments=tuple(_adjustments(rows)) if len(rows) > 1 else (),
    )


def refunds_of(rows: Sequence[OrderRow]) -> list[Refund]:
    """The refunds and cancels among an order's rows."""
    return [_refund(row) for row in rows if row.type in ("refund", "cancel")]


def body_of(body: str | Mapping[str, Any], kind: type[Body]) -> Body:
    """What a row's body says, of what `kind` asks."""
    return msgspec.json.decode(body, type=kind) if isinstance(body, str) else msgspec.convert(body, kind)


class _Order(msgspec.Struct):
    amount: int
    currency: str
    rates: dict[str, str]
    cost: int | None = None
    cart_id: str | None = None


class _Refund(msgspec.Struct):
    recovered_rate_ppm: int = 1_000_000  # a cancel recovers all, and does not say so
    amount: int | None = None
    cost_recovered: int | None = None
    currency: str | None = None


class _Adjustment(msgspec.Struct):
    amount_delta: int = 0
    cost_delta: int | None = None


def _refund(row: OrderRow) -> Refund:
    body = body_of(row.body, _Refund)
    is_cancel = row.type == "cancel"
    return Refund(
        amount_minor=None if is_cancel else body.amount,
        cost_recovered_minor=body.cost_recovered,
        recovered_rate_ppm=body.recovered_rate_ppm,
        at_us=row.at_us,
        is_cancel=is_cancel,
        currency=body.currency,
    )


def _adjustments(rows: Sequence[OrderRow]) -> list[Adjustment]:
    bodies = [body_of(row.body, _Adjustment) for row in rows if row.type == "order_adjusted"]
    return [Adjustment(body.amount_delta, body.cost_delta) for body in bodies]
