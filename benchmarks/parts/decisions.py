"""Decisions and events a second on a SQLite file or on PostgreSQL, against doing nothing."""

from __future__ import annotations

from typing import Any

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.databases import postgres
from benchmarks.rounds import Series, alternate
from benchmarks.servers import Rialto, rialto
from benchmarks.wrk import BenchmarkFailed, Load

BODIES = {1: 64, 100: 16, 1000: 8}
"""Connections by events per body, as many as keep the queue filled."""


def assign(bench: Bench) -> dict[str, Any]:
    """Assign on SQLite: a new unit, a known one, the naive way; and a lone caller of each."""
    with bench.folder() as folder, rialto(folder) as server:
        new, known = _loads(server)
        naive = shop.naive(server.browser)
        series = _rounds(bench, server, {"new": new, "known": known, "naive": naive})
        lone = _lone(bench, server, {"nothing": shop.nothing(server.browser), "new": new, "known": known})
        return {"paths": _rows(series), "lone": lone, "ledger": server.check_ledger()}


def events(bench: Bench) -> dict[str, Any]:
    """Events on SQLite: a storefront's mix by size of body, and orders alone."""
    with bench.folder() as folder, rialto(folder) as server:
        return _events(bench, server, {"orders_1": (1, ["order"]), "orders_1000": (1000, ["order"])})


def on_postgres(bench: Bench) -> dict[str, Any]:
    """Assign and events on a PostgreSQL server of our own, with synchronous_commit on."""
    with postgres() as database:
        with bench.folder() as folder, rialto(folder, database.new_database()) as server:
            server.database_cpu = database.cpu_seconds
            new, known = _loads(server)
            series = _rounds(bench, server, {"new": new, "known": known})
            rows: dict[str, Any] = {"paths": _rows(series), "ledger": server.check_ledger()}
        with bench.folder() as folder, rialto(folder, database.new_database()) as server:
            server.database_cpu = database.cpu_seconds
            found = _events(bench, server, {})
            rows["paths"] |= found["paths"]
            rows["ledger"] |= {"event": found["ledger"]["event"]}
        rows["server"] = database.version()
    return rows


def _loads(server: Rialto) -> tuple[Load, Load]:
    return shop.assign(server.browser), shop.assign(server.browser, "<unit>", shop.known_units())


def _events(bench: Bench, server: Rialto, more: dict[str, tuple[int, list[str]]]) -> dict[str, Any]:
    units = shop.known_units()
    wanted = {f"events_{size}": (size, shop.MIX) for size in BODIES} | more
    loads = {
        name: shop.events(server.backend, size, units, server.decisions, mix)
        for name, (size, mix) in wanted.items()
    }
    series = _rounds(bench, server, loads, {name: BODIES[size] for name, (size, _) in wanted.items()})
    _check_idempotence(server)
    return {"paths": _rows(series), "ledger": server.check_ledger()}


def _check_idempotence(server: Rialto) -> None:
    """Send a body twice: every event of the second is a duplicate, and the ledger is as it was."""
    unit = shop.known_units(1)[0]
    body = {
        "events": [
            {"event_id": f"twice-{n}", "type": "product_view", "unit_id": unit, "sku": "SHOE-1"}
            for n in range(100)
        ]
    }
    with server.http() as http:
        first, second = (http.post("/v1/events", json=body).raise_for_status().json() for _ in range(2))
    if (first["accepted"], second["accepted"], second["duplicates"]) != (100, 0, 100):
        raise BenchmarkFailed(f"the same 100 events twice: {first}, then {second}")
    server.by_hand += 100


def _rounds(
    bench: Bench, server: Rialto, loads: dict[str, Load], connections: dict[str, int] | None = None
) -> dict[str, Series]:
    by_name = connections or {}

    def path(name: str) -> Any:
        wide = by_name.get(name, 64)
        # Lists leave the folder much to do before nothing can be measured again: half the time is enough.
        seconds = bench.seconds if loads[name].per_body == 1 else bench.seconds / 2
        return lambda: server.measure(loads[name], seconds, connections=wide)

    nothing = lambda: server.nothing(bench.nothing_seconds)  # noqa: E731 - two lines would say no more
    nothing()  # the first run of a process also imports and compiles
    for name in loads:
        server.measure(loads[name], 0.3, connections=by_name.get(name, 64))
    return alternate(nothing, {name: path(name) for name in loads}, bench.rounds)


def _rows(series: dict[str, Series]) -> dict[str, Any]:
    return {name: found.as_row() for name, found in series.items()}


def _lone(bench: Bench, server: Rialto, loads: dict[str, Load]) -> dict[str, Any]:
    """One caller who waits for each answer: latency in milliseconds, the median of the rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in loads}
    for _ in range(bench.rounds):
        for name, load in loads.items():
            server.wait_until_folded()
            sample = server.measure(load, bench.nothing_seconds, connections=1)
            found[name].append(dict(sample.answers.latency_us))
    return {
        name: {p: round(sorted(run[p] for run in runs)[len(runs) // 2] / 1000, 3) for p in ("p50", "p99")}
        for name, runs in found.items()
    }
