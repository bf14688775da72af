"""A row of doubles with a key for each stretch of it: in memory, or in files that other processes read.

With several workers every worker writes a row of its own in one folder, and whoever is scraped adds the
rows up. The values are mapped memory, so a count costs an addition and no system call; the keys are lines
appended once per new series. A worker that is started again goes on with its predecessor's row, so that
no count ever falls.
"""

from __future__ import annotations

import json
import mmap
import threading
from collections.abc import Iterator
from pathlib import Path

Key = tuple[str, ...]

CAPACITY = 1 << 15
WIDTH_MAX = 64
_BYTES = 8 * CAPACITY
_SCRAP = CAPACITY - WIDTH_MAX
"""Where a series beyond the capacity is written: better a count lost than a request."""


class Row:
    """A process's values; `values[place]` is read and written as it is."""

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        self._lock = threading.Lock()
        self._places: dict[Key, int] = {}
        self._widths: dict[Key, int] = {}
        self._end = 0
        self._keys_file: Path | None = None
        if folder is None:
            self.values = memoryview(bytearray(_BYTES)).cast("d")
            return
        with open(folder / f"{number}.values", "a+b") as file:
            file.truncate(_BYTES)
            self.values = memoryview(mmap.mmap(file.fileno(), _BYTES)).cast("d")
        self._keys_file = folder / f"{number}.keys"
        for place, width, key in _keys_in(self._keys_file):
            self._places[key], self._widths[key] = place, width
            self._end = max(self._end, place + width)

    def place(self, key: Key, width: int = 1) -> int:
        """Where the series of that key begins; it is made when there is none."""
        with self._lock:
            found = self._places.get(key)
            if found is not None:
                return found
            if self._end + width > _SCRAP:
                return _SCRAP
            place, self._end = self._end, self._end + width
            self._places[key], self._widths[key] = place, width
            if self._keys_file is not None:
                with open(self._keys_file, "a", encoding="utf-8") as file:
                    file.write(json.dumps([place, width, *key]) + "\n")
            return place

    def keys_of(self, name: str) -> list[Key]:
        """The series whose key begins with that name."""
        with self._lock:
            return [key for key in self._places if key[0] == name]

    def series(self) -> dict[Key, list[float]]:
        """Every series as it stands now."""
        with self._lock:
            return {key: _floats(self.values, p, self._widths[key]) for key, p in self._places.items()}


def rows_in(folder: Path) -> Iterator[tuple[int, dict[Key, list[float]]]]:
    """The rows of all workers as they stand now: each worker's number and its series."""
    for keys_file in sorted(folder.glob("*.keys"), key=lambda file: int(file.stem)):
        values = memoryview(keys_file.with_suffix(".values").read_bytes()).cast("d")
        found = {key: _floats(values, place, width) for place, width, key in _keys_in(keys_file)}
        yield int(keys_file.stem), found


def _floats(values: memoryview[float], place: int, width: int) -> list[float]:
    return [float(value) for value in values[place : place + width]]


def _keys_in(file: Path) -> Iterator[tuple[int, int, Key]]:
    if not file.exists():
        return
    *lines, _being_written = file.read_text("utf-8").split("\n")
    for line in lines:
        place, width, *key = json.loads(line)
        yield place, width, tuple(key)
