"""The newest units, or events, of a SQLite ledger, by keyed hash, in memory.

A hash is random, so a row in an index of millions dirties a page of its own: 4 KiB written for 30 bytes.
Here new units are only appended to `unit` (in order of arrival, a few to a page) and found in memory: the
newest in a dictionary, the rest in one sorted array of 24 bytes a unit. When the array is long enough it is
merged into `unit_key` in key order, many rows to a page, a slice at a time; `progress` then says how far.
What is in memory can always be read again from the rows of `unit` after that mark. Events are found in the
same way by their ids, in an index of their own and `event_by_key`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECENT_MAX = 1 << 14
"""Units in the dictionary: about 2 MB, and some milliseconds to sort into the array."""

Units = Iterable[tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class _Run:
    """Units sorted by hash: its two halves and the number, each an array of its own (n,)."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    unit_no: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.unit_no)


_EMPTY = _Run(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))


class KeyIndex:
    """Numbers of units not yet, or not surely, in their table; one index for all stores.

    A hash is keyed with its store's secret, so hashes of two stores are told apart like any two hashes.
    """

    def __init__(self, settle_at: int) -> None:
        """Merged are so many, when they have gathered in the array: 24 bytes each."""
        self._settle_at = settle_at
        self._recent: dict[bytes, int] = {}
        self._run = _EMPTY
        self._settling = _EMPTY

    def __len__(self) -> int:
        return len(self._recent) + len(self._run) + len(self._settling)

    def add(self, units: Units) -> None:
        """Add committed units."""
        self._recent.update(units)
        if len(self._recent) >= RECENT_MAX:
            self._run = _merged(self._run, _run_of(self._recent))
            self._recent = {}

    def find(self, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """The numbers of those that are here."""
        recent = self._recent
        found = {key: recent[key] for key in hashes if key in recent}
        for run in (self._run, self._settling):
            if len(run) and len(found) < len(hashes):
                found.update(_search(run, [key for key in hashes if key not in found]))
        return found

    def remove(self, hashes: Iterable[bytes]) -> None:
        """Forget units whose person is erased."""
        gone = list(hashes)
        for key in gone:
            self._recent.pop(key, None)
        self._run, self._settling = _without(self._run, gone), _without(self._settling, gone)

    @property
    def is_due(self) -> bool:
        """Whether there is enough to be merged into their table."""
        return len(self._run) + len(self._settling) >= self._settle_at

    def begin_settling(self) -> int:
        """Set the sorted units aside, still to be found, with those of a time that did not come to its end.

        Every unit up to the number returned is among them, or in their table, or gone.
        """
        self._settling, self._run = _merged(self._settling, self._run), _EMPTY
        newer = min(self._recent.values(), default=None)
        return int(self._settling.unit_no.max(initial=0)) if newer is None else newer - 1

    def settling(self, size: int) -> Iterator[list[tuple[bytes, int]]]:
        """The units set aside, in key order, in slices; those erased meanwhile are left out."""
        last: bytes | None = None
        while True:
            run = self._settling
            start = 0 if last is None else _place_after(run, last)
            hashes = _hashes(run, start, start + size)
            if not hashes:
                return
            yield list(zip(hashes, run.unit_no[start : start + size].tolist(), strict=True))
            last = hashes[-1]

    def end_settling(self) -> None:
        """Forget the units set aside: they are in `unit_key` now."""
        self._settling = _EMPTY


def _run_of(units: dict[bytes, int]) -> _Run:
    words = _words(list(units))
    return _sorted(words[:, 0], words[:, 1], np.fromiter(units.values(), np.int64, len(units)))


def _merged(a: _Run, b: _Run) -> _Run:
    """Two sorted runs as one; a sort of both would take ten times as long."""
    places = np.searchsorted(a.high, b.high)
    high, low = np.insert(a.high, places, b.high), np.insert(a.low, places, b.low)
    unit_no = np.insert(a.unit_no, places, b.unit_no)
    if np.any(high[1:] == high[:-1]):  # two hashes that begin alike: put them in order by all of it
        return _sorted(high, low, unit_no)
    return _Run(high, low, unit_no)


def _sorted(high: NDArray[np.uint64], low: NDArray[np.uint64], unit_no: NDArray[np.int64]) -> _Run:
    order = np.lexsort((low, high))
    return _Run(high[order], low[order], unit_no[order])


def _words(hashes: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64).reshape(-1, 2)


def _hashes(run: _Run, start: int, stop: int) -> list[bytes]:
    raw = np.stack([run.high[start:stop], run.low[start:stop]], axis=1).astype(">u8").tobytes()
    return [raw[i : i + 16] for i in range(0, len(raw), 16)]


def _search(run: _Run, hashes: Sequence[bytes]) -> dict[bytes, int]:
    words = _words(hashes)
    high, low = words[:, 0], words[:, 1]
    places = np.searchsorted(run.high, high)
    near = np.minimum(places, len(run) - 1)
    alike = run.high[near] == high
    if not alike.any():  # nobody has been here before, as nearly always
        return {}
    hits = alike & (run.low[near] == low)
    numbers = run.unit_no[near[hits]].tolist()
    found = {hashes[i]: number for i, number in zip(np.flatnonzero(hits).tolist(), numbers, strict=True)}
    for index in np.flatnonzero(alike & ~hits).tolist():  # another hash begins like this one
        place = _place(run, int(places[index]), int(high[index]), int(low[index]))
        if place is not None:
            found[hashes[index]] = int(run.unit_no[place])
    return found


def _place(run: _Run, place: int, high: int, low: int) -> int | None:
    """Where the hash stands, among those of the same first half from `place` on."""
    while place < len(run) and int(run.high[place]) == high:
        if int(run.low[place]) == low:
            return place
        place += 1
    return None


def _place_after(run: _Run, key: bytes) -> int:
    high, low = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
    place = int(np.searchsorted(run.high, np.uint64(high)))
    while place < len(run) and int(run.high[place]) == high and int(run.low[place]) <= low:
        place += 1
    return place


def _without(run: _Run, hashes: Sequence[bytes]) -> _Run:
    if not len(run) or not hashes:
        return run
    kept = ~np.isin(run.unit_no, list(_search(run, hashes).values()))
    return _Run(run.high[kept], run.low[kept], run.unit_no[kept])
