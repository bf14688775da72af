"""Reads a mapping from YAML and says, in one go, everything that is wrong with it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

from experiments.document import parse_document
from experiments.errors import InvalidDocument
from experiments.model import Experiment
from experiments.money import is_currency
from sim.replay.conditions import Condition
from sim.replay.errors import BadMapping
from sim.replay.mapping import (
    DECISION_EVENTS,
    EVENT_FIELDS,
    REQUIRED_FIELDS,
    ColumnTime,
    ContextColumn,
    ContextType,
    EventRule,
    FieldKind,
    InvoiceLines,
    LoggedVariant,
    Mode,
    ReplayMapping,
    Source,
    SplitVariant,
    SpreadTime,
    UnitSource,
)
from sim.replay.mapping_checks import faults_of
from sim.replay.node import Node
from sim.replay.values import decimal_or_none

TOP_LEVEL = frozenset(
    {
        *("name", "mode", "file", "where", "time", "clock", "step", "settle", "unit", "currency"),
        *("variant", "propensity", "context", "events", "orders", "cancellations", "experiment"),
    }
)


def read_mapping(path: Path) -> ReplayMapping:
    """The mapping in a YAML file; BadMapping names every fault found."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadMapping([f"{path} cannot be read: {error}"]) from error
    try:
        data: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadMapping([f"{path} is not YAML: {' '.join(str(error).split())}"]) from error
    return parse_mapping(data, default_name=path.name.split(".")[0])


def parse_mapping(data: object, *, default_name: str) -> ReplayMapping:
    """A mapping from plain values; BadMapping names every fault found."""
    problems: list[str] = []
    if not isinstance(data, dict):
        raise BadMapping(["it is not a map of settings; see docs/replay.md"])
    top = Node(data, "", problems)
    top.only(TOP_LEVEL)
    mapping = _build(top, default_name)
    problems.extend(faults_of(mapping))
    if problems:
        raise BadMapping(problems)
    return mapping


def _build(top: Node, default_name: str) -> ReplayMapping:
    file = top.child("file") or Node({}, "file", top.problems)
    file.only({"delimiter", "encoding"})
    document = top.raw("experiment")
    experiment = _experiment(document, top)
    currency = top.text("currency", experiment.currency if experiment else "")
    if not is_currency(currency):
        top.fault("currency", "an ISO 4217 code is needed here or in the experiment")
    return ReplayMapping(
        name=top.text("name", experiment.key if experiment else default_name),
        mode=top.choice("mode", Mode, Mode.EVENTS if experiment is None else Mode.FORCED),
        delimiter=file.text("delimiter", ","),
        encoding=file.text("encoding", "utf-8"),
        where=top.condition("where"),
        time=_time(top),
        step=top.duration("step", timedelta(days=1)),
        settle=top.duration("settle", timedelta(0)),
        unit=_unit(top),
        currency=currency,
        events=tuple(_event(node, experiment) for node in top.children("events")),
        context=_context(top.child("context")),
        variant=_variant(top.child("variant")),
        propensity=_propensity(top),
        orders=_lines(top.child("orders")),
        cancellations=_lines(top.child("cancellations")),
        document=document if isinstance(document, dict) else None,
        experiment=experiment,
    )


def _experiment(document: object, top: Node) -> Experiment | None:
    if document is None:
        return None
    if not isinstance(document, Mapping):
        top.fault("experiment", "an experiment document is needed")
        return None
    try:
        return parse_document(document)
    except InvalidDocument as error:
        for fault in error.errors:
            top.problems.append(f"experiment{fault.pointer}: {fault.remedy}")
        return None


def _time(top: Node) -> ColumnTime | SpreadTime:
    clock = top.child("clock")
    if clock is not None:
        if top.raw("time") is not None:
            top.fault("clock", "give time (a column) or clock (none in the file), not both")
        clock.only({"start", "days", "shuffle_seed"})
        return SpreadTime(clock.instant("start"), clock.positive("days"), clock.integer("shuffle_seed"))
    time = top.child("time")
    if time is None:
        top.fault("time", "say where a row's time is: time: {column, format, zone} or clock: {start, days}")
        return SpreadTime(datetime(2000, 1, 1, tzinfo=UTC), 1.0, None)
    time.only({"column", "format", "zone"})
    zone = time.text("zone", "UTC")
    try:
        found = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        time.fault("zone", f"{zone!r} is no time zone such as Europe/London")
        found = ZoneInfo("UTC")
    return ColumnTime(time.text("column"), time.text("format", "iso"), found)


