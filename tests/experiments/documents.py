"""Documents to test with, and how to break them."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

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


def pointers(value: Json, pointer: str = "") -> list[str]:
    """Of every value inside a document."""
    if isinstance(value, dict):
        children = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list):
        children = [(str(index), child) for index, child in enumerate(value)]
    else:
        children = []
    found = [pointer] if pointer else []
    return found + [one for token, child in children for one in pointers(child, f"{pointer}/{token}")]
