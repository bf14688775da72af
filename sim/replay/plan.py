"""Rows become actions: assignments and events, each with its time, all ids taken from the file alone.

The same file and mapping always give the same actions, so a second run sends only duplicates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.times import format_instant
from sim.replay.actions import Action, Assign, Event
from sim.replay.errors import BadFile
from sim.replay.invoices import invoice_actions
from sim.replay.mapping import (
    DECISION_EVENTS,
    EVENT_FIELDS,
    REQUIRED_FIELDS,
    ContextColumn,
    ContextType,
    EventRule,
    FieldKind,
    LoggedVariant,
    ReplayMapping,
    Source,
    SplitVariant,
)
from sim.replay.source import Row
from sim.replay.units import split_variant, unit_of
from sim.replay.values import parse_count, parse_decimal, parse_id, to_minor

TRUE_WORDS = frozenset({"1", "true", "yes", "t", "y"})
FALSE_WORDS = frozenset({"0", "false", "no", "f", "n", ""})


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """What the file says happened to a unit: its variant and what followed."""

    assign: Assign
    events: tuple[Event, ...]


def forced_actions(rows: Sequence[Row], mapping: ReplayMapping) -> list[Action]:
    """All actions in order of time; an assignment precedes the events of its instant."""
    if mapping.orders is not None:
        actions = invoice_actions(rows, mapping)
    else:
        actions = list(_row_actions(rows, mapping))
    return sorted(actions, key=lambda action: (action.at, isinstance(action, Event)))


def logged_rows(rows: Sequence[Row], mapping: ReplayMapping) -> list[LoggedRow]:
    """Rows for a replay that chooses for itself: a unit may come once."""
    seen: dict[str, int] = {}
    logged: list[LoggedRow] = []
    for row in rows:
        unit = unit_of(row, mapping)
        if unit in seen:
            raise BadFile(f"unit {unit!r} was already in row {seen[unit]}; a choice is made once", row.number)
        seen[unit] = row.number
        logged.append(LoggedRow(_assign(row, unit, mapping), tuple(row_events(row, unit, mapping))))
    return logged


def _row_actions(rows: Sequence[Row], mapping: ReplayMapping) -> Iterator[Action]:
    first: dict[str, Assign] = {}
    for row in rows:
        unit = unit_of(row, mapping)
        if mapping.variant is not None:
            assign = _assign(row, unit, mapping)
            earlier = first.setdefault(unit, assign)
            if earlier is assign:
                yield assign
            elif earlier.variant != assign.variant:
                raise BadFile(
                    f"unit {unit!r} has variant {assign.variant!r} here and {earlier.variant!r} in row "
                    f"{earlier.row}; a unit has one variant",
                    row.number,
                )
        yield from row_events(row, unit, mapping)


def row_events(row: Row, unit: str, mapping: ReplayMapping) -> Iterator[Event]:
    """The events whose condition the row meets."""
    for place, rule in enumerate(mapping.events):
        if not rule.when.holds(row.values, row.number):
            continue
        event_id = f"{mapping.name}:{row.number}:{place}-{rule.type}"
        at = row.at + rule.after
        body: dict[str, Any] = {"event_id": event_id, "type": rule.type, "unit_id": unit}
        body["occurred_at"] = format_instant(at)
        body.update(_fields(rule, row, mapping))
        if rule.type == "order":
            body.setdefault("order_id", f"{mapping.name}:{row.number}")
            body["currency"] = mapping.currency
        yield Event(at, row.number, unit, body, rule.type in DECISION_EVENTS)


def _fields(rule: EventRule, row: Row, mapping: ReplayMapping) -> Iterator[tuple[str, Any]]:
    for name, source in rule.fields.items():
        cell = _cell(source, row)
        if not cell and name not in REQUIRED_FIELDS.get(rule.type, frozenset()):
            continue
        column = source.column or name
        match EVENT_FIELDS[rule.type][name]:
            case FieldKind.TEXT:
                yield name, parse_id(cell, f"column {column!r}", row.number)
            case FieldKind.NUMBER:
                yield name, float(parse_decimal(cell, column, row.number))
            case FieldKind.MONEY:
                amount = parse_decimal(cell, column, row.number)
                if amount < 0:
                    raise BadFile(f"column {column!r} holds {cell!r}; money cannot be negative", row.number)
                yield name, to_minor(amount, mapping.currency)


def _cell(source: Source, row: Row) -> str:
    return str(source.constant) if source.column is None else row.values[source.column].strip()


def _assign(row: Row, unit: str, mapping: ReplayMapping) -> Assign:
    match mapping.variant:
        case LoggedVariant(column, keys):
            cell = row.values[column].strip()
            if cell not in keys:
                known = ", ".join(map(repr, keys))
                raise BadFile(
                    f"column {column!r} holds {cell!r}, which stands for no variant; known are {known}",
                    row.number,
                )
            variant = keys[cell]
            propensity = _propensity(row, mapping)
        case SplitVariant(shares):
            variant = split_variant(unit, shares)
            propensity = shares[variant]
        case None:
            raise AssertionError("a mapping without a variant assigns nobody")
    context = {key: _context_value(source, row) for key, source in mapping.context.items()}
    return Assign(row.at, row.number, unit, variant, propensity, context)


def _propensity(row: Row, mapping: ReplayMapping) -> float:
    source = mapping.propensity
    if source is None:
        return 1.0
    if source.column is None:
        return float(source.constant)
    value = float(parse_decimal(row.values[source.column], source.column, row.number))
    if not 0 < value <= 1:
        raise BadFile(f"column {source.column!r} holds {value}; a propensity lies in (0, 1]", row.number)
    return value


def _context_value(source: ContextColumn, row: Row) -> str | int | float | bool:
    cell = row.values[source.column].strip()
    match source.type:
        case ContextType.TEXT:
            return cell
        case ContextType.INTEGER:
            return parse_count(cell, source.column, row.number)
        case ContextType.NUMBER:
            return float(parse_decimal(cell, source.column, row.number))
        case ContextType.BOOLEAN:
            if cell.lower() not in TRUE_WORDS | FALSE_WORDS:
                raise BadFile(f"column {source.column!r} holds {cell!r}, neither true nor false", row.number)
            return cell.lower() in TRUE_WORDS
