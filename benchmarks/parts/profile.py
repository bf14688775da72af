"""Where the server's CPU goes, path by path: what stands beside a figure that falls short."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.databases import postgres
from benchmarks.peers.install import python_with_peers
from benchmarks.servers import Rialto, rialto
from benchmarks.wrk import BenchmarkFailed, Load

RATE = 200  # samples a second
TOP = 15
IDLE = re.compile(r"^(_worker|wait|select|EpollSelector\.select|Connection\.wait|Condition\.wait) \(")
"""Threads that wait for work or for a server, which py-spy takes for running."""


def profile(bench: Bench) -> dict[str, Any]:
    """Functions by the share of the process's own CPU, on SQLite, and on PostgreSQL when it can be had."""
    py_spy = python_with_peers(bench.work).with_name("py-spy")
    with bench.folder() as folder, rialto(folder) as server:
        found = {
            f"sqlite {name}": _watch(bench, py_spy, server, *load) for name, load in _loads(server).items()
        }
        found["sqlite folding"] = _watch_folding(bench, py_spy, server)
    try:
        with (
            postgres() as database,
            bench.folder() as folder,
            rialto(folder, database.new_database()) as server,
        ):
            loads = _loads(server)
            found |= {
                f"postgres {name}": _watch(bench, py_spy, server, *load) for name, load in loads.items()
            }
    except BenchmarkFailed as error:
        found["postgres"] = {"failed": str(error)}
    return found


def _loads(server: Rialto) -> dict[str, tuple[Load, int]]:
    units = shop.known_units()
    return {
        "new": (shop.assign(server.browser), 64),
        "known": (shop.assign(server.browser, "<unit>", units), 64),
        "events_1": (shop.events(server.backend, 1, units, server.decisions), 64),
        "events_1000": (shop.events(server.backend, 1000, units, server.decisions), 8),
    }


def _watch(bench: Bench, py_spy: Path, server: Rialto, load: Load, connections: int) -> dict[str, Any]:
    """Drive the path, and take samples meanwhile."""
    server.wait_until_folded()
    seconds = max(bench.seconds, 2.0)
    driver = threading.Thread(
        target=server.measure, args=(load, seconds + 1), kwargs={"connections": connections}
    )
    driver.start()
    try:
        return _sampled(bench, py_spy, server, seconds)
    finally:
        driver.join()


def _watch_folding(bench: Bench, py_spy: Path, server: Rialto) -> dict[str, Any]:
    """Take samples while what is left of events in bodies of 100 is folded, and nothing else comes."""
    server.wait_until_folded()
    load = shop.events(server.backend, 100, shop.known_units(), server.decisions)
    server.measure(load, 2 * max(bench.seconds, 2.0), connections=16)
    return _sampled(bench, py_spy, server, max(bench.seconds, 2.0))


def _sampled(bench: Bench, py_spy: Path, server: Rialto, seconds: float) -> dict[str, Any]:
    """Samples of all threads that run, those of the folding process among them."""
    with bench.folder() as folder:
        raw = folder / "stacks.txt"
        command = [str(py_spy), "record", "-p", str(server.pid), "-d", f"{seconds:.0f}", "-r", str(RATE)]
        done = subprocess.run(
            [*command, "-s", "-F", "-f", "raw", "-o", str(raw)], capture_output=True, text=True
        )
        if not raw.exists():
            raise BenchmarkFailed(f"py-spy took no samples: {(done.stderr or done.stdout)[-300:]}")
        return summarised(raw.read_text("utf-8"))


def summarised(stacks: str) -> dict[str, Any]:
    """Shares of functions alone (`self`) and of packages, from lines of `frame;frame;frame count`."""
    alone: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        last = _short(stack.split(";")[-1])
        if not stack or IDLE.match(last):
            continue
        alone[last] += int(count)
        packages[_package(last)] += int(count)
    total = sum(alone.values()) or 1
    return {
        "samples": sum(alone.values()),
        "self": [[name, round(count / total, 3)] for name, count in alone.most_common(TOP)],
        "packages": [[name, round(count / total, 3)] for name, count in packages.most_common(8)],
    }


def _short(frame: str) -> str:
    """`function (package/file.py)`, without where on this machine the file is."""
    return re.sub(r"\(/\S*/(?:site-packages|lib/python[\d.]+)/", "(", re.sub(r":\d+\)$", ")", frame))


def _package(frame: str) -> str:
    found = re.search(r"\((?:\S*/)?(service|experiments|benchmarks)/", frame) or re.search(
        r"\(([\w.]+)/", frame
    )
    return found.group(1) if found else "python"
