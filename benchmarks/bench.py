"""What every part of the benchmarks is given: where to write, how long to measure."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bench:
    """The settings of one run."""

    work: Path  # ledgers are made here, on the disk to be measured; programs installed here stay
    rounds: int = 5
    seconds: float = 3.0
    nothing_seconds: float = 2.0
    growth_rows: int = 5_000_000
    memory_units: int = 1_000_000

    @contextmanager
    def folder(self) -> Generator[Path]:
        """A folder for one ledger, removed in the end."""
        with tempfile.TemporaryDirectory(dir=self.work, prefix="run-") as name:
            yield Path(name)
