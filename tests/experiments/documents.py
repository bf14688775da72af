"""Documents to test with, and how to break them."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from experiments.document import parse_document
from experiments.errors import InvalidDocument

Json = Any

FULL: dict[str, Json] = json.loads((Path(__file__).parent / "golden" / "document.json").read_text("utf-8"))
"""Every field is there, most away from its default."""

SMALL: dict[str, Json] = {
    "key": "small",
    "touchpoint": "cart",
    "currency": "EUR",
    "variants": [
        {"key": "none", "is_control": True, "offer": {"kind": "none"}},
        {"key": "socks", "offer": {"kind": "cross_sell", "sku": "SOCK-3"}},
    ],
}
"""Nothing but what is required."""

REMOVE = object()


def changed(document: dict[str, Json], *edits: tuple[str, Json]) -> dict[str, Json]:
    """A copy with the value at each JSON pointer replaced; `REMOVE` deletes it, `-` appends to a list."""
    copy = deepcopy(document)
    for pointer, value in edits:
        *way, last = pointer.split("/")[1:]
        parent: Json = copy
        for token in way:
            parent = parent[int(token)] if isinstance(parent, list) else parent.setdefault(token, {})
        if isinstance(parent, list):
            if last == "-":
                parent.append(value)
            elif value is REMOVE:
                del parent[int(last)]
            else:
                parent[int(last)] = value
        elif value is REMOVE:
            del parent[last]
        else:
            parent[last] = value
    return copy


def paths(value: Json, way: tuple[Json, ...] = ()) -> list[tuple[Json, ...]]:
    """Of every value inside a document: the keys and indices that lead to it."""
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    else:
        children = []
    found = [way] if way else []
    return found + [one for token, child in children for one in paths(child, (*way, token))]


def faults(document: Any, **options: Any) -> list[tuple[str, str]]:
    """Pointer and code of every fault of a document; each has a remedy of one line."""
    with pytest.raises(InvalidDocument) as caught:
        parse_document(document, **options)
    assert all(fault.remedy and "\n" not in fault.remedy for fault in caught.value.errors)
    return [(fault.pointer, fault.code) for fault in caught.value.errors]
