"""Latency at half of saturation, at a constant rate: assign's p99 without the disk's, over nothing's."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.machine import fdatasync_ms, sync_summary
from benchmarks.open_loop import measure
from benchmarks.servers import Rialto, rialto
from benchmarks.wrk import BenchmarkFailed

SECONDS_MIN = 2.0  # of a run: a p99 needs some thousands of requests


def latency(bench: Bench) -> dict[str, Any]:
    """Find saturation, then send half of it: to nothing, which calibrates the generator, and to assign."""
    seconds = max(bench.seconds, SECONDS_MIN)
    rounds: list[dict[str, Any]] = []
    syncs: list[float] = []
    with bench.folder() as folder, rialto(folder) as server:
        load = shop.assign(server.browser)
        saturation = median(server.measure(load, bench.nothing_seconds).rate for _ in range(3))
        rate = saturation / 2
        for _ in range(bench.rounds):
            server.wait_until_folded()
            syncs += fdatasync_ms(folder)
            nothing = measure(server.port, _nothing(server), '"propensity":1.0', rate, seconds)
            server.wait_until_folded()
            assign = measure(server.port, _assign(server), '"reason":"assigned"', rate, seconds)
            for name, found in (("nothing", nothing), ("assign", assign)):
                if found["answered"] < found["requests"] or found["strange"] > found["requests"] / 100:
                    raise BenchmarkFailed(f"at half of saturation {name} answered {found}")
            rounds.append({"nothing": nothing, "assign": assign})
    sync = sync_summary(syncs)
    return {
        "rate": round(rate),
        "fdatasync": sync,
        "rounds": rounds,
        "ratios": [round(over_nothing(found, sync["p99_ms"]), 3) for found in rounds],
    }


def over_nothing(found: dict[str, Any], sync_p99_ms: float) -> float:
    """(p99 of assign - p99 of one fdatasync) / p99 of nothing."""
    return (found["assign"]["p99_ms"] - sync_p99_ms) / found["nothing"]["p99_ms"]


def _nothing(server: Rialto) -> dict[str, Any]:
    return {
        "path": "/nothing",
        "headers": dict(server.browser),
        "body": '{"touchpoint":"checkout","unit_id":"<new>"}',
    }


def _assign(server: Rialto) -> dict[str, Any]:
    context = json.dumps(shop.CONTEXT, separators=(",", ":"))
    body = f'{{"touchpoint":"checkout","unit_id":"<new>","context":{context}}}'
    return {"path": "/v1/assign", "headers": dict(server.browser), "body": body}
