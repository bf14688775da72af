"""What the ledger keeps of archived events: which of them are orders, and changes of orders.

That they are duplicates is told by `hot/statements.py`, which looks keys up in `event` and here in one
statement; so an event that is being archived just now is found in the one or the other.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, select

from service.ledger import schema
from service.ledger.statements import ByKeys

_archived, _link = schema.archived_order.c, schema.event_unit.c
_of_store = select(_archived.event_no).where(_archived.store_no == bindparam("store_no"))
_OF_ORDERS = ByKeys(_of_store, _archived.order_id)
_ORDERED = ByKeys(_of_store.where(_archived.currency.is_not(None)), _archived.order_id)
_REACHED = ByKeys(select(_link.unit_no), _link.event_no)


def archived_of_orders(connection: Connection, store_no: int, order_ids: Collection[str]) -> list[int]:
    """The numbers of the archived events of these orders: the orders and their changes."""
    return [event_no for (event_no,) in _OF_ORDERS.rows(connection, order_ids, store_no=store_no)]


def units_of_archived_orders(connection: Connection, store_no: int, order_ids: Collection[str]) -> set[int]:
    """The units that archived orders themselves reach: what comes later to an order restates them."""
    event_nos = [event_no for (event_no,) in _ORDERED.rows(connection, order_ids, store_no=store_no)]
    return {unit_no for (unit_no,) in _REACHED.rows(connection, event_nos)}
