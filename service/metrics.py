"""What the service counts and measures, for `/metrics` and for OpenTelemetry.

Counting is a look-up, a bisection and a few additions to a row of doubles (`series.py`). Each series is
counted up by one thread; reading them is safe from any. Routes are patterns and labels come from short
lists, never from callers' ids.

With several workers, counters and histograms are the sum over all of them whichever worker is scraped;
gauges carry the label `worker`, since the sum of a memory or of a queue hides the one that is in trouble.
"""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.answers import Answers
from service.exposition import Family, Labels, text_of
from service.series import Key, Row, rows_in
from service.settings import Settings

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COMMIT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LABELLED_MAX = 200
"""Samples of a labelled gauge at most, so that a thousand experiments do not make a thousand series."""
SILENT_S = 5.0
"""A worker that has not published its gauges for so long is gone, and so are they."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Reading = float | Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Kept:
    """A family kept in the row."""

    name: str
    help: str
    kind: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


REQUESTS = Kept(
    "rialto_requests_total", "Requests answered.", "counter", labels=("method", "route", "status")
)
REQUEST_SECONDS = Kept(
    "rialto_request_seconds", "Time to answer a request.", "histogram", ("method", "route"), SECONDS
)
BATCH_SIZE = Kept("rialto_batch_size", "Requests committed together.", "histogram", (), SIZES)
COMMIT = Kept("rialto_commit_seconds", "Time of a COMMIT.", "histogram", (), COMMIT_SECONDS)
FALLBACKS = Kept(
    "rialto_fallbacks_total", "Assign requests answered without the ledger.", "counter", ("reason",)
)
_SEEN: Key = ("seen",)


class Metrics:
    """The metrics of one process, and the way to those of its fellow workers."""

    def __init__(self, folder: Path | None = None, worker: int = 0) -> None:
        self.answers = Answers()
        self._folder, self._worker = folder, worker
        self._row = Row(folder, worker)
        self._values = self._row.values
        self._families = {f.name: f for f in (REQUESTS, REQUEST_SECONDS, BATCH_SIZE, COMMIT, FALLBACKS)}
        self._requests: dict[tuple[str, str, int], tuple[int, int]] = {}
        self._fallbacks: dict[str, int] = {}
        self._batch = self._row.place((BATCH_SIZE.name,), len(SIZES) + 2)
        self._commit = self._row.place((COMMIT.name,), len(COMMIT_SECONDS) + 2)
        self._gauges: dict[str, Callable[[], Reading]] = {}
        self._counters: dict[str, tuple[Callable[[], float], float]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        try:
            count, first = self._requests[method, route, status]
        except KeyError:
            count, first = self._new_request(method, route, status)
        values = self._values
        values[count] += 1.0
        values[first + bisect_left(SECONDS, seconds)] += 1.0
        values[first + len(SECONDS) + 1] += seconds

    def observe_batch(self, size: int) -> None:
        """Count requests that are committed together."""
        values, first = self._values, self._batch
        values[first + bisect_left(SIZES, size)] += 1.0
        values[first + len(SIZES) + 1] += size

    def observe_commit(self, seconds: float) -> None:
        """Count one COMMIT."""
        values, first = self._values, self._commit
        values[first + bisect_left(COMMIT_SECONDS, seconds)] += 1.0
        values[first + len(COMMIT_SECONDS) + 1] += seconds

    def count_fallback(self, reason: str) -> None:
        """Count an assign request answered with `stale`, `overloaded` or `fallback`."""
        place = self._fallbacks.get(reason)
        if place is None:
            place = self._fallbacks[reason] = self._row.place((FALLBACKS.name, reason))
        self._values[place] += 1.0

    def gauge(
        self, name: str, text: str, read: Callable[[], Reading], *, labels: tuple[str, ...] = ()
    ) -> None:
        """Show what `read` gives: a number, or with `labels` a number for each set of their values."""
        self._families[name] = Kept(name, text, "gauge", labels)
        self._gauges[name] = read

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show a count that is kept elsewhere and begins at 0 with the process."""
        self._families[name] = Kept(name, text, "counter")
        before = self._values[self._row.place((name,))]  # a predecessor's, the first time
        self._counters[name] = (read, self._counters.get(name, (read, before))[1])

    def publish(self) -> None:
        """Put what gauges and counters read into the row; workers that share a folder do so every second."""
        values, place = self._values, self._row.place
        for name, (read_count, before) in self._counters.items():
            values[place((name,))] = before + read_count()
        for name, read in self._gauges.items():
            reading = read()
            found = list(reading.items()) if isinstance(reading, Mapping) else [((), reading)]
            shown = {(name, *labels): number for labels, number in found[:LABELLED_MAX]}
            for key in self._row.keys_of(name):
                if key not in shown:
                    values[place(key)] = math.nan
            for key, number in shown.items():
                values[place(key)] = number
        values[place(_SEEN)] = time.time()

    def families(self) -> list[Family]:
        """Everything as it stands now, of all workers."""
        self.publish()
        rows = [(self._worker, self._row.series())] if self._folder is None else rows_in(self._folder)
        return self._merged(list(rows))

    def own_families(self) -> list[Family]:
        """Everything of this process alone: what it exports itself."""
        self.publish()
        return self._merged([(self._worker, self._row.series())])

    def described(self) -> list[Kept]:
        """What can be shown, whether it has values yet or not."""
        return list(self._families.values())

    def exposition(self, more: Iterable[Family] = ()) -> str:
        """The text Prometheus reads, with what others have found out."""
        return text_of([*self.families(), *more])

    def _new_request(self, method: str, route: str, status: int) -> tuple[int, int]:
        known = method if method in METHODS else "other"
        count = self._row.place((REQUESTS.name, known, route, str(status)))
        first = self._row.place((REQUEST_SECONDS.name, known, route), len(SECONDS) + 2)
        self._requests[method, route, status] = count, first
        return count, first

    def _merged(self, rows: Sequence[tuple[int, Mapping[Key, list[float]]]]) -> list[Family]:
        merged: dict[str, dict[Labels, list[float]]] = {name: {} for name in self._families}
        now = time.time()
        for worker, series in rows:
            is_silent = now - series.get(_SEEN, [0.0])[0] > SILENT_S
            for (name, *texts), numbers in series.items():
                if name not in merged:
                    continue
                family = self._families[name]
                labels: Labels = tuple(zip(family.labels, texts, strict=True))
                if family.kind != "gauge":
                    before = merged[name].get(labels, [0.0] * len(numbers))
                    merged[name][labels] = [a + b for a, b in zip(before, numbers, strict=True)]
                elif not is_silent and not math.isnan(numbers[0]):
                    shared = () if self._folder is None else (("worker", str(worker)),)
                    merged[name][(*labels, *shared)] = numbers
        return [
            Family(f.name, f.help, f.kind, merged[f.name], f.bounds)
            for f in self._families.values()
            if merged[f.name]
        ]


def metrics_of(settings: Settings) -> Metrics:
    """The metrics of a process that runs with these settings: one for the whole of it."""
    return Metrics(Path(settings.metrics_dir) if settings.metrics_dir else None, settings.worker_no)


def show_process(metrics: Metrics) -> None:
    """Register what the operating system knows of this process, under Prometheus' usual names."""
    started = time.time()
    metrics.gauge("process_start_time_seconds", "Start of the process, Unix time.", lambda: started)
    metrics.counter("process_cpu_seconds_total", "User and system CPU time.", time.process_time)
    if _STATM.exists():
        metrics.gauge("process_resident_memory_bytes", "Resident memory.", _resident_bytes)
        metrics.gauge("process_open_fds", "Open files and sockets.", lambda: len(os.listdir("/proc/self/fd")))


_STATM = Path("/proc/self/statm")


def _resident_bytes() -> float:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
