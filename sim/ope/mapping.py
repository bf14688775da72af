"""What a mapping of a log says, as values: which columns are the decision, its propensity and its reward.

`read_mapping` (in `mapping_reader.py`) makes one from YAML; docs/off-policy.md describes it field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sim.replay.conditions import Condition
from sim.replay.mapping import ColumnTime


class ContextKind(StrEnum):
    """How a column of the context is read."""

    CATEGORY = "category"
    NUMBER = "number"


class ExportMetric(StrEnum):
    """What an enrolled unit of an export earned in its window."""

    CONVERSION = "conversion"
    REVENUE = "revenue"
    MARGIN = "margin"


class UnitKind(StrEnum):
    """Who is randomised in an exported experiment."""

    VISITOR = "visitor"
    CUSTOMER = "customer"


@dataclass(frozen=True, slots=True)
class Formula:
    """A sum of columns with signs; `is_blank_zero` says that an empty cell counts as nothing."""

    terms: tuple[tuple[int, str], ...]
    is_blank_zero: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it adds up."""
        return tuple(column for _, column in self.terms)


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers, or one number for all rows."""

    column: str | None = None
    constant: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The column, if any."""
        return () if self.column is None else (self.column,)


@dataclass(frozen=True, slots=True)
class Candidates:
    """A column that lists the actions a row could have had."""

    column: str
    separator: str = "|"


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a slate: what stood there, how likely, the candidate's share of it, what it earned.

    Of the second place propensity and share are given the first; `alone` are those whatever stood first.
    """

    action: str
    propensity: Number
    share: str | None
    reward: Formula | None
    alone: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class SlateMapping:
    """Two places shown at once. `is_factored`: the second was drawn without looking at the first."""

    first: Place
    second: Place
    is_factored: bool


@dataclass(frozen=True, slots=True)
class ExportMapping:
    """Which experiment of an export, and what counts as its reward."""

    experiment: str
    metric: ExportMetric
    window: timedelta
    unit: UnitKind
    store: str | None


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A candidate policy of the mapping: its kind and its other settings, checked where it is made."""

    kind: str
    settings: Mapping[str, Any]
    path: str


@dataclass(frozen=True, slots=True)
class LogMapping:
    """A whole mapping; exactly one of `action` (rows), `slate` and `export` says what a row is."""

    delimiter: str
    encoding: str
    where: Condition
    action: str | None
    propensity: Number | None
    reward: Formula | None
    slate: SlateMapping | None
    export: ExportMapping | None
    unit: str | None
    decision: str | None
    position: str | None
    time: ColumnTime | None
    candidates: Candidates | None
    actions: tuple[str, ...]
    segment: str | None
    context: Mapping[str, ContextKind]
    policies: Mapping[str, PolicyEntry] = field(default_factory=dict[str, PolicyEntry])
