"""The parts that the document's JSON Schema is made of: closed objects, bounded numbers, keys, durations."""

from typing import Any

from experiments.times import DURATION_PATTERN, INSTANT_PATTERN

KEY_PATTERN = "^[a-z0-9][a-z0-9._-]{0,63}$"
ID_PATTERN = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
MONEY_LIMIT = 10**12  # squares of it, summed over 10^14 units, fit the ledger's two 64-bit limbs
NUMBER_LIMIT = 2**63 - 1  # of a number we only carry: what JSON libraries and databases keep exactly
SCALARS = ["string", "number", "boolean", "null"]

Json = dict[str, Any]


def described(schema: Json, description: str, **more: Any) -> Json:
    """The schema with a description, and more members."""
    return {**schema, "description": description, **more}


def closed(properties: Json, description: str, *, required: tuple[str, ...] = (), **more: Any) -> Json:
    """An object that takes these properties and no other."""
    schema: Json = {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
        **more,
    }
    return {**schema, "required": list(required)} if required else schema


def nullable(schema: Json) -> Json:
    """The schema, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def choice(values: Any, description: str, **more: Any) -> Json:
    """One of an enum's values."""
    return {
        "type": "string",
        "enum": [value.value for value in values],
        "description": description,
        **more,
    }


def text(most: int, description: str, **more: Any) -> Json:
    """A text of at most so many characters."""
    return {"type": "string", "maxLength": most, "description": description, **more}


KEY: Json = {
    "type": "string",
    "pattern": KEY_PATTERN,
    "x-remedy": "use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit",
}
ID: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": 128,
    "pattern": ID_PATTERN,
    "x-remedy": "use 1 to 128 characters, no control characters",
}
MONEY: Json = {
    "type": "integer",
    "minimum": 0,
    "maximum": MONEY_LIMIT,
    "x-remedy": "use minor units, e.g. 1290 for 12.90",
}
DURATION: Json = {
    "type": "string",
    "pattern": DURATION_PATTERN,
    "x-remedy": "write a whole number and its unit (s, m, h or d), e.g. 15m, 24h or 7d",
}
REASSIGN: Json = {
    "type": "string",
    "pattern": "^(never|[0-9]{1,9}[smhd])$",
    "x-remedy": "write never, or a whole number and its unit (s, m, h or d), e.g. 30d",
}
INSTANT: Json = {
    "type": "string",
    "pattern": INSTANT_PATTERN,
    "x-remedy": "write a time with its offset, e.g. 2026-03-01T12:00:00Z",
}
FRACTION: Json = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "x-remedy": "write a fraction, e.g. 0.05 for 5 %",
}
MARGIN: Json = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": 1000,
    "x-remedy": "write the margin as a fraction, e.g. 0.05 for 5 % worse than control",
}
COUNT: Json = {"type": "integer", "minimum": 0, "maximum": 10**9, "x-remedy": "write a whole number"}
POSITIVE: Json = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e15}
REAL: Json = {"type": "number", "minimum": -1e15, "maximum": 1e15}
