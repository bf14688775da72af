"""Files of an archive or an export: where each partition lies, written whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from service.archive.duck import ArchiveUnusable

PENDING = ".pending"
"""The end of a file's name while it is written: no reader of *.parquet takes it for one."""

LEVELS = 5
"""Folders from a partition's up to the root."""


class Partition(NamedTuple):
    """One day of one experiment of one store."""

    dataset: str  # events or assignments
    store: str
    experiment: str
    day: str

    def folder(self) -> Path:
        """Where its files lie, in the way of Hive; a value can never lead out of its folder."""
        parts = (("store", self.store), ("experiment", self.experiment), ("day", self.day))
        return Path(self.dataset, *(f"{name}={_value(value)}" for name, value in parts))


def _value(text: str) -> str:
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


@contextmanager
def held(root: Path) -> Generator[None]:
    """The right to write below a directory; one process at a time has it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / ".lock").open("w")
    except OSError as error:
        raise ArchiveUnusable(f"--out {root}: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArchiveUnusable(
                f"another command is writing {root}: wait for it, or use another --out"
            ) from error
        yield


def pending(path: Path) -> Path:
    """The name a file is written under before it is `settle`d."""
    return path.with_name(path.name + PENDING)


def settle(path: Path) -> None:
    """Put a pending file on disk and give it its name: after a crash it is there whole, or not at all."""
    sync(path)
    name(path)


def sync(path: Path) -> None:
    """Put a pending file on disk."""
    with pending(path).open("rb") as written:
        os.fsync(written.fileno())
    for folder in path.parents[:LEVELS]:  # each may be new
        _sync_folder(folder)


def name(path: Path) -> None:
    """Give a file that is on disk its name."""
    os.replace(pending(path), path)
    _sync_folder(path.parent)


def rescue(path: Path) -> None:
    """Name a file whose writer was killed when all but that was done."""
    if not path.exists() and pending(path).exists():
        name(path)


def file_hash(path: Path) -> bytes:
    """BLAKE2b-256 of a file as it lies on disk."""
    found = blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.digest()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
