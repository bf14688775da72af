"""What a report costs by the units it is about: it reads cells, so it should not matter."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.servers import rialto
from benchmarks.wrk import BenchmarkFailed

UNITS = (10_000, 100_000)
REPORT = f"/v1/experiments/{shop.EXPERIMENT['key']}/report"


def reports(bench: Bench) -> dict[str, Any]:
    """Milliseconds of a report with everything folded, at ten and at a hundred thousand units with orders."""
    found: dict[str, Any] = {}
    with bench.folder() as folder, rialto(folder, known=0) as server, server.http() as http:
        for units, before in zip(UNITS, (0, *UNITS), strict=False):
            ids = shop.known_units(units)[before:]
            shop.enrol(http, ids)
            for start in range(0, len(ids), shop.BATCH):
                orders = [_order(unit) for unit in ids[start : start + shop.BATCH : 10]]
                http.post("/v1/events", json={"events": orders}).raise_for_status()
            server.wait_until_folded()
            report = http.get(REPORT).raise_for_status().json()
            if report["units_assigned"] != units:
                raise BenchmarkFailed(f"{report['units_assigned']} units reported, {units} enrolled")
            times: list[float] = []
            for _ in range(bench.rounds):
                begin = time.perf_counter()
                http.get(REPORT).raise_for_status()
                times.append(1000 * (time.perf_counter() - begin))
            found[str(units)] = round(median(times), 1)
    return {"milliseconds": found}


def _order(unit: str) -> dict[str, Any]:
    return {
        "event_id": f"order-{unit}",
        "type": "order",
        "unit_id": unit,
        "order_id": f"order-{unit}",
        "amount": 8900 + int(unit[-3:]),
        "cost": 4000,
        "currency": "EUR",
    }
