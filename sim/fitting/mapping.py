"""What a mapping says, as values: which rows of a log are visits, orders and refunds (docs/fitting.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from experiments.model import Experiment
from sim.replay.conditions import Condition
from sim.replay.mapping import ColumnTime, UnitSource
from sim.worlds.timing import Repeats


class Kind(StrEnum):
    """What a row tells; one row may tell several things."""

    VISIT = "visit"
    EXPOSURE = "exposure"
    TAKE = "take"
    ORDER = "order"
    REFUND = "refund"


class UnitKind(StrEnum):
    """Who the experiment of an export assigns, as `unit_kinds` of its events has it."""

    VISITOR = "visitor"
    CUSTOMER = "customer"


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows that tell one thing, and the columns that say it. Lines are summed by order."""

    kind: Kind
    when: Condition
    time: str | None = None  # in the place of the log's own time column
    order: str | None = None
    amount: str | None = None
    cost: str | None = None
    recovered: str | None = None
    sku: str | None = None
    quantity: str | None = None
    price: str | None = None

    @property
    def is_lines(self) -> bool:
        """Whether each row is a line of an order rather than the whole."""
        return self.price is not None

    @property
    def columns(self) -> frozenset[str]:
        """The columns it reads."""
        named = (self.time, self.order, self.amount, self.cost)
        named += (self.recovered, self.sku, self.quantity, self.price)
        return self.when.columns | {name for name in named if name is not None}


@dataclass(frozen=True, slots=True)
class Clock:
    """For a log without times: its rows lie evenly over the days, in their order."""

    start: date
    days: float


@dataclass(frozen=True, slots=True)
class VariantColumn:
    """The variant of a row: a column and, where its cells are not the keys, cell -> key."""

    column: str
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Export:
    """An experiment of what `rialto export` wrote, in the place of rows."""

    experiment: str
    unit: UnitKind
    store: str | None


@dataclass(frozen=True, slots=True)
class Goods:
    """What an offer does to the basket, which an experiment's document does not say."""

    replaces: str | None = None
    discount: float = 0.0


@dataclass(frozen=True, slots=True)
class Period:
    """Whose first visit is fitted, local days, both included; orders are followed until `until`."""

    first: date | None = None
    last: date | None = None
    until: datetime | None = None


ASSUMED: Mapping[str, float] = {
    "conversion": 0.5,
    "seeing": 0.9,
    "cost_rate": 0.6,
    "recovered": 0.8,
    "refund": 0.05,
    "repeat": 0.1,
    "history": 0.2,
    "order_value": 50.0,
    "order_value_cv": 0.5,
    "appeal": 0.3,
    "pressure": 0.01,
    "regret": 0.0,
}
"""Taken where a log cannot tell and the mapping's `assume` does not say; money in major units."""


@dataclass(frozen=True, slots=True)
class FitMapping:
    """A whole mapping."""

    name: str
    currency: str
    delimiter: str
    encoding: str
    decimal: str | None
    where: Condition
    time: ColumnTime | Clock | None  # None only of an export
    zone: str
    unit: UnitSource
    rules: tuple[Rule, ...]
    export: Export | None
    segment: tuple[str, ...]
    segments_max: int
    products_max: int
    variant: VariantColumn | None
    period: Period
    order_within: timedelta
    repeats: Repeats | None
    goods: Mapping[str, Goods]
    assume: Mapping[str, float]
    document: Mapping[str, Any] | None
    experiment: Experiment | None

    @property
    def columns(self) -> frozenset[str]:
        """Every column of the file that the mapping reads."""
        names = {*self.where.columns, *self.unit.columns, *self.segment}
        if isinstance(self.time, ColumnTime):
            names.add(self.time.column)
        if self.variant is not None:
            names.add(self.variant.column)
        for rule in self.rules:
            names |= rule.columns
        return frozenset(names)

    def assumed(self, name: str) -> float:
        """The value of the mapping's `assume`, or the default of that name."""
        return self.assume.get(name, ASSUMED[name])

    def has(self, kind: Kind) -> bool:
        """Whether some rows tell this."""
        return any(rule.kind is kind for rule in self.rules)
