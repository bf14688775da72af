"""What the ledger keeps of archived events: which of them are orders, and changes of orders.

That they are duplicates is told by `hot/statements.py`, which looks keys up in `event` and here in one
statement; so an event that is being archived just now is found in the one or the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from service.ledger import schema
from service.ledger.statements import chunks


def archived_of_orders(connection: Connection, store_no: int, order_ids: Iterable[str]) -> list[int]:
    """The numbers of the archived events of these orders: the orders and their changes."""
    table = schema.archived_order.c
    found: list[int] = []
    for part in chunks(order_ids):
        rows = connection.execute(
            select(table.event_no).where(table.store_no == store_no, table.order_id.in_(part))
        )
        found += rows.scalars()
    return found


def units_of_archived_orders(connection: Connection, store_no: int, order_ids: Iterable[str]) -> set[int]:
    """The units that archived orders themselves reach: what comes later to an order restates them."""
    order, link = schema.archived_order.c, schema.event_unit.c
    found: set[int] = set()
    for part in chunks(order_ids):
        rows = connection.execute(
            select(link.unit_no)
            .join_from(schema.archived_order, schema.event_unit, order.event_no == link.event_no)
            .where(order.store_no == store_no, order.order_id.in_(part), order.currency.is_not(None))
        )
        found.update(rows.scalars())
    return found
