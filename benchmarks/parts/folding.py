"""Whether the folder keeps up with events that come as fast as they are taken."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.databases import counts, newest_mark
from benchmarks.rounds import Sample, cpu_seconds_of_all
from benchmarks.servers import Rialto, rialto
from benchmarks.wrk import Load

PER_BODY = 100
CONNECTIONS = 16
LONGER = 3
"""How many times as long events are taken in the long rounds: the more wait, the less one costs to fold."""


def folding(bench: Bench) -> dict[str, Any]:
    """Drive bodies of 100 at saturation, then let the folder work off what waits.

    The folder works while events come too. What it costs is taken from the time it has the process to itself:
    CPU per event folded there, and the rest of all CPU is what an event costs to take.
    """
    found: dict[int, list[dict[str, float]]] = {1: [], LONGER: []}
    with bench.folder() as folder, rialto(folder) as server:
        load = shop.events(server.backend, PER_BODY, shop.known_units(), server.decisions)
        marks = _Marks(server)
        marks.wait_after(server.measure(load, 0.5, connections=CONNECTIONS))
        for _ in range(bench.rounds):
            for times, rounds in found.items():
                rounds.append(_round(server, load, marks, times * bench.seconds))
        ledger = server.check_ledger()
    behind = [
        {"seconds": times * bench.seconds, "rounds": rounds, **_medians(rounds)}
        for times, rounds in found.items()
    ]
    return {"behind": behind, "ledger": ledger}


def _round(server: Rialto, load: Load, marks: _Marks, seconds: float) -> dict[str, float]:
    cpu_before = cpu_seconds_of_all(server.pid)
    sample = server.measure(load, seconds, connections=CONNECTIONS)
    cpu_taken, start = cpu_seconds_of_all(server.pid), time.perf_counter()
    waiting = marks.wait_after(sample)
    return fold_figures(
        events=sample.items,
        ingest_s=sample.seconds,
        waiting=waiting,
        drain_s=time.perf_counter() - start,
        drain_cpu_s=cpu_seconds_of_all(server.pid) - cpu_taken,
        cpu_s=cpu_seconds_of_all(server.pid) - cpu_before,
    )


def fold_figures(
    *, events: int, ingest_s: float, waiting: float, drain_s: float, drain_cpu_s: float, cpu_s: float
) -> dict[str, float]:
    """Rates of taking and of folding, and what each costs an event in CPU.

    So many of the events were `waiting` when the last had been taken, and were folded in `drain_s` seconds
    with `drain_cpu_s` of CPU; `cpu_s` is all CPU from the first event taken to the last one folded.
    """
    found = {"ingest_per_s": events / ingest_s, "share_waiting": waiting / events}
    if waiting < 1 or drain_cpu_s <= 0:
        return found  # the folder kept up: what it costs alone was not to be seen
    fold_cpu_us = 1e6 * drain_cpu_s / waiting
    ingest_cpu_us = max(1e6 * cpu_s / events - fold_cpu_us, 0.0)
    return found | {
        "fold_per_s": waiting / drain_s,
        "rate_ratio": waiting / drain_s / (events / ingest_s),
        "fold_cpu_us": fold_cpu_us,
        "ingest_cpu_us": ingest_cpu_us,
        "cpu_ratio": ingest_cpu_us / fold_cpu_us,
    }


class _Marks:
    """How many events wait: from the marks that wait, and how many marks an event leaves."""

    def __init__(self, server: Rialto) -> None:
        self._server = server
        self._newest = 0
        self._events = 0  # since that mark was the newest

    def wait_after(self, sample: Sample) -> float:
        """The events that waited now, once they are folded."""
        newest = newest_mark(self._server.database_url)
        waiting = counts(self._server.database_url)["mark"]
        self._events += sample.items
        self._server.wait_until_folded()
        if not newest:
            return 0.0
        per_event = (newest - self._newest) / self._events
        self._newest, self._events = newest, 0
        return min(waiting / per_event, float(sample.items))


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    names = {name for found in rounds for name in found}
    return {name: median(found[name] for found in rounds if name in found) for name in sorted(names)}
