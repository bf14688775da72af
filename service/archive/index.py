"""What the ledger keeps of archived events: keys, so that they are still duplicates, conflicts and orders.

Whoever looks for an event asks `event` first and these tables after it: a row that is being archived then
stands in one or the other, in whatever order the statements see the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from sqlalchemy import Connection, select

from service.catalogue import StoreState
from service.ledger import schema
from service.ledger.statements import chunks


@dataclass(frozen=True, slots=True)
class ArchivedOrder:
    """An archived order (it has a currency) or a change of one (it has none)."""

    order_id: str
    event_no: int
    refund_id: str | None
    currency: str | None
    digest: bytes


def event_key(secret: bytes, event_id: str) -> bytes:
    """What stays of an event_id: a hash under the store's secret, short and of one length."""
    return blake2b(event_id.encode(), digest_size=16, key=secret, person=b"rialto-event").digest()


def archived_digests(connection: Connection, store: StoreState, event_ids: Iterable[str]) -> dict[str, bytes]:
    """The digest of each of these events that is archived, by event_id."""
    by_key = {event_key(store.secret, event_id): event_id for event_id in event_ids}
    table = schema.archived_event.c
    found: dict[str, bytes] = {}
    for part in chunks(by_key):
        rows = connection.execute(
            select(table.key16, table.digest).where(table.store_no == store.store_no, table.key16.in_(part))
        )
        found.update({by_key[row.key16]: row.digest for row in rows})
    return found


def archived_orders(connection: Connection, store_no: int, order_ids: Iterable[str]) -> list[ArchivedOrder]:
    """What is archived of these orders: themselves and their changes."""
    order, event = schema.archived_order.c, schema.archived_event.c
    found: list[ArchivedOrder] = []
    for part in chunks(order_ids):
        rows = connection.execute(
            select(order.order_id, order.event_no, order.refund_id, order.currency, event.digest)
            .join_from(schema.archived_order, schema.archived_event, order.event_no == event.event_no)
            .where(order.store_no == store_no, order.order_id.in_(part))
        )
        found += [ArchivedOrder(*row) for row in rows]
    return found


def known_orders(
    connection: Connection, store_no: int, order_ids: Iterable[str]
) -> tuple[Mapping[str, tuple[bytes, str]], Mapping[tuple[str, str], bytes]]:
    """Of archived orders digest and currency by order_id; of archived refunds the digest by their key."""
    orders: dict[str, tuple[bytes, str]] = {}
    refunds: dict[tuple[str, str], bytes] = {}
    for row in archived_orders(connection, store_no, order_ids):
        if row.currency is not None:
            orders[row.order_id] = (row.digest, row.currency)
        elif row.refund_id is not None:
            refunds[row.order_id, row.refund_id] = row.digest
    return orders, refunds


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
