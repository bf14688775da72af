"""Who a row is about, and which half of a split that unit falls into."""

from collections.abc import Mapping
from hashlib import blake2b

from sim.replay.errors import BadFile
from sim.replay.mapping import ReplayMapping
from sim.replay.source import Row
from sim.replay.values import parse_id


def unit_of(row: Row, mapping: ReplayMapping) -> str:
    """The id of the row's unit; one from a second column is prefixed by that column's name."""
    columns = mapping.unit.columns
    if not columns:
        return f"{mapping.unit.row_prefix}{row.number}"
    for place, column in enumerate(columns):
        cell = row.values[column].strip()
        if cell:
            return parse_id(f"{column}:{cell}" if place else cell, "the unit's id", row.number)
    raise BadFile(f"no unit: column {', '.join(columns)} is empty", row.number)


def split_variant(unit: str, shares: Mapping[str, float]) -> str:
    """A variant by a hash of the unit's id alone, so that every store gives it the same one.

    >>> split_variant("12346", {"a": 0.5, "b": 0.5})
    'b'
    """
    digest = blake2b(unit.encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "big") / 2**64
    for variant, share in shares.items():
        point -= share
        if point < 0:
            return variant
    return list(shares)[-1]
