"""How many assign requests of each store a process has answered, until the ledger is told."""

from __future__ import annotations

from collections.abc import Mapping

Counts = Mapping[int, tuple[int, int]]
"""By number of the store: answers, and how many of them were given without the ledger."""


class Answers:
    """The counts of a process; counted up by one thread, to be read from any."""

    def __init__(self) -> None:
        self._counts: dict[int, tuple[int, int]] = {}

    def count(self, store_no: int, answers: int = 1, fallbacks: int = 0) -> None:
        """Count answers, and those among them given without the ledger."""
        before, without = self._counts.get(store_no, (0, 0))
        self._counts[store_no] = before + answers, without + fallbacks

    def untold(self, store_no: int) -> tuple[int, int]:
        """What the ledger does not know yet of a store."""
        return self._counts.get(store_no, (0, 0))

    def pending(self) -> Counts:
        """What the ledger does not know yet."""
        return dict(self._counts)

    def told(self, counts: Counts) -> None:
        """The ledger knows these now; called by the thread that counts."""
        for store_no, (answers, fallbacks) in counts.items():
            before, without = self._counts.pop(store_no)
            if before > answers:
                self._counts[store_no] = before - answers, without - fallbacks
