"""A small interpreter of JSON Schema (draft 2020-12): the keywords Rialto's own schemas use, no others.

`check` collects every fault and returns the value cleaned: defaults filled in, faulty members left out
(in an array or an open map `INVALID` takes their place, so that indices and names stay). Rules that
span fields can then run on what is sound, and one answer names everything that is wrong.

Stricter than the specification in three documented ways: NaN and infinity are no numbers, 1290.0 is no
integer (in money it betrays major units), and text must be encodable as UTF-8. Beside each keyword
`x-remedy` says in words what to write instead.
"""

import math
import re
from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from enum import Enum
from typing import Any, Final, cast

from experiments.errors import FieldError

Schema = Mapping[str, Any]


class _Invalid(Enum):
    INVALID = "invalid"


INVALID: Final = _Invalid.INVALID
"""Stands where a value was faulty."""

_ANNOTATIONS = {"$schema", "$id", "title", "description", "default", "x-remedy"}
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_TEXTS = {"minLength", "maxLength", "pattern"}
_ARRAYS = {"items", "minItems", "maxItems"}
_OBJECTS = {
    "properties",
    "required",
    "additionalProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
}
KEYWORDS = frozenset({"type", "enum"} | _ANNOTATIONS | _NUMBERS | _TEXTS | _ARRAYS | _OBJECTS)
"""What a schema may contain: a keyword outside would be ignored, silently."""

_UNKNOWN_LISTED = 20  # a megabyte of unknown fields is answered without listing each


def check(schema: Schema, value: object, pointer: str, faults: list[FieldError]) -> Any:
    """Append every fault of the value to `faults`; return it cleaned, or INVALID."""
    kind = _kind(value)
    if not _allowed(schema, kind):
        faults.append(_type_fault(schema, kind, pointer))
        return INVALID
    if kind == "object":
        return _check_object(schema, cast(Mapping[object, object], value), pointer, faults)
    if kind == "array":
        return _check_array(schema, cast(list[object], value), pointer, faults)
    if kind == "string":
        fault = _string_fault(schema, cast(str, value), pointer)
    elif kind in ("integer", "number"):
        fault = _number_fault(schema, cast(float, value), pointer)
    else:
        fault = None
    if fault:
        faults.append(fault)
        return INVALID
    return value


def child(pointer: str, token: object) -> str:
    """Extend a JSON pointer (RFC 6901) by one token.

    >>> child("/audience", "a/b")
    '/audience/a~1b'
    """
    return f"{pointer}/{str(token).replace('~', '~0').replace('/', '~1')}"


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number" if math.isfinite(value) else "NaN or infinity"
        case str():
            return "string"
        case list():
            return "array"
        case Mapping():
            return "object"
        case _:
            return type(value).__name__


def _types(schema: Schema) -> tuple[str, ...]:
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


def _allowed(schema: Schema, kind: str) -> bool:
    types = _types(schema)
    return kind in types or (kind == "integer" and "number" in types)


def _fault(schema: Schema, pointer: str, code: str, reason: str) -> FieldError:
    remedy = schema.get("x-remedy")
    return FieldError(pointer, code, f"{reason}; {remedy}" if remedy else reason)


def _type_fault(schema: Schema, kind: str, pointer: str) -> FieldError:
    wanted = " or ".join(_types(schema))
    if kind == "NaN or infinity":
        return _fault(schema, pointer, "not_finite", f"must be a finite {wanted}, found NaN or infinity")
    if kind == "number" and "integer" in _types(schema):
        return _fault(schema, pointer, "not_an_integer", "must be a whole number without a decimal point")
    return _fault(schema, pointer, "wrong_type", f"must be of type {wanted}, found {kind}")


def _string_fault(schema: Schema, value: str, pointer: str) -> FieldError | None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return FieldError(pointer, "bad_format", "must be valid Unicode, found half of a surrogate pair")
    options = schema.get("enum")
    if options is not None and value not in options:
        reason = f"must be one of {', '.join(map(str, options))}, found {_shown(value)}"
        return _fault(schema, pointer, "not_one_of", reason)
    if len(value) < schema.get("minLength", 0):
        return _fault(schema, pointer, "too_short", f"must have at least {schema['minLength']} characters")
    if len(value) > schema.get("maxLength", math.inf):
        return _fault(schema, pointer, "too_long", f"must have at most {schema['maxLength']} characters")
    if "pattern" in schema and not _matches(schema["pattern"], value):
        return _fault(schema, pointer, "bad_format", f"{_shown(value)} does not have the right form")
    return None