def _unit(top: Node) -> UnitSource:
    unit = top.raw("unit")
    if isinstance(unit, str) and unit:
        return UnitSource((unit,))
    if isinstance(unit, list) and unit and all(isinstance(name, str) and name for name in unit):
        return UnitSource(tuple(unit))
    if isinstance(unit, dict) and set(unit) == {"row"} and isinstance(unit["row"], str):
        return UnitSource(row_prefix=unit["row"])
    top.fault("unit", "a column, a list of columns (the first not empty counts) or {row: prefix} is needed")
    return UnitSource()


def _variant(node: Node | None) -> LoggedVariant | SplitVariant | None:
    if node is None:
        return None
    node.only({"column", "keys", "split"})
    split = node.raw("split")
    if split is not None:
        if not isinstance(split, dict) or not all(_is_share(share) for share in split.values()):
            node.fault("split", "a map of variant to share is needed")
            return None
        if abs(sum(split.values()) - 1) > 1e-9:
            node.fault("split", "the shares must add up to 1")
        return SplitVariant({str(key): float(share) for key, share in split.items()})
    keys = node.raw("keys")
    if not isinstance(keys, dict) or not keys:
        node.fault("keys", "a map of the file's cell to the variant's key is needed")
        return None
    return LoggedVariant(node.text("column"), {str(cell): str(key) for cell, key in keys.items()})


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _propensity(top: Node) -> Source | None:
    value = top.raw("propensity")
    if value is None:
        return None
    if isinstance(value, str):
        fraction = value.split("/")
        numbers = [decimal_or_none(part) for part in fraction]
        if len(numbers) == 2 and numbers[0] is not None and numbers[1]:
            value = float(numbers[0] / numbers[1])
        else:
            return Source(column=value)
    if not _is_share(value):
        top.fault("propensity", "a number in (0, 1], a fraction such as 1/3 or a column is needed")
        return None
    return Source(constant=float(value))


def _context(node: Node | None) -> Mapping[str, ContextColumn]:
    if node is None:
        return {}
    columns: dict[str, ContextColumn] = {}
    for key in node.fields:
        value = node.raw(key)
        if isinstance(value, str):
            columns[key] = ContextColumn(value, ContextType.TEXT)
            continue
        child = node.child(key)
        if child is not None:
            child.only({"column", "type"})
            columns[key] = ContextColumn(
                child.text("column"), child.choice("type", ContextType, ContextType.TEXT)
            )
    return columns


def _event(node: Node, experiment: Experiment | None) -> EventRule:
    kind = node.text("type")
    if kind not in EVENT_FIELDS:
        node.fault("type", f"{kind!r} is none of {', '.join(EVENT_FIELDS)}")
        return EventRule(kind, Condition(), timedelta(0), {})
    known = EVENT_FIELDS[kind]
    node.only({"type", "when", "after", *known})
    fields = {name: source for name in known if (source := _field(node, name, known[name])) is not None}
    for name in sorted(REQUIRED_FIELDS.get(kind, frozenset()) - set(fields)):
        node.fault(name, "a column or {value: ...} is needed")
    if kind in DECISION_EVENTS and experiment is None:
        node.fault("type", f"{kind} belongs to a decision, so the mapping needs an experiment")
    return EventRule(kind, node.condition("when"), node.duration("after", timedelta(0)), fields)


def _field(node: Node, name: str, kind: FieldKind) -> Source | None:
    """A name and a scale are constants as they stand; any other field is a column or {value: ...}."""
    value = node.raw(name)
    if value is None:
        return None
    if name in ("name", "scale"):
        return Source(constant=value)
    if isinstance(value, str):
        return Source(column=value)
    if isinstance(value, dict) and set(value) == {"value"}:
        constant = value["value"]
        if kind is FieldKind.TEXT or decimal_or_none(str(constant)) is not None:
            return Source(constant=str(constant))
    node.fault(name, "a column or {value: ...} is needed")
    return None


def _lines(node: Node | None) -> InvoiceLines | None:
    if node is None:
        return None
    node.only({"when", "number", "item", "quantity", "price"})
    return InvoiceLines(
        when=node.condition("when"),
        number=node.text("number"),
        item=node.text("item"),
        quantity=node.text("quantity"),
        price=node.text("price"),
    )
