"""Lines of orders and cancellations become `order`, `refund` and `cancel` events."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.times import format_instant
from sim.replay.actions import Action, Assign, Event
from sim.replay.errors import BadFile
from sim.replay.mapping import InvoiceLines, ReplayMapping, SplitVariant
from sim.replay.matching import Invoice, Line, Match, in_order, match_cancellations
from sim.replay.source import Row
from sim.replay.units import split_variant, unit_of
from sim.replay.values import parse_count, parse_decimal, parse_id, to_minor


def invoice_actions(rows: Sequence[Row], mapping: ReplayMapping) -> list[Action]:
    """An order event per order, an event per (cancellation, order) pair and per orphan.

    With a split in the mapping, each unit is enrolled at its first order.
    """
    invoices = read_invoices(rows, mapping)
    actions: list[Action] = [*_enrolments(invoices, mapping)]
    actions.extend(_order(invoice, mapping) for invoice in invoices if not invoice.is_cancellation)
    actions.extend(_refunds(match_cancellations(invoices), mapping))
    return actions


def read_invoices(rows: Iterable[Row], mapping: ReplayMapping) -> list[Invoice]:
    """Lines grouped by invoice number; an invoice's time is that of its first line."""
    invoices: dict[str, Invoice] = {}
    for row in rows:
        for spec, is_cancellation in ((mapping.orders, False), (mapping.cancellations, True)):
            if spec is not None and spec.when.holds(row.values, row.number):
                _add_line(row, spec, is_cancellation, invoices, mapping)
                break
    return in_order(invoices.values())


def _add_line(
    row: Row, spec: InvoiceLines, is_cancellation: bool, invoices: dict[str, Invoice], mapping: ReplayMapping
) -> None:
    number = parse_id(row.values[spec.number].strip(), f"column {spec.number!r}", row.number)
    unit = unit_of(row, mapping)
    invoice = invoices.get(number)
    if invoice is None:
        invoice = invoices[number] = Invoice(number, unit, row.at, row.number, is_cancellation)
    elif invoice.unit != unit:
        raise BadFile(f"invoice {number} is of unit {unit!r} here and of {invoice.unit!r} before", row.number)
    quantity = parse_count(row.values[spec.quantity], spec.quantity, row.number)
    price = parse_decimal(row.values[spec.price], spec.price, row.number)
    if is_cancellation:
        quantity = -quantity
        if quantity < 0:
            raise BadFile(f"column {spec.quantity!r}: a cancellation's quantity is negative", row.number)
    invoice.lines.append(Line(row.values[spec.item].strip(), quantity, price))


def _enrolments(invoices: Iterable[Invoice], mapping: ReplayMapping) -> Iterator[Assign]:
    split = mapping.variant
    if not isinstance(split, SplitVariant):
        return
    enrolled: set[str] = set()
    for invoice in invoices:
        if not invoice.is_cancellation and invoice.unit not in enrolled:
            enrolled.add(invoice.unit)
            variant = split_variant(invoice.unit, split.shares)
            yield Assign(invoice.at, invoice.row, invoice.unit, variant, split.shares[variant])


def _order(invoice: Invoice, mapping: ReplayMapping) -> Event:
    if invoice.amount < 0:
        raise BadFile(
            f"order {invoice.number} adds up to {invoice.amount}; money cannot be negative", invoice.row
        )
    amount = to_minor(invoice.amount, mapping.currency)
    body = {"order_id": invoice.number, "amount": amount, "currency": mapping.currency}
    return _event(invoice, "order", f"{mapping.name}:{invoice.number}:order", body)


def _refunds(matches: Sequence[Match], mapping: ReplayMapping) -> Iterator[Event]:
    """`cancel` where the last refund of an order makes exactly its whole amount, else `refund`.

    Only the last one can be a cancel: a cancel takes whatever all other refunds leave, so before a later
    refund it would hide that more was refunded than paid.
    """
    refunded: dict[str, int] = defaultdict(int)
    last = {match.order.number: place for place, match in enumerate(matches) if match.order}
    for place, match in enumerate(matches):
        amount = to_minor(match.amount, mapping.currency)
        if amount < 0:
            raise BadFile(f"{match.cancellation.number} has a negative price", match.cancellation.row)
        number = match.order.number if match.order else match.cancellation.number
        event_id = f"{mapping.name}:{match.cancellation.number}:{number}"
        refunded[number] += amount
        if (
            match.order
            and last[number] == place
            and refunded[number] == to_minor(match.order.amount, mapping.currency)
        ):
            yield _event(match.cancellation, "cancel", f"{event_id}:cancel", {"order_id": number})
            continue
        body = {
            "order_id": number,
            "refund_id": match.cancellation.number,
            "amount": amount,
            "currency": mapping.currency,
        }
        yield _event(match.cancellation, "refund", f"{event_id}:refund", body)


def _event(invoice: Invoice, kind: str, event_id: str, fields: Mapping[str, Any]) -> Event:
    body = {
        "event_id": event_id,
        "type": kind,
        "unit_id": invoice.unit,
        "occurred_at": format_instant(invoice.at),
        **fields,
    }
    return Event(invoice.at, invoice.row, invoice.unit, body)
