"""Reads the mapping of a log from YAML and says, in one go, everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from sim.ope.mapping import (
    Candidates,
    ContextKind,
    ExportMapping,
    ExportMetric,
    Formula,
    LogMapping,
    Number,
    Place,
    PolicyEntry,
    SlateMapping,
    UnitKind,
)
from sim.replay.errors import BadMapping
from sim.replay.mapping import ColumnTime
from sim.replay.node import Node
from sim.replay.values import decimal_or_none

TOP_LEVEL = frozenset(
    {
        *("file", "where", "action", "propensity", "reward", "slate", "export", "unit", "position", "time"),
        *("candidates", "actions", "segment", "context", "policies", "decision"),
    }
)
POLICY_KINDS = ("uniform", "logged", "columns", "fixed", "thompson", "top_two", "segment", "contextual")
OF_FILES = ("file", "where", "unit", "time", "segment", "context", "decision")
OF_ROWS = ("action", "propensity", "reward", "position", "candidates")


def read_mapping(path: Path) -> LogMapping:
    """The mapping in a YAML file; BadMapping names every fault found."""
    try:
        data: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadMapping([f"{path} cannot be read: {error}"]) from error
    except yaml.YAMLError as error:
        raise BadMapping([f"{path} is not YAML: {' '.join(str(error).split())}"]) from error
    return parse_mapping(data)


def parse_mapping(data: object) -> LogMapping:
    """A mapping from plain values; BadMapping names every fault found."""
    if not isinstance(data, dict):
        raise BadMapping(["it is not a map of settings; see docs/off-policy.md"])
    problems: list[str] = []
    top = Node(data, "", problems)
    top.only(TOP_LEVEL)
    mapping = _build(top)
    if problems:
        raise BadMapping(problems)
    return mapping


def _build(top: Node) -> LogMapping:
    file = top.child("file") or Node({}, "file", top.problems)
    file.only({"delimiter", "encoding"})
    kinds = [key for key in ("action", "slate", "export") if top.raw(key) is not None]
    if len(kinds) != 1:
        top.fault("action", "say what a row is by exactly one of action, slate and export")
    is_rows = kinds == ["action"]
    if is_rows:
        for key in ("propensity", "reward"):
            if top.raw(key) is None:
                top.fault(key, "is required: see docs/off-policy.md")
    else:
        for key in OF_ROWS[0 if len(kinds) > 1 else 1 :]:
            if top.raw(key) is not None and not (key == "reward" and kinds == ["slate"]):
                top.fault(key, "goes with action, not with slate or export")
    if kinds == ["export"]:
        for key in OF_FILES:
            if top.raw(key) is not None:
                top.fault(key, "goes with a file of rows; an export knows its own")
    return LogMapping(
        delimiter=file.text("delimiter", ","),
        encoding=file.text("encoding", "utf-8"),
        where=top.condition("where"),
        action=_column(top, "action"),
        propensity=_number(top, "propensity"),
        reward=_formula(top, "reward"),
        slate=_slate(top),
        export=_export(top.child("export")),
        unit=_column(top, "unit"),
        decision=_column(top, "decision"),
        position=_column(top, "position"),
        time=_time(top.child("time")),
        candidates=_candidates(top),
        actions=_actions(top),
        segment=_column(top, "segment"),
        context=_context(top.child("context")),
        policies=_policies(top.child("policies")),
    )


def _column(node: Node, key: str) -> str | None:
    return None if node.raw(key) is None else node.text(key)


def _number(node: Node, key: str) -> Number | None:
    """A column, a number in (0, 1] or a fraction such as 1/3."""
    value = node.raw(key)
    if value is None:
        return None
    if isinstance(value, str):
        parts = [decimal_or_none(part) for part in value.split("/")]
        if len(parts) == 2 and parts[0] is not None and parts[1]:
            value = float(parts[0] / parts[1])
        elif value:
            return Number(column=value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return Number(constant=float(value))
    node.fault(key, "a column, a number in (0, 1] or a fraction such as 1/3 is needed")
    return None


def _formula(node: Node, key: str) -> Formula | None:
    """`column`, `amount - cost - refund`, or {formula: ..., empty: 0}."""
    value, is_blank_zero = node.raw(key), False
    if value is None:
        return None
    if isinstance(value, dict):
        child = node.child(key)
        assert child is not None
        child.only({"formula", "empty"})
        if child.raw("empty") not in (None, 0):
            child.fault("empty", "0 is all an empty cell can count as")
        value, is_blank_zero = child.text("formula"), child.raw("empty") is not None
    if not isinstance(value, str) or not value.strip():
        node.fault(key, "a column, or columns joined by ' + ' and ' - ', is needed")
        return None
    parts = re.split(r"\s+([+-])\s+", value.strip())
    signs = [1, *(1 if sign == "+" else -1 for sign in parts[1::2])]
    return Formula(tuple(zip(signs, parts[::2], strict=True)), is_blank_zero)


def _slate(top: Node) -> SlateMapping | None:
    node = top.child("slate")
    if node is None:
        return None
    node.only({"first", "second", "drawn"})
    first, second = (node.child(key) or Node({}, f"slate/{key}", top.problems) for key in ("first", "second"))
    drawn = node.text("drawn")
    if drawn not in ("independently", "given_first"):
        node.fault("drawn", "say independently, or given_first: how the second place was drawn")
    places = _place(first, is_second=False), _place(second, is_second=drawn == "given_first")
    has_parts = [place.reward is not None for place in places]
    if (top.raw("reward") is None) != all(has_parts) or any(has_parts) != all(has_parts):
        top.fault("reward", "a slate earns either one reward at the top or one in each of first and second")
    return SlateMapping(*places, is_factored=drawn == "independently")


def _place(node: Node, *, is_second: bool) -> Place:
    alone = ("propensity_alone", "share_alone")
    node.only({"action", "propensity", "share", "reward", *(alone if is_second else ())})
    given = [_column(node, key) for key in alone] if is_second else [None, None]
    if (given[0] is None) != (given[1] is None):
        node.fault("share_alone", "comes with propensity_alone, or neither")
    propensity = _number(node, "propensity")
    if propensity is None and node.raw("propensity") is None:
        node.fault("propensity", "is required: how likely what stood there was")
    return Place(
        node.text("action"),
        propensity or Number(constant=1.0),
        _column(node, "share"),
        _formula(node, "reward"),
        (given[0], given[1]) if given[0] is not None and given[1] is not None else None,
    )


def _export(node: Node | None) -> ExportMapping | None:
    if node is None:
        return None
    node.only({"experiment", "metric", "window", "unit", "store"})
    return ExportMapping(
        experiment=node.text("experiment"),
        metric=node.choice("metric", ExportMetric, ExportMetric.MARGIN),
        window=node.duration("window", timedelta(days=7)),
        unit=node.choice("unit", UnitKind, UnitKind.VISITOR),
        store=_column(node, "store"),
    )


def _time(node: Node | None) -> ColumnTime | None:
    if node is None:
        return None
    node.only({"column", "format", "zone"})
    zone = node.text("zone", "UTC")
    try:
        found = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        node.fault("zone", f"{zone!r} is no time zone such as Europe/London")
        found = ZoneInfo("UTC")
    return ColumnTime(node.text("column"), node.text("format", "iso"), found)


def _candidates(top: Node) -> Candidates | None:
    value = top.raw("candidates")
    if value is None:
        return None
    if isinstance(value, str) and value:
        return Candidates(value)
    node = top.child("candidates")
    if node is None:
        return None
    node.only({"column", "separator"})
    return Candidates(node.text("column"), node.text("separator", "|"))


def _actions(top: Node) -> tuple[str, ...]:
    value = top.raw("actions")
    if value is None:
        return ()
    if not isinstance(value, list) or not value or len({str(one) for one in value}) < len(value):
        top.fault("actions", "a list of different actions is needed")
        return ()
    return tuple(str(one) for one in value)


def _context(node: Node | None) -> Mapping[str, ContextKind]:
    if node is None:
        return {}
    return {key: node.choice(key, ContextKind, ContextKind.CATEGORY) for key in node.fields}


def _policies(node: Node | None) -> Mapping[str, PolicyEntry]:
    found: dict[str, PolicyEntry] = {}
    for name in node.fields if node is not None else ():
        assert node is not None
        child = node.child(name)
        if child is None:
            continue
        kind = child.text("kind")
        if kind not in POLICY_KINDS:
            child.fault("kind", f"{kind!r} is none of {', '.join(POLICY_KINDS)}")
        settings: dict[str, Any] = {key: child.raw(key) for key in child.fields if key != "kind"}
        found[name] = PolicyEntry(kind, settings, f"policies/{name}")
    return found
