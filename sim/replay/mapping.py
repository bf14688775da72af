"""What a mapping document says, as values: how the rows of one file become calls of the service.

`read_mapping` (in `mapping_reader.py`) makes one of these from YAML; docs/replay.md describes the
document field by field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from experiments.model import Experiment
from sim.replay.conditions import Condition


class Mode(StrEnum):
    """How rows meet the experiment."""

    FORCED = "forced"  # every unit gets the variant the file logged
    REJECTION = "rejection"  # the service chooses; rows whose logged variant agrees are kept
    EVENTS = "events"  # the file logs no experiment, only outcomes


class FieldKind(StrEnum):
    """How a cell is read when it becomes a field of an event."""

    TEXT = "text"
    MONEY = "money"
    NUMBER = "number"


class ContextType(StrEnum):
    """How a cell is read when it becomes a context key."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class ColumnTime:
    """The file has a time column; `format` is `iso`, `unix`, `unix_ms` or a strptime pattern."""

    column: str
    format: str
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class SpreadTime:
    """The file has no clock: rows are shuffled by seed (None = kept in order) and spread evenly."""

    start: datetime
    days: float
    shuffle_seed: int | None


@dataclass(frozen=True, slots=True)
class UnitSource:
    """Who a row is about: the first column that is not empty, or the row itself under a prefix."""

    columns: tuple[str, ...] = ()
    row_prefix: str = ""


@dataclass(frozen=True, slots=True)
class LoggedVariant:
    """The variant is in the file: cell -> variant key."""

    column: str
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SplitVariant:
    """The file has no variant: a hash of the unit's id alone splits units by these shares."""

    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Source:
    """A column, or one constant for all rows."""

    column: str | None = None
    constant: Any = None


@dataclass(frozen=True, slots=True)
class ContextColumn:
    """A context key's column and type."""

    column: str
    type: ContextType


@dataclass(frozen=True, slots=True)
class EventRule:
    """An event each row emits when its condition holds, `after` the row's time."""

    type: str
    when: Condition
    after: timedelta
    fields: Mapping[str, Source]


@dataclass(frozen=True, slots=True)
class InvoiceLines:
    """Lines of invoices: which rows, and the columns that number, name, count and price them."""

    when: Condition
    number: str
    item: str
    quantity: str
    price: str


@dataclass(frozen=True, slots=True)
class ReplayMapping:
    """A whole mapping."""

    name: str
    mode: Mode
    delimiter: str
    encoding: str
    where: Condition
    time: ColumnTime | SpreadTime
    step: timedelta
    settle: timedelta
    unit: UnitSource
    currency: str
    events: tuple[EventRule, ...]
    context: Mapping[str, ContextColumn]
    variant: LoggedVariant | SplitVariant | None = None
    propensity: Source | None = None
    orders: InvoiceLines | None = None
    cancellations: InvoiceLines | None = None
    document: Mapping[str, Any] | None = None
    experiment: Experiment | None = None

    @property
    def columns(self) -> frozenset[str]:
        """Every column of the file that the mapping reads."""
        names: set[str] = {*self.where.columns, *self.unit.columns}
        if isinstance(self.time, ColumnTime):
            names.add(self.time.column)
        if isinstance(self.variant, LoggedVariant):
            names.add(self.variant.column)
        if self.propensity and self.propensity.column:
            names.add(self.propensity.column)
        names.update(source.column for source in self.context.values())
        for rule in self.events:
            names.update(rule.when.columns)
            names.update(source.column for source in rule.fields.values() if source.column)
        for lines in (self.orders, self.cancellations):
            if lines is not None:
                names.update((*lines.when.columns, lines.number, lines.item, lines.quantity, lines.price))
        return frozenset(names)


EVENT_FIELDS: Mapping[str, Mapping[str, FieldKind]] = {
    "custom": {"name": FieldKind.TEXT, "value": FieldKind.NUMBER},
    "order": {
        "order_id": FieldKind.TEXT,
        "amount": FieldKind.MONEY,
        "cost": FieldKind.MONEY,
        "discount": FieldKind.MONEY,
        "tax": FieldKind.MONEY,
        "shipping": FieldKind.MONEY,
        "cart_id": FieldKind.TEXT,
    },
    "refund": {
        "order_id": FieldKind.TEXT,
        "refund_id": FieldKind.TEXT,
        "amount": FieldKind.MONEY,
        "cost_recovered": FieldKind.MONEY,
    },
    "cancel": {"order_id": FieldKind.TEXT},
    "rating": {"score": FieldKind.NUMBER, "scale": FieldKind.NUMBER},
    "exposure": {},
    "click": {},
    "accept": {},
    "decline": {"reason": FieldKind.TEXT},
    "product_view": {"sku": FieldKind.TEXT},
    "cart": {"cart_id": FieldKind.TEXT},
    "checkout_started": {"cart_id": FieldKind.TEXT},
    "abandonment": {"cart_id": FieldKind.TEXT},
}
"""The events a rule may emit, each with the fields it may fill."""

REQUIRED_FIELDS: Mapping[str, frozenset[str]] = {
    "custom": frozenset({"name"}),
    "order": frozenset({"amount"}),
    "refund": frozenset({"order_id"}),
    "cancel": frozenset({"order_id"}),
    "rating": frozenset({"score", "scale"}),
    "product_view": frozenset({"sku"}),
    "cart": frozenset({"cart_id"}),
    "checkout_started": frozenset({"cart_id"}),
    "abandonment": frozenset({"cart_id"}),
}

DECISION_EVENTS = frozenset({"exposure", "click", "accept", "decline"})
"""Events that name the decision they belong to."""
