"""`manifest.json`: what a directory of Parquet holds, each file with its count and checksum."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from service.archive.duck import ArchiveUnusable
from service.archive.places import pending, settle
from service.archive.records import SCHEMA_VERSION

NAME = "manifest.json"


class Kind(StrEnum):
    """An export is a copy of closed days; an archive holds events that are in no ledger any more."""

    EXPORT = "export"
    ARCHIVE = "archive"


@dataclass(slots=True)
class FileEntry:
    """What proves a file."""

    rows: int
    checksum: str  # BLAKE2b-256 of the records, in hexadecimal
    partition: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class StoreEntry:
    """A store, and the time zone its days were cut in."""

    time_zone: str
    closed_through: str | None = None


@dataclass(slots=True)
class Manifest:
    """Everything a directory holds."""

    kind: Kind
    schema_version: int = SCHEMA_VERSION
    format: Literal["rialto"] = "rialto"
    stores: dict[str, StoreEntry] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)  # by their path below the manifest


def load(root: Path, kind: Kind) -> Manifest:
    """The manifest of a directory, or a new one. Raises when it is one of another kind."""
    path = root / NAME
    if not path.exists():
        return Manifest(kind)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise ArchiveUnusable(f"{path} cannot be read ({error}): use another --out") from error
    if found.kind is not kind:
        raise ArchiveUnusable(f"{root} holds an {found.kind}: give --out a directory of its own")
    if found.schema_version != SCHEMA_VERSION:
        raise ArchiveUnusable(
            f"{root} was written in version {found.schema_version} of the format, this is {SCHEMA_VERSION}: "
            "use another --out"
        )
    return found


def save(root: Path, manifest: Manifest) -> None:
    """Write the manifest whole, or leave the old one."""
    path = root / NAME
    manifest.files = dict(sorted(manifest.files.items()))
    pending(path).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    settle(path)
