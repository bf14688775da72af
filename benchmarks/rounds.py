"""Rounds: each path between two runs of doing nothing, so that a ratio is of neighbours in time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.wrk import Answers, total


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: what was done in it, how long it took, and the CPU of the server's own process meanwhile."""

    items: int
    seconds: float
    cpu_s: float
    answers: Answers
    beside_cpu_s: float = 0.0  # of processes it started (the folder), and of a database server

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU (user and system) per item."""
        return 1e6 * self.cpu_s / self.items


@dataclass(slots=True)
class Series:
    """The runs of one path, and the runs of nothing before and after each."""

    samples: list[Sample] = field(default_factory=list)
    before: list[Sample] = field(default_factory=list)
    after: list[Sample] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """The path's rate over that of its two neighbours, each round."""
        around = zip(self.before, self.after, strict=True)
        return [
            sample.rate / mean(before.rate, after.rate)
            for sample, (before, after) in zip(self.samples, around, strict=True)
        ]

    @property
    def cpu_ratios(self) -> list[float]:
        """What nothing costs in CPU over what an item of the path costs, each round: above 1 is cheaper."""
        around = zip(self.before, self.after, strict=True)
        return [
            mean(before.cpu_us, after.cpu_us) / sample.cpu_us
            for sample, (before, after) in zip(self.samples, around, strict=True)
        ]

    def as_row(self) -> dict[str, Any]:
        """What the page and the results keep."""
        last = [sample.answers for sample in self.samples]
        return {
            "rates": [round(sample.rate, 1) for sample in self.samples],
            "nothing_rates": [
                round(mean(b.rate, a.rate), 1) for b, a in zip(self.before, self.after, strict=True)
            ],
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "cpu_ratios": [round(ratio, 4) for ratio in self.cpu_ratios],
            "cpu_us": round(median(sample.cpu_us for sample in self.samples), 1),
            "beside_cpu_us": round(
                median(1e6 * sample.beside_cpu_s / sample.items for sample in self.samples), 1
            ),
            "latency_ms": {
                name: round(median(answers.latency_us[name] for answers in last) / 1000, 2)
                for name in last[0].latency_us
            },
            "answers": dict(total(last)),
        }


def mean(*values: float) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of all values do not exceed (nearest rank).

    >>> percentile([4, 1, 3, 2], 0.5)
    2
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def alternate(
    nothing: Callable[[], Sample], paths: Mapping[str, Callable[[], Sample]], rounds: int
) -> dict[str, Series]:
    """Nothing, a path, nothing, the next path ...: every path as often as there are rounds."""
    series = {name: Series() for name in paths}
    before = nothing()
    for _ in range(rounds):
        for name, path in paths.items():
            sample = path()
            after = nothing()
            series[name].samples.append(sample)
            series[name].before.append(before)
            series[name].after.append(after)
            before = after
    return series


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, its threads included."""
    return _ticks(pid, 11, 13)


def cpu_seconds_of_all(pid: int) -> float:
    """The same with the processes it has started, those that have ended included."""
    seconds = _ticks(pid, 11, 15)
    for child in _children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            seconds += cpu_seconds_of_all(child)
    return seconds


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f"{pid} has no memory")


def resident_mb_beside(pid: int) -> float:
    """Resident memory of the processes it has started."""
    return sum(resident_mb(child) for child in _children(pid))


def _ticks(pid: int, first: int, end: int) -> float:
    """Seconds of utime, stime, and of ended children cutime, cstime: fields 11 to 14 after the name."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(") ")[2].split()
    return sum(map(int, fields[first:end])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    """Processes that any thread of this one has started and that run."""
    children: list[int] = []
    for found in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            children += map(int, found.read_text("ascii").split())
    return children
