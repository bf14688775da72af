"""Reads the mapping of a shop's log from YAML and says, in one go, everything that is wrong with it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import yaml

from experiments.document import parse_document
from experiments.errors import InvalidDocument
from experiments.model import Experiment
from experiments.money import is_currency
from sim.fitting.mapping import (
    ASSUMED,
    Clock,
    Export,
    FitMapping,
    Goods,
    Kind,
    Period,
    Rule,
    UnitKind,
    VariantColumn,
)
from sim.fitting.numbers import DECIMALS
from sim.replay.errors import BadMapping
from sim.replay.mapping import ColumnTime, UnitSource
from sim.replay.node import Node
from sim.worlds.errors import InvalidWorld
from sim.worlds.timing import REPEATS, Repeats

TOP_LEVEL = frozenset(
    {
        *("name", "currency", "file", "where", "time", "clock", "zone", "unit", "rows", "export", "segment"),
        *("segments_max", "products_max", "variant", "arrivals", "until", "order_within"),
        *("repeats", "offers", "assume", "experiment"),
    }
)
RULE = frozenset({"kind", "when", "time", "order", "amount", "cost", "recovered", "sku", "quantity", "price"})
OF_FILES = ("file", "where", "time", "clock", "unit", "rows", "segment", "variant")
DAY = timedelta(days=1)


def read_mapping(path: Path) -> FitMapping:
    """The mapping in a YAML file; BadMapping names every fault found."""
    try:
        data: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadMapping([f"{path} cannot be read: {error}"]) from error
    except yaml.YAMLError as error:
        raise BadMapping([f"{path} is not YAML: {' '.join(str(error).split())}"]) from error
    return parse_mapping(data, name=path.name.split(".")[0])


def parse_mapping(data: object, *, name: str) -> FitMapping:
    """A mapping from plain values; BadMapping names every fault found."""
    if not isinstance(data, dict):
        raise BadMapping(["it is not a map of settings; see docs/fitting.md"])
    problems: list[str] = []
    top = Node(cast("dict[Any, Any]", data), "", problems)
    top.only(TOP_LEVEL)
    mapping = _build(top, name)
    _check(top, mapping)
    if problems:
        raise BadMapping(problems)
    return mapping


def _build(top: Node, name: str) -> FitMapping:
    file = top.child("file") or Node({}, "file", top.problems)
    file.only({"delimiter", "encoding", "decimal"})
    decimal = None if file.raw("decimal") is None else file.text("decimal")
    if decimal not in (None, *DECIMALS):
        file.fault("decimal", 'it is "." or ","')
        decimal = None
    experiment = _experiment(top)
    currency = top.text("currency", experiment.currency if experiment else "")
    if not is_currency(currency):
        top.fault("currency", "an ISO 4217 code is needed here or in the experiment")
    zone = _zone(top, "zone")
    document = top.raw("experiment")
    return FitMapping(
        name=top.text("name", name),
        currency=currency,
        delimiter=file.text("delimiter", ","),
        encoding=file.text("encoding", "utf-8"),
        decimal=decimal,
        where=top.condition("where"),
        time=_time(top, zone),
        zone=zone.key,
        unit=_unit(top),
        rules=tuple(_rule(node) for node in top.children("rows")),
        export=_export(top.child("export")),
        segment=_columns(top, "segment"),
        segments_max=_whole(top, "segments_max", 6),
        products_max=_whole(top, "products_max", 8),
        variant=_variant(top.child("variant"), experiment),
        period=_period(top, zone),
        order_within=top.duration("order_within", 7 * DAY),
        repeats=_repeats(top),
        goods=_goods(top, experiment),
        assume=_assume(top.child("assume")),
        document=cast("Mapping[str, Any]", document) if isinstance(document, dict) else None,
        experiment=experiment,
    )


def _check(top: Node, mapping: FitMapping) -> None:
    """What parts must be there together."""
    if mapping.export is not None:
        for key in OF_FILES:
            if top.raw(key) is not None:
                top.fault(key, "goes with rows of a file, not with export")
        if mapping.experiment is None:
            top.fault("experiment", "the exported experiment's document is needed: it says what was offered")
        return
    if not mapping.has(Kind.ORDER):
        top.fault("rows", "at least one rule of kind order is needed")
    if mapping.time is None:
        top.fault("time", "a time column is needed, or a clock for a log without one")
    if not mapping.unit.columns and not mapping.unit.row_prefix:
        top.fault("unit", "a column that names the customer, or {row: prefix}, is needed")
    for kind in (Kind.EXPOSURE, Kind.TAKE):
        if mapping.has(kind) and not (mapping.has(Kind.VISIT) and mapping.variant):
            top.fault("rows", f"{kind} needs rows of kind visit, and variant")
    if mapping.variant is not None and not mapping.has(Kind.VISIT):
        top.fault("rows", "variant needs rows of kind visit: who did not order was assigned too")


def _experiment(top: Node) -> Experiment | None:
    document = top.raw("experiment")
    if document is None:
        return None
    if not isinstance(document, dict):
        top.fault("experiment", "an experiment document is needed (docs/experiments.md)")
        return None
    try:
        return parse_document(cast("dict[str, Any]", document), currency_default=str(top.raw("currency")))
    except InvalidDocument as error:
        top.fault("experiment", str(error))
        return None


def _zone(node: Node, key: str) -> ZoneInfo:
    name = node.text(key, "UTC")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        node.fault(key, f"{name!r} is no time zone such as Europe/London")
        return ZoneInfo("UTC")


def _time(top: Node, zone: ZoneInfo) -> ColumnTime | Clock | None:
    clock, node = top.child("clock"), top.child("time")
    if clock is not None:
        if node is not None:
            top.fault("clock", "goes with a log that has no time column")
        clock.only({"start", "days"})
        return Clock(clock.instant("start").date(), clock.positive("days"))
    if node is None:
        return None
    node.only({"column", "format"})
    return ColumnTime(node.text("column"), node.text("format", "iso"), zone)


def _unit(top: Node) -> UnitSource:
    if isinstance(top.raw("unit"), dict):
        node = top.child("unit")
        assert node is not None
        node.only({"row"})
        return UnitSource(row_prefix=node.text("row"))
    return UnitSource(columns=_columns(top, "unit"))


def _columns(node: Node, key: str) -> tuple[str, ...]:
    value = node.raw(key)
    if value is None:
        return ()
    named = cast("list[Any]", value) if isinstance(value, list) else [value]
    if not named or not all(isinstance(one, str) and one for one in named):
        node.fault(key, "a column, or a list of columns, is needed")
        return ()
    return tuple(named)


def _whole(node: Node, key: str, default: int) -> int:
    found = node.integer(key)
    if found == 0:
        node.fault(key, "a whole number above 0 is needed")
    return found or default


def _rule(node: Node) -> Rule:
    node.only(RULE)
    kind = node.choice("kind", Kind, Kind.VISIT)
    if node.raw("kind") is None:
        node.fault("kind", f"one of {', '.join(Kind)} is needed")
    named = {key: node.text(key) for key in sorted(RULE - {"kind", "when"}) if node.raw(key) is not None}
    rule = Rule(kind, node.condition("when"), **named)
    is_money = kind in (Kind.ORDER, Kind.REFUND)
    for key in named if not is_money else ():
        if key != "time":
            node.fault(key, "goes with order and refund only")
    if ("price" in named) != ("quantity" in named) or ("price" in named and "sku" not in named):
        node.fault("price", "a line needs sku, quantity and price")
    if rule.is_lines and (rule.order is None or rule.amount is not None):
        node.fault("order", "lines are summed by the column `order`, and have no amount of their own")
    if kind is Kind.REFUND and rule.order is None and not rule.is_lines:
        node.fault("order", "the column that names the refunded order is needed")
    return rule


def _export(node: Node | None) -> Export | None:
    if node is None:
        return None
    node.only({"experiment", "unit", "store"})
    store = None if node.raw("store") is None else node.text("store")
    return Export(node.text("experiment"), node.choice("unit", UnitKind, UnitKind.VISITOR), store)


def _variant(node: Node | None, experiment: Experiment | None) -> VariantColumn | None:
    if node is None:
        return None
    node.only({"column", "keys"})
    if experiment is None:
        node.fault("column", "an experiment document is needed: it says what the variants offered")
    keys = node.child("keys")
    return VariantColumn(node.text("column"), {} if keys is None else {k: keys.text(k) for k in keys.fields})


def _period(top: Node, zone: ZoneInfo) -> Period:
    node = top.child("arrivals")
    first = last = None
    if node is not None:
        node.only({"from", "to"})
        first = _day(node, "from")
        last = _day(node, "to")
    until = None
    if top.raw("until") is not None:
        # A time without an offset is the shop's own
        naive = top.instant("until")
        given = top.raw("until")
        has_offset = isinstance(given, str) and datetime.fromisoformat(given).tzinfo is not None
        until = naive if has_offset else naive.replace(tzinfo=zone).astimezone(UTC)
    if first and last and first > last:
        top.fault("arrivals", "from must not be after to")
    return Period(first, last, until)


def _day(node: Node, key: str) -> date | None:
    return None if node.raw(key) is None else node.instant(key).date()


def _repeats(top: Node) -> Repeats | None:
    node = top.child("repeats")
    if node is None:
        return None
    node.only({"after", "every", "times"})
    times = node.integer("times")
    try:
        return Repeats(
            node.duration("after", timedelta(days=REPEATS.after_days)) / DAY,
            node.duration("every", timedelta(days=REPEATS.every_days)) / DAY,
            REPEATS.times if times is None else times,
        )
    except InvalidWorld as error:
        top.fault("repeats", str(error))
        return None


def _goods(top: Node, experiment: Experiment | None) -> Mapping[str, Goods]:
    node = top.child("offers")
    found: dict[str, Goods] = {}
    known = {variant.key for variant in experiment.variants} if experiment else set[str]()
    for key in node.fields if node is not None else ():
        assert node is not None
        child = node.child(key)
        if key not in known:
            node.fault(key, "no variant of the experiment")
        if child is not None:
            child.only({"replaces", "discount"})
            replaces = None if child.raw("replaces") is None else child.text("replaces")
            discount = 0.0 if child.raw("discount") is None else child.positive("discount")
            if discount >= 1:
                child.fault("discount", "a part below 1 is needed")
            found[key] = Goods(replaces, min(discount, 0.99))
    return found


def _assume(node: Node | None) -> Mapping[str, float]:
    found: dict[str, float] = {}
    if node is None:
        return found
    node.only(ASSUMED)
    for key in node.fields:
        value = node.raw(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (key != "pressure" and value < 0):
            node.fault(key, "a number is needed, not below 0 except for pressure")
        elif key in ASSUMED:
            found[key] = float(value)
    return found
