"""A row of doubles with a key for each stretch of it: in memory, or in files that other processes read.

With several workers every worker writes a row of its own in one folder, and whoever is scraped adds the
rows up. The values are mapped memory, so a count costs an addition and no system call; the keys are lines
appended once per new series. A worker that is started again goes on with its predecessor's row, so that
no count ever falls.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

CAPACITY = 1 << 15
_BYTES = 8 * CAPACITY
SCRAP = 0
"""Where a series beyond the capacity is written: a count lost is better than a request lost."""

Key = tuple[str, ...]


class Row:
    """A process's values. `values[place]` is read and written as it is."""

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        self._places: dict[Key, int] = {}
        self._next = SCRAP + 1
        if folder is None:
            self.values = memoryview(bytearray(_BYTES)).cast("d")
            self._keys_file: Path | None = None
            return
        with open(folder / f"{number}.values", "a+b") as file:
            file.truncate(_BYTES)
            self.values = memoryview(mmap.mmap(file.fileno(), _BYTES)).cast("d")
        self._keys_file = folder / f"{number}.keys"
        for place, width, key in _read_keys(self._keys_file):
            self._places[key] = place
            self._next = max(self._next, place + width)

    def place(self, key: Key, width: int = 1) -> int:
        """Where the series of that key begins; it is made when there is none."""
        place = self._places.get(key)
        if place is not None:
            return place
        if self._next + width > CAPACITY - _WIDTH_MAX:
            return CAPACITY - _WIDTH_MAX
        place, self._next = self._next, self._next + width
        self._places[key] = place
        if self._keys_file is not None:
            line = json.dumps([place, width, list(key)]) + "\n"
            with open(self._keys_file, "a", encoding="utf-8") as file:
                file.write(line)
        return place

    def series(self) -> dict[Key, int]:
        """Every series and its place."""
        return dict(self._places)


_WIDTH_MAX = 64


def other_rows(folder: Path, number: int) -> Iterator[tuple[int, dict[Key, list[float]]]]:
    """The rows of the other workers as they stand now: each worker's number and its series."""
    for keys_file in sorted(folder.glob("*.keys")):
        other = int(keys_file.stem)
        if other == number:
            continue
        values = memoryview((folder / f"{other}.values").read_bytes()).cast("d")
        yield other, {key: list(values[p : p + width]) for p, width, key in _read_keys(keys_file)}


def _read_keys(file: Path) -> Iterator[tuple[int, int, Key]]:
    if not file.exists():
        return
    for line in file.read_text("utf-8").splitlines(keepends=True):
        if line.endswith("\n"):  # else it is being written at this moment
            place, width, key = json.loads(line)
            yield place, width, tuple(key)


__all__ = ["Key", "Row", "os", "other_rows"]
