"""Which order a cancellation takes back, when the file does not say.

Lines are grouped into invoices; a cancellation's line is matched by unit and item to the latest earlier
order with quantity left, greedily, over several orders if need be. What finds none is an orphan and
carries the cancellation's own number. "Earlier" is by time, and in the file's order within an instant.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """One line: an item, how many (positive, for cancellations too), and the price of one."""

    item: str
    quantity: int
    price: Decimal


@dataclass(slots=True)
class Invoice:
    """An order, or a cancellation of earlier ones."""

    number: str
    unit: str
    at: datetime
    row: int
    is_cancellation: bool
    lines: list[Line] = field(default_factory=list)

    @property
    def amount(self) -> Decimal:
        """The sum of its lines, unrounded."""
        return sum((line.quantity * line.price for line in self.lines), Decimal(0))


@dataclass(frozen=True, slots=True)
class Match:
    """Money that a cancellation takes from one order; `order` None = no earlier order found."""

    cancellation: Invoice
    order: Invoice | None
    amount: Decimal


@dataclass(slots=True)
class _Left:
    """What is left of one item of one order."""

    order: Invoice
    quantity: int


def match_cancellations(invoices: Iterable[Invoice]) -> list[Match]:
    """Every (cancellation, order) pair and every orphan, with its money, in the cancellations' order."""
    left: dict[tuple[str, str], list[_Left]] = defaultdict(list)
    matches: list[Match] = []
    for invoice in in_order(invoices):
        if invoice.is_cancellation:
            matches.extend(_matched(invoice, left))
        else:
            for item, quantity in _quantities(invoice.lines).items():
                left[invoice.unit, item].append(_Left(invoice, quantity))
    return matches


def in_order(invoices: Iterable[Invoice]) -> list[Invoice]:
    """By time, then by place in the file."""
    return sorted(invoices, key=lambda invoice: (invoice.at, invoice.row))


def _quantities(lines: Sequence[Line]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for line in lines:
        totals[line.item] = totals.get(line.item, 0) + line.quantity
    return {item: total for item, total in totals.items() if total > 0}


def _matched(cancellation: Invoice, left: dict[tuple[str, str], list[_Left]]) -> list[Match]:
    taken: dict[str, Decimal] = {}
    orders: dict[str, Invoice] = {}
    orphan = Decimal(0)
    has_orphan = False
    for line in cancellation.lines:
        wanted = line.quantity
        for stock in reversed(left.get((cancellation.unit, line.item), ())):
            part = min(wanted, stock.quantity)
            if part > 0:
                stock.quantity -= part
                wanted -= part
                orders[stock.order.number] = stock.order
                taken[stock.order.number] = taken.get(stock.order.number, Decimal(0)) + part * line.price
        if wanted > 0:
            has_orphan = True
            orphan += wanted * line.price
    matches = [Match(cancellation, orders[number], amount) for number, amount in taken.items()]
    return [*matches, Match(cancellation, None, orphan)] if has_orphan else matches
