"""The store's summary: money booked and given back, over orders by their own time."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, distinct, func, select

from service.catalogue import StoreState
from service.ledger import schema


@dataclass(frozen=True, slots=True)
class Summary:
    """wire.md, store summary; amounts in minor units of the store's currency."""

    currency: str
    orders: int
    revenue: int
    refunded: int
    over_refunded: int
    refunded_orders: int
    aov: float | None
    refund_rate: float | None
    orphan_refunds: int
    orphan_refunded: int
    unattributed_events: int
    unconverted_orders: int


def summarise(connection: Connection, store: StoreState, from_us: int | None, to_us: int | None) -> Summary:
    """Orders from `from_us` (inclusive) to `to_us` (exclusive), each with all its refunds."""
    table = schema.order_balance.c
    counted = and_(table.is_order, table.is_converted)
    row = connection.execute(
        select(
            func.sum(case((counted, 1), else_=0)).label("orders"),
            func.sum(case((counted, table.amount_minor), else_=0)).label("revenue"),
            func.sum(case((counted, table.refunded_minor), else_=0)).label("refunded"),
            func.sum(case((counted, table.over_refunded_minor), else_=0)).label("over_refunded"),
            func.sum(case((and_(counted, table.is_refunded), 1), else_=0)).label("refunded_orders"),
            func.sum(table.orphan_refunds).label("orphan_refunds"),
            func.sum(table.orphan_refunded_minor).label("orphan_refunded"),
            func.sum(case((and_(table.is_order, ~table.is_converted), 1), else_=0)).label("unconverted"),
        ).where(table.store_no == store.store_no, *_between(table.at_us, from_us, to_us))
    ).one()
    orders, revenue = int(row.orders or 0), int(row.revenue or 0)
    return Summary(
        currency=store.settings.currency,
        orders=orders,
        revenue=revenue,
        refunded=int(row.refunded or 0),
        over_refunded=int(row.over_refunded or 0),
        refunded_orders=int(row.refunded_orders or 0),
        aov=revenue / orders if orders else None,
        refund_rate=int(row.refunded_orders or 0) / orders if orders else None,
        orphan_refunds=int(row.orphan_refunds or 0),
        orphan_refunded=int(row.orphan_refunded or 0),
        unattributed_events=_unattributed(connection, store, from_us, to_us),
        unconverted_orders=int(row.unconverted or 0),
    )


def _unattributed(connection: Connection, store: StoreState, from_us: int | None, to_us: int | None) -> int:
    """Events that reach units, none of them (nor anyone who is one with them) ever assigned."""
    link, person = schema.event_unit.c, schema.person
    assigned = select(schema.assignment.c.unit_no)
    siblings = person.alias()
    of_person = (
        select(person.c.unit_no)
        .join_from(person, siblings, person.c.person_no == siblings.c.person_no)
        .where(siblings.c.unit_no.in_(assigned))
    )
    reached = select(link.event_no).where(link.unit_no.in_(assigned) | link.unit_no.in_(of_person))
    return sum(
        connection.execute(
            select(func.count(distinct(table.c.event_no)))
            .join_from(table, schema.event_unit, table.c.event_no == link.event_no)
            .where(
                table.c.store_no == store.store_no,
                table.c.event_no.not_in(reached),
                *_between(table.c.occurred_at_us, from_us, to_us),
            )
        ).scalar_one()
        for table in (schema.event, schema.archived_event)
    )


def _between(column: ColumnElement[int], from_us: int | None, to_us: int | None) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if from_us is not None:
        bounds.append(column >= from_us)
    if to_us is not None:
        bounds.append(column < to_us)
    return bounds
