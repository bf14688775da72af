"""What the studies found, as a file beside the report: figures by part and world, and of which code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from sim.calibration.part import Part, Rows


@dataclass(frozen=True, slots=True)
class Made:
    """How figures were made: from which code, with which seed and how many runs.

    `code` is the fingerprint of what they hang on; a commit may be unknown, or say nothing of changed files.
    """

    runs: int
    seed: int
    version: str
    commit: str
    code: str

    def gives_the_same_as(self, other: Made) -> bool:
        """Whether the figures of both are equal."""
        return (self.runs, self.seed, self.code) == (other.runs, other.seed, other.code)


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows of one world."""

    made: Made
    seconds: float
    rows: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """By part and world."""

    parts: Mapping[str, Mapping[str, Measured]]

    def with_world(self, part: Part, world: str, found: Measured) -> Results:
        """These, and the rows of one more world; worlds stay in the part's order."""
        worlds = {**self.parts.get(part.key, {}), world: found}
        ordered = {name: worlds[name] for name in part.worlds if name in worlds}
        return replace(self, parts={**self.parts, part.key: ordered})

    def rows(self, part: Part) -> Rows:
        """The rows of a part by world."""
        return {world: found.rows for world, found in self.parts.get(part.key, {}).items()}


class Unreadable(Exception):
    """A file that holds no results, or those of another version."""


def load(path: Path, parts: Mapping[str, Part]) -> Results:
    """What stands in the file; nothing if there is none. Worlds that are no more are left out."""
    if not path.exists():
        return Results({})
    try:
        said = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, dict[str, Any]]])
        return Results(
            {
                key: {world: _measured(found, parts[key]) for world, found in worlds.items()}
                for key, worlds in said.items()
                if key in parts and worlds.keys() <= parts[key].worlds.keys()
            }
        )
    except (msgspec.MsgspecError, KeyError) as error:
        raise Unreadable(f"{path} holds no results of this version: {error}") from error


def _measured(found: Mapping[str, Any], part: Part) -> Measured:
    rows = tuple(msgspec.convert(row, part.row) for row in found["rows"])
    return Measured(msgspec.convert(found["made"], Made), float(found["seconds"]), rows)


def dump(results: Results) -> str:
    """As JSON, a line for each world."""
    plain = msgspec.to_builtins(results.parts)
    parts = [
        f"{json.dumps(key)}: {{\n"
        + ",\n".join(f"{json.dumps(world)}: {json.dumps(found)}" for world, found in worlds.items())
        + "\n}"
        for key, worlds in plain.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"
