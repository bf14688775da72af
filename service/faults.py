"""What msgspec says of a wrong value, as a fault that names the field and the remedy."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

import msgspec
from msgspec import inspect

from experiments.errors import FieldError
from experiments.json_schema import child

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_WRONG_TYPE = re.compile(r"Expected `(.*)`, got `(.*)`")


def fault_of(error: msgspec.ValidationError, kind: Any, value: Any) -> FieldError:
    """The fault that msgspec found in a plain value when it made a `kind` of it."""
    message, _, path = str(error).rpartition(" - at `")
    if not message:
        message, path = path, "$"
    else:
        path = path.removesuffix("`")
    tokens = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path.removeprefix("$"))
    steps = [None if index == "..." else name or index for name, index in tokens]
    names = _named(steps, error, kind, value)
    pointer = ""
    for name in names:
        pointer = child(pointer, name)
    if found := _UNKNOWN.fullmatch(message):
        known = _fields_at(kind, names)
        near = get_close_matches(found[1][:64], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the fields here are {', '.join(known)}"
        return FieldError(child(pointer, found[1]), "unknown_field", f"is not a known field; {hint}")
    if found := _MISSING.fullmatch(message):
        return FieldError(child(pointer, found[1]), "required", "is required")
    if found := _WRONG_TYPE.fullmatch(message):
        return FieldError(pointer, "wrong_type", f"must be {found[1]}, found {found[2]}")
    if message.startswith("Invalid enum value"):
        options = ", ".join(_options_at(kind, names))
        return FieldError(pointer, "not_one_of", f"must be one of {options}")
    code = next((code for part, code in _CONSTRAINTS if part in message), "invalid")
    return FieldError(pointer, code, message.replace("Expected", "must be"))


def _named(steps: list[str | None], error: msgspec.ValidationError, kind: Any, value: Any) -> list[str]:
    """The path with the names of map members, which msgspec leaves out (None)."""
    names: list[str] = []
    for step in steps:
        found = step if step is not None else _faulty_member(names, error, kind, value)
        if found is None:
            break
        names.append(found)
    return names


def _faulty_member(path: list[str], error: msgspec.ValidationError, kind: Any, value: Any) -> str | None:
    """The member of the map at this path that alone brings about the same error."""
    members = value
    for name in path:
        members = members[_place(members, name)]
    for name in members:
        try:
            msgspec.convert(_with(value, path, {name: members[name]}), kind)
        except msgspec.ValidationError as same:
            if str(same) == str(error):
                return name
    return None


def _with(value: Any, path: list[str], member: Any) -> Any:
    """The value with another member at this path; what it is in is copied."""
    if not path:
        return member
    copied: Any = list(value) if isinstance(value, list) else dict(value)
    place = _place(value, path[0])
    copied[place] = _with(value[place], path[1:], member)
    return copied


def _place(container: Any, name: str) -> Any:
    return int(name) if isinstance(container, list) else name


_CONSTRAINTS = (
    ("of length <=", "too_long"),
    ("of length >=", "too_short"),
    ("matching regex", "bad_format"),
    (">=", "too_small"),
    ("> ", "too_small"),
    ("<", "too_large"),
    ("out of range", "out_of_range"),
    ("timezone component", "bad_time"),
    ("Invalid value", "not_one_of"),
)


def _types_at(kind: Any, names: list[str]) -> list[inspect.Type]:
    """The types a value at this path may have."""
    nodes: list[inspect.Type] = [inspect.type_info(kind)]
    for name in names:
        nodes = [inner for node in nodes for inner in _step(node, name)]
    return [inner for node in nodes for inner in _alternatives(node)]


def _alternatives(node: inspect.Type) -> list[inspect.Type]:
    if isinstance(node, inspect.Metadata):
        return _alternatives(node.type)
    if isinstance(node, inspect.UnionType):
        return [inner for alternative in node.types for inner in _alternatives(alternative)]
    return [node]


def _step(node: inspect.Type, name: str) -> list[inspect.Type]:
    found: list[inspect.Type] = []
    for alternative in _alternatives(node):
        if isinstance(alternative, inspect.StructType):
            found += [f.type for f in alternative.fields if f.encode_name == name]
        elif isinstance(alternative, inspect.ListType):
            found.append(alternative.item_type)
        elif isinstance(alternative, inspect.DictType):
            found.append(alternative.value_type)
    return found


def _fields_at(kind: Any, names: list[str]) -> list[str]:
    structs = [node for node in _types_at(kind, names) if isinstance(node, inspect.StructType)]
    return [field.encode_name for node in structs for field in node.fields]


def _options_at(kind: Any, names: list[str]) -> list[str]:
    options: list[str] = []
    for node in _types_at(kind, names):
        if isinstance(node, inspect.LiteralType):
            options += [str(value) for value in node.values]
        elif isinstance(node, inspect.EnumType):
            options += [str(member.value) for member in node.cls]
    return options
