"""Worlds as documents, in JSON or YAML: every field by the name it has in `world.py`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec

from sim.worlds.errors import InvalidWorld
from sim.worlds.world import World

Document = dict[str, Any]


def to_document(world: World) -> Document:
    """The world in plain values, every default explicit; `from_document` gives it back."""
    return msgspec.to_builtins(world)


def from_document(document: Mapping[str, Any]) -> World:
    """Read a world; InvalidWorld names the place of what is wrong, unknown fields included."""
    try:
        # msgspec leaves defaults to the class; made anew, the world holds every field itself
        world = replace(msgspec.convert(document, World))
    except msgspec.ValidationError as error:
        raise InvalidWorld(str(error)) from error
    _refuse_unknown(document, to_document(world), "$")
    return world


def to_json(world: World) -> str:
    """The world as JSON text."""
    return json.dumps(to_document(world), indent=1)


def from_json(text: str) -> World:
    """Read a world from JSON text."""
    return from_document(_mapping(json.loads(text)))


def _mapping(found: object) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise InvalidWorld("$: a world is a mapping of fields")
    return cast("Mapping[str, Any]", found)


def _refuse_unknown(given: object, known: object, where: str) -> None:
    """A field that no part of a world has would be passed over in silence: a misspelling is an error."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        fields = cast("Mapping[str, object]", known)
        for name, value in cast("Mapping[str, object]", given).items():
            if name not in fields:
                raise InvalidWorld(f"{where}.{name}: there is no such field, only {', '.join(fields)}")
            _refuse_unknown(value, fields[name], f"{where}.{name}")
    elif isinstance(given, Sequence) and not isinstance(given, str):
        for index, pair in enumerate(zip(given, cast("Sequence[object]", known), strict=True)):
            _refuse_unknown(*pair, f"{where}[{index}]")