def _matches(pattern: str, value: str) -> bool:
    # JSON Schema's patterns are ECMA 262's, whose $ does not match before a final line feed; Python's does.
    return re.search(re.sub(r"\$$", r"\\Z", pattern), value) is not None


def _number_fault(schema: Schema, value: float, pointer: str) -> FieldError | None:
    if value < schema.get("minimum", -math.inf):
        return _fault(schema, pointer, "too_small", f"must be at least {schema['minimum']}")
    if value <= schema.get("exclusiveMinimum", -math.inf):
        return _fault(schema, pointer, "too_small", f"must be greater than {schema['exclusiveMinimum']}")
    if value > schema.get("maximum", math.inf):
        return _fault(schema, pointer, "too_large", f"must be at most {schema['maximum']}")
    if value >= schema.get("exclusiveMaximum", math.inf):
        return _fault(schema, pointer, "too_large", f"must be less than {schema['exclusiveMaximum']}")
    return None


def _check_array(schema: Schema, value: list[object], pointer: str, faults: list[FieldError]) -> list[Any]:
    most = schema.get("maxItems", len(value))
    if len(value) < schema.get("minItems", 0):
        plural = "" if schema["minItems"] == 1 else "s"
        reason = f"must have at least {schema['minItems']} item{plural}, found {len(value)}"
        faults.append(_fault(schema, pointer, "too_few", reason))
    if len(value) > most:
        reason = f"must have at most {most} items, found {len(value)}"
        faults.append(_fault(schema, pointer, "too_many", reason))
    items = schema.get("items", {})
    return [check(items, item, child(pointer, index), faults) for index, item in enumerate(value[:most])]


def _check_object(
    schema: Schema, value: Mapping[object, object], pointer: str, faults: list[FieldError]
) -> Any:
    if len(value) > schema.get("maxProperties", math.inf):
        reason = f"must have at most {schema['maxProperties']} fields, found {len(value)}"
        faults.append(_fault(schema, pointer, "too_many", reason))
        return INVALID
    if len(value) < schema.get("minProperties", 0):
        reason = f"must have at least {schema['minProperties']} field, found {len(value)}"
        faults.append(_fault(schema, pointer, "too_few", reason))
        return INVALID
    properties: Mapping[str, Schema] = schema.get("properties", {})
    cleaned: dict[str, Any] = {}
    for name in schema.get("required", ()):
        if name not in value:
            faults.append(_fault(properties[name], child(pointer, name), "required", "is required"))
    for name, member in properties.items():
        if name in value:
            sound = check(member, value[name], child(pointer, name), faults)
            if sound is not INVALID:
                cleaned[name] = sound
        elif "default" in member:
            cleaned[name] = check(member, deepcopy(member["default"]), child(pointer, name), faults)
    others = [name for name in value if name not in properties]
    additional = schema["additionalProperties"]
    if additional is False:
        faults.extend(_unknown_faults(properties, others, pointer))
        return cleaned
    for name in others:
        at = child(pointer, name)
        if check(schema.get("propertyNames", {"type": "string"}), name, at, faults) is not INVALID:
            cleaned[cast(str, name)] = check(additional, value[name], at, faults)
    return cleaned


def _unknown_faults(properties: Mapping[str, Schema], names: list[object], pointer: str) -> list[FieldError]:
    known = ", ".join(properties)
    faults: list[FieldError] = []
    for name in names[:_UNKNOWN_LISTED]:
        near = get_close_matches(str(name)[:64], properties, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the fields here are {known}"
        faults.append(FieldError(child(pointer, name), "unknown_field", f"is not a known field; {hint}"))
    if len(names) > _UNKNOWN_LISTED:
        rest = len(names) - _UNKNOWN_LISTED
        faults.append(FieldError(pointer, "unknown_field", f"and {rest} more unknown fields; remove them"))
    return faults


def _shown(value: str) -> str:
    return repr(value if len(value) <= 64 else value[:61] + "...")
