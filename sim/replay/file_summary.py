"""The store summary a file of invoices implies, computed on the rows themselves.

This is the other side of the comparison, so it shares nothing with `matching.py` but the rule: it walks
one (unit, item) at a time with a stack, where the matching walks the file with one book for everything.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sim.replay.actions import Event
from sim.replay.mapping import InvoiceLines, ReplayMapping
from sim.replay.source import Row
from sim.replay.values import to_minor


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What the service's store summary must say, in minor units."""

    orders: int
    revenue: int
    refunded: int
    over_refunded: int
    refunded_orders: int
    orphan_refunds: int
    orphan_refunded: int

    @property
    def aov(self) -> float | None:
        """Booked value per order."""
        return self.revenue / self.orders if self.orders else None

    @property
    def refund_rate(self) -> float | None:
        """Orders with any refund per order."""
        return self.refunded_orders / self.orders if self.orders else None


_Place = tuple[float, int]  # time and row: the order of invoices


@dataclass(slots=True)
class _Item:
    """One (unit, item): what was bought and taken back, by invoice."""

    bought: dict[str, int]
    returned: list[tuple[_Place, int, str, int, Decimal]]


def file_summary(rows: Sequence[Row], mapping: ReplayMapping) -> FileSummary:
    """Orders, revenue and refunds of the rows, matched by unit and item to the latest earlier order."""
    if mapping.orders is None:
        raise AssertionError("only a mapping of invoices has a summary of invoices")
    begun: dict[str, _Place] = {}
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    items: dict[tuple[str, str], _Item] = defaultdict(lambda: _Item({}, []))
    for row in rows:
        is_order = mapping.orders.when.holds(row.values, row.number)
        spec = mapping.orders if is_order else mapping.cancellations
        if spec is None or not (is_order or spec.when.holds(row.values, row.number)):
            continue
        number, quantity, price = _line(row, spec)
        begun.setdefault(number, (row.at.timestamp(), row.number))
        item = items[_unit(row, mapping), row.values[spec.item].strip()]
        if is_order:
            amounts[number] += quantity * price
            item.bought[number] = item.bought.get(number, 0) + quantity
        else:
            item.returned.append((begun[number], row.number, number, -quantity, price))
    pairs: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    orphans: dict[str, Decimal] = defaultdict(Decimal)
    for item in items.values():
        _take_back(item, begun, pairs, orphans)
    return _summed(amounts, pairs, orphans, mapping.currency)


def summary_of_events(events: Iterable[Event]) -> FileSummary:
    """The summary of order and refund events that rows stand for one by one."""
    orders: dict[str, int] = {}
    refunds: dict[str, list[int | None]] = defaultdict(list)
    for event in events:
        if event.body["type"] == "order":
            orders[event.body["order_id"]] = event.body["amount"]
        elif event.body["type"] in ("refund", "cancel"):
            refunds[event.body["order_id"]].append(event.body.get("amount"))
    refunded = over = orphans = orphaned = 0
    for number, amounts in refunds.items():
        stated = sum(amount for amount in amounts if amount is not None)
        if number not in orders:
            orphans += len(amounts)
            orphaned += stated
            continue
        refunded += orders[number] if None in amounts else min(stated, orders[number])
        over += max(0, stated - orders[number])
    return FileSummary(
        orders=len(orders),
        revenue=sum(orders.values()),
        refunded=refunded,
        over_refunded=over,
        refunded_orders=len(refunds.keys() & orders.keys()),
        orphan_refunds=orphans,
        orphan_refunded=orphaned,
    )


def _line(row: Row, spec: InvoiceLines) -> tuple[str, int, Decimal]:
    cells = row.values
    return cells[spec.number].strip(), int(Decimal(cells[spec.quantity])), Decimal(cells[spec.price])


def _unit(row: Row, mapping: ReplayMapping) -> str:
    """As text that two invoices share only if one unit made both."""
    for place, column in enumerate(mapping.unit.columns):
        if row.values[column].strip():
            return f"{place}/{row.values[column].strip()}"
    return f"row/{row.number}"


def _take_back(
    item: _Item,
    begun: dict[str, _Place],
    pairs: dict[tuple[str, str], Decimal],
    orphans: dict[str, Decimal],
) -> None:
    """Purchases are pushed on a stack as time passes; each return pops until it has enough."""
    if not item.returned:
        return
    to_come = sorted(((begun[number], number) for number in item.bought), reverse=True)
    stack: list[list[int | str]] = []
    for place, _, cancellation, wanted, price in sorted(item.returned, key=lambda entry: entry[:2]):
        while to_come and to_come[-1][0] < place:
            number = to_come.pop()[1]
            stack.append([number, item.bought[number]])
        while wanted and stack:
            number, available = str(stack[-1][0]), int(stack[-1][1])
            part = min(wanted, available)
            if part > 0:
                pairs[cancellation, number] += part * price
                wanted -= part
            if part < available:
                stack[-1][1] = available - part
            else:
                stack.pop()
        if wanted:
            orphans[cancellation] += wanted * price


def _summed(
    amounts: dict[str, Decimal],
    pairs: dict[tuple[str, str], Decimal],
    orphans: dict[str, Decimal],
    currency: str,
) -> FileSummary:
    booked = {number: to_minor(amount, currency) for number, amount in amounts.items()}
    refunds: dict[str, int] = defaultdict(int)
    for (_, number), amount in pairs.items():
        refunds[number] += to_minor(amount, currency)
    return FileSummary(
        orders=len(booked),
        revenue=sum(booked.values()),
        refunded=sum(min(total, booked[number]) for number, total in refunds.items()),
        over_refunded=sum(max(0, total - booked[number]) for number, total in refunds.items()),
        refunded_orders=len(refunds),
        orphan_refunds=len(orphans),
        orphan_refunded=sum(to_minor(amount, currency) for amount in orphans.values()),
    )
